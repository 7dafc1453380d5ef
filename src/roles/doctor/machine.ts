import {
  accessSync,
  constants,
  existsSync,
  mkdtempSync,
  rmSync,
  statfsSync,
  statSync,
} from "node:fs"
import { createServer } from "node:net"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import { whoAnswers } from "../../client/find-serve.ts"
import { mainPath } from "../../client/program.ts"
import { olderThanThis, pidIsAlive, readServeFile } from "../../client/serve-file.ts"
import { clean, shellWord } from "../../core/view.ts"
import { programOutside } from "../../host/find-program.ts"
import { guard, nothingGuarded } from "../../host/guarded.ts"
import { probeIsolation, warningOf } from "../../host/isolation-probe.ts"
import { type Config, installationOf } from "../../settings/config.ts"
import type { Policy } from "../../settings/policy.ts"
import { version } from "../../settings/version.ts"
import { type Finding, fail, ok, runProgram, warn } from "./check.ts"
import { checkSocket } from "./socket.ts"

/** Checks what agents need of the machine. */

/** `warn` has room for a night of logs and work trees; below `fail`, the database may not grow. */
const freeBytes = { warn: 2 * 1024 ** 3, fail: 200 * 1024 ** 2 }

export async function checkGit(environment: NodeJS.ProcessEnv): Promise<Finding> {
  const { code, output } = await runProgram(programOutside("git"), ["--version"], environment)
  return code === 0
    ? ok("git", output)
    : fail("git", "git is not on the PATH.", "Install git. Agents commit their work with it.")
}

/**
 * Who will be the author of agents' commits. git itself is asked, because settings, variables and
 * the account's name all count. `directory`: a repository, whose own settings count too.
 */
export async function checkIdentity(
  environment: NodeJS.ProcessEnv,
  directory: string,
): Promise<Finding> {
  const next = 'git config --global user.name "…"; git config --global user.email "…"'
  const idents = await Promise.all(
    ["GIT_AUTHOR_IDENT", "GIT_COMMITTER_IDENT"].map((name) =>
      runProgram(programOutside("git"), ["-C", existing(directory), "var", name], environment),
    ),
  )
  const refused = idents.find(({ code }) => code !== 0)
  // git prints its advice first and the reason last.
  if (refused)
    return fail(
      "identity",
      `git would refuse every commit: ${refused.output
        .split("\n")
        .at(-1)
        ?.replace(/^fatal: /, "")}.`,
      next,
    )
  const [author = "", committer = ""] = idents.map(({ output }) =>
    output.replace(/ \d+ [+-]\d{4}$/, ""),
  )
  const name = author === committer ? author : `${author}, committed by ${committer}`
  const email = await runProgram(
    programOutside("git"),
    ["-C", existing(directory), "config", "user.email"],
    environment,
  )
  return email.code === 0 || environment.GIT_AUTHOR_EMAIL || environment.EMAIL
    ? ok("identity", `commits are by ${name}`)
    : warn("identity", `No author is configured, so git makes up ${name}.`, next)
}

/**
 * How an agent's processes can be kept together. It is tried in a temporary directory, so that the
 * check leaves nothing in the state directory.
 */
export async function checkIsolation(config: Config | undefined, policy: Policy): Promise<Finding> {
  const next =
    "Without it, a daemon that drops its parent and environment escapes a pause. To confine agents, give them a user or a machine of their own."
  if (policy.isolation === "off")
    return warn("isolation", "The policy turns it off (isolation: off).", next)
  const directory = mkdtempSync(join(tmpdir(), "blackbox5-doctor-"))
  try {
    const isolation = await probeIsolation({
      stateDirectory: directory,
      guarded: config
        ? guard(installationOf(config, [process.execPath, mainPath]))
        : nothingGuarded,
    })
    const lacking = warningOf(isolation)
    return lacking === undefined
      ? ok("isolation", `${isolation.kind}: ${isolation.why}`)
      : warn(
          "isolation",
          clean(lacking),
          "To confine agents, give them a user or a machine of their own: see SECURITY.md.",
        )
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}

/** The directory, or its deepest ancestor that exists. */
export function existing(path: string): string {
  let at = path
  while (!existsSync(at) && dirname(at) !== at) at = dirname(at)
  return at
}

export async function checkState({
  stateDirectory,
  socketPath,
}: Config): Promise<readonly Finding[]> {
  const at = existing(stateDirectory)
  try {
    if (!statSync(at).isDirectory()) throw new Error("not a directory")
    accessSync(at, constants.W_OK | constants.X_OK)
  } catch {
    const next = "Make it writable, or set BLACKBOX5_STATE to another directory."
    return [fail("state", `${at} is not a directory that this user can write to.`, next)]
  }
  if (at !== stateDirectory)
    return [
      ok("state", `${stateDirectory} will be created at the first start`),
      await checkSocket({ stateDirectory: at, socketPath }, false),
    ]
  const socket = await checkSocket(
    { stateDirectory, socketPath },
    (await whoAnswers(socketPath)) !== undefined,
  )
  const mode = statSync(at).mode & 0o777
  return (mode & 0o077) === 0
    ? [ok("state", `${at}, private to this user`), socket]
    : [
        warn(
          "state",
          `Other users can read ${at} (mode ${mode.toString(8)}).`,
          `chmod 700 ${shellWord(at)} (serve does this when it starts)`,
        ),
        socket,
      ]
}

const formatSize = (bytes: number): string =>
  bytes < 1024 ** 3
    ? `${Math.floor(bytes / 1024 ** 2)} MiB`
    : `${(bytes / 1024 ** 3).toFixed(1)} GiB`

export const checkSpace = (path: string, free: number): Finding => {
  const what = `${formatSize(free)} free for ${path}`
  if (free >= freeBytes.warn) return ok("disk", what)
  const next = "Free some space: agents fail when they cannot write."
  return free < freeBytes.fail
    ? fail("disk", `Only ${what}.`, next)
    : warn("disk", `Only ${what}.`, next)
}
export function checkDisk(paths: readonly string[]): readonly Finding[] {
  const pathByDevice = new Map<number, string>()
  for (const path of paths.map(existing))
    pathByDevice.set(statSync(path).dev, pathByDevice.get(statSync(path).dev) ?? path)
  return [...pathByDevice.values()].map((path) => {
    const { bavail, bsize } = statfsSync(path)
    return checkSpace(path, bavail * bsize)
  })
}

const portFree = (port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const server = createServer()
    server.once("error", () => resolve(false))
    server.listen({ host: "127.0.0.1", port }, () => server.close(() => resolve(true)))
  })

/** Checks a running serve and the port; it does not start one. */
export async function checkServe(config: Config): Promise<readonly Finding[]> {
  const { number, demanded } = config.port
  const running = await whoAnswers(config.socketPath)
  const file = readServeFile(config.stateDirectory)
  const serveFinding = ((): Finding => {
    if (running?.version === version)
      return ok("serve", `version ${version} is running${file ? ` as process ${file.pid}` : ""}`)
    if (running)
      return olderThanThis(running.version)
        ? warn(
            "serve",
            `The older version ${running.version} is running; this is ${version}.`,
            "No action needed: the next call from this version replaces it.",
          )
        : warn(
            "serve",
            `Version ${running.version ?? "unknown"} is running; this is ${version}.`,
            "Use the newer program, from where that serve was started.",
          )
    if (file && pidIsAlive(file.pid))
      return fail(
        "serve",
        `Process ${file.pid} should be serve, but does not answer.`,
        `If it is stopped, run kill -CONT ${file.pid}; otherwise kill it.`,
      )
    return ok("serve", "not running; the first call starts it")
  })()
  if (running && file)
    return [serveFinding, ok("port", `${new URL(file.url).port} is used by serve`)]
  if (number === 0 || (await portFree(number)))
    return [serveFinding, ok("port", number === 0 ? "any free port" : `${number} is free`)]
  const taken = `Port ${number} is taken by another program, or this user may not use it.`
  return [
    serveFinding,
    demanded
      ? fail("port", taken, "Set BLACKBOX5_PORT to another port, or unset it.")
      : warn(
          "port",
          taken,
          "No action needed if any free port will do; otherwise set BLACKBOX5_PORT.",
        ),
  ]
}
