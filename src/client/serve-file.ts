import { execFileSync } from "node:child_process"
import { existsSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { setTimeout as sleep } from "node:timers/promises"
import { z } from "zod"
import { errorCode } from "../core/error-code.ts"
import { systemProgram } from "../host/system-path.ts"
import { type Config, defaultPort } from "../settings/config.ts"
import { version } from "../settings/version.ts"

/** What a serve writes about itself into its state directory, and how an older one is ended. */

/** serve cuts its clients off after 2 s, then ends its controllers. */
export const endMs = 10_000

/**
 * `serve.json`: written once serve listens and removed at its end; one that was killed leaves it.
 * Older versions have fewer fields.
 */
const serveFileSchema = z.object({
  pid: z.int().min(2),
  url: z.url(),
  version: z.string(),
  codeRoot: z.string().optional(),
  configDirectory: z.string().optional(),
  /**
   * What it was told not to offer, as variables: whoever starts its successor may not know.
   */
  bounds: z.record(z.string(), z.string()).optional(),
  /** node and main.js. */
  entry: z.tuple([z.string(), z.string()]).optional(),
})
export type ServeFile = z.output<typeof serveFileSchema>
export const serveFilePath = (stateDirectory: string): string => join(stateDirectory, "serve.json")

/** Undefined when it is missing or cannot be read. */
export function readServeFile(stateDirectory: string): ServeFile | undefined {
  try {
    return serveFileSchema.safeParse(
      JSON.parse(readFileSync(serveFilePath(stateDirectory), "utf8")),
    ).data
  } catch {
    return undefined
  }
}

const versionPattern = /^(\d{1,9})\.(\d{1,9})\.(\d{1,9})(?:-([0-9A-Za-z.-]+))?(?:\+.*)?$/

/**
 * Order of versions as semver.org defines it (section 11): below 0 when `a` is the older one; 0
 * also when either is none.
 */
export function compareVersions(a: string, b: string): number {
  const [one, other] = [versionPattern.exec(a), versionPattern.exec(b)]
  if (!one || !other) return 0
  for (const at of [1, 2, 3]) if (one[at] !== other[at]) return Number(one[at]) - Number(other[at])
  const [mine, theirs] = [one[4], other[4]]
  if (mine === undefined || theirs === undefined)
    return Number(mine === undefined) - Number(theirs === undefined)
  const [left, right] = [mine.split("."), theirs.split(".")]
  for (const [at, word] of left.entries()) {
    const beside = right[at]
    if (beside === undefined) return 1
    if (word === beside) continue
    const numbers = [word, beside].map((text) => (/^\d+$/.test(text) ? Number(text) : undefined))
    const [x, y] = numbers
    if (x !== undefined && y !== undefined) return x - y
    // Numbers come before words.
    if (x !== undefined || y !== undefined) return x !== undefined ? -1 : 1
    return word < beside ? -1 : 1
  }
  return left.length - right.length
}
export const olderThanThis = (theirs: string | undefined): boolean =>
  theirs !== undefined && compareVersions(theirs, version) < 0

export function pidIsAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0)
  } catch (error) {
    return errorCode(error) === "EPERM"
  }
}

/** True for a process that runs `… serve`: a pid alone may by now be anybody's. */
function serves(pid: number): boolean {
  try {
    const words =
      process.platform === "linux"
        ? readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0")
        : execFileSync(systemProgram("ps"), ["-ww", "-o", "command=", "-p", String(pid)], {
            encoding: "utf8",
            timeout: 5000,
          }).split(/\s+/)
    return words.includes("serve")
  } catch {
    return false
  }
}

/**
 * Ends the serve of that version, which answers now, and waits for it. Returns its file, for its
 * successor; undefined when it cannot be told from another process, or has not ended within 10 s:
 * then it stays as it is.
 */
export async function endServe(
  { stateDirectory }: Config,
  answering: string,
): Promise<ServeFile | undefined> {
  const file = readServeFile(stateDirectory)
  if (!file || file.version !== answering || !serves(file.pid)) return undefined
  try {
    process.kill(file.pid, "SIGTERM")
  } catch {
    // It ended meanwhile, or is another user's.
  }
  const deadlineMs = performance.now() + endMs
  // A zombie has no command line.
  while (pidIsAlive(file.pid) && serves(file.pid)) {
    if (performance.now() > deadlineMs) return undefined
    await sleep(30)
  }
  return file
}

/** The settings of the former serve that its successor must keep: the fleet stays where it is. */
export const successorEnvironment = ({
  codeRoot,
  configDirectory,
  url,
  bounds,
}: ServeFile): NodeJS.ProcessEnv => {
  const { port } = new URL(url)
  return {
    ...(codeRoot !== undefined && { BLACKBOX5_CODE_ROOT: codeRoot }),
    ...(configDirectory !== undefined && { BLACKBOX5_CONFIG: configDirectory }),
    ...(port !== String(defaultPort) && { BLACKBOX5_PORT: port }),
    ...bounds,
  }
}

/**
 * node and main.js of a newer serve that was killed here: an agent of an older version starts that
 * one again, not its own.
 */
export function newerEntry({ stateDirectory }: Config): readonly [string, string] | undefined {
  const file = readServeFile(stateDirectory)
  return file?.entry &&
    compareVersions(version, file.version) < 0 &&
    file.entry.every((path) => existsSync(path))
    ? file.entry
    : undefined
}
