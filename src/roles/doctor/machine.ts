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
import { guard, nothingGuarded } from "../../host/agent-view.ts"
import { programOutside } from "../../host/find-program.ts"
import { probeIsolation, warningOf } from "../../host/isolation.ts"
import { type Config, installationOf } from "../../settings/config.ts"
import type { Policy } from "../../settings/policy.ts"
import { version } from "../../settings/version.ts"
import { ask, type Finding, fail, ok, warn } from "./check.ts"
import { checkSocket } from "./socket.ts"

/** What the machine has to give. */

/**
 * A night of logs and work trees fits into the first; in the second the database may not grow any
 * more.
 */
const freeBytes = { warn: 2 * 1024 ** 3, fail: 200 * 1024 ** 2 }

export async function checkGit(environment: NodeJS.ProcessEnv): Promise<Finding> {
  const { code, said } = await ask(programOutside("git"), ["--version"], environment)
  return code === 0
    ? ok("git", said)
    : fail(
        "git",
        "The program git is not on the PATH.",
        "Install it; agents commit their work with it.",
      )
}

/**
 * By whom agents' commits will be, in one repository: git itself is asked, because settings,
 * variables and the account's own name all count. `directory`: a repository whose own settings
 * count, too.
 */
export async function checkIdentity(
  environment: NodeJS.ProcessEnv,
  directory: string,
): Promise<Finding> {
  const next = 'git config --global user.name "…"; git config --global user.email "…"'
  const asked = await Promise.all(
    ["GIT_AUTHOR_IDENT", "GIT_COMMITTER_IDENT"].map((name) =>
      ask(programOutside("git"), ["-C", existing(directory), "var", name], environment),
    ),
  )
  const refused = asked.find(({ code }) => code !== 0)
  // Its advice comes first, the reason last.
  if (refused)
    return fail(
      "identity",
      `git would refuse every commit: ${refused.said
        .split("\n")
        .at(-1)
        ?.replace(/^fatal: /, "")}.`,
      next,
    )
  const [author = "", committer = ""] = asked.map(({ said }) => said.replace(/ \d+ [+-]\d{4}$/, ""))
  const who = author === committer ? author : `${author}, committed by ${committer}`
  const told = await ask(
    programOutside("git"),
    ["-C", existing(directory), "config", "user.email"],
    environment,
  )
  return told.code === 0 || environment.GIT_AUTHOR_EMAIL || environment.EMAIL
    ? ok("identity", `commits are by ${who}`)
    : warn("identity", `Nobody said who commits; git makes up ${who}.`, next)
}

/**
 * How an agent's processes can be kept together. Tried in a directory of its own: looking makes
 * nothing in the state directory.
 */
export async function checkIsolation(config: Config | undefined, policy: Policy): Promise<Finding> {
  const next =
    "A daemon that drops its parent and its environment escapes a pause. A user or a machine of its own keeps agents apart."
  if (policy.isolation === "off") return warn("isolation", "The policy says isolation: off.", next)
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
          "A user or a machine of its own keeps agents apart: see SECURITY.md.",
        )
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}

/** A directory, or what is there of the way to it. */
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
    const next = "Make it writable for this user, or set BLACKBOX5_STATE to another directory."
    return [fail("state", `${at} is no directory that this user may write.`, next)]
  }
  if (at !== stateDirectory)
    return [
      ok("state", `${stateDirectory} will be made at the first start`),
      await checkSocket({ stateDirectory: at, socketPath }, false),
    ]
  const socket = await checkSocket(
    { stateDirectory, socketPath },
    (await whoAnswers(socketPath)) !== undefined,
  )
  const mode = statSync(at).mode & 0o777
  return (mode & 0o077) === 0
    ? [ok("state", `${at}, for this user alone`), socket]
    : [
        warn(
          "state",
          `${at} is open to others (mode ${mode.toString(8)}).`,
          `Run chmod 700 ${shellWord(at)}; serve does it at its start.`,
        ),
        socket,
      ]
}

const sizeOf = (bytes: number): string =>
  bytes < 1024 ** 3
    ? `${Math.floor(bytes / 1024 ** 2)} MiB`
    : `${(bytes / 1024 ** 3).toFixed(1)} GiB`

export const spaceOf = (path: string, free: number): Finding => {
  const what = `${sizeOf(free)} free for ${path}`
  if (free >= freeBytes.warn) return ok("disk", what)
  const next = "Make room: agents that cannot write fail."
  return free < freeBytes.fail
    ? fail("disk", `Only ${what}.`, next)
    : warn("disk", `Only ${what}.`, next)
}
export function checkDisk(paths: readonly string[]): readonly Finding[] {
  const seen = new Map<number, string>()
  for (const path of paths.map(existing))
    seen.set(statSync(path).dev, seen.get(statSync(path).dev) ?? path)
  return [...seen.values()].map((path) => {
    const { bavail, bsize } = statfsSync(path)
    return spaceOf(path, bavail * bsize)
  })
}

const portFree = (port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const server = createServer()
    server.once("error", () => resolve(false))
    server.listen({ host: "127.0.0.1", port }, () => server.close(() => resolve(true)))
  })

/** serve, as far as it runs; it is not started. */
export async function checkServe(config: Config): Promise<readonly Finding[]> {
  const { number, demanded } = config.port
  const running = await whoAnswers(config.socketPath)
  const file = readServeFile(config.stateDirectory)
  const serving = ((): Finding => {
    if (running?.version === version)
      return ok("serve", `version ${version} runs${file ? ` as process ${file.pid}` : ""}`)
    if (running)
      return olderThanThis(running.version)
        ? warn(
            "serve",
            `The older version ${running.version} runs; this is ${version}.`,
            "Nothing: the next call of this version replaces it.",
          )
        : warn(
            "serve",
            `Version ${running.version ?? "unknown"} runs; this is ${version}.`,
            "Use the newer program, where that serve is from.",
          )
    if (file && pidIsAlive(file.pid))
      return fail(
        "serve",
        `Process ${file.pid} should serve and does not answer.`,
        `If it stands still: kill -CONT ${file.pid}; else end it.`,
      )
    return ok("serve", "does not run; the first call starts it")
  })()
  if (running && file) return [serving, ok("port", `${new URL(file.url).port} is ours`)]
  if (number === 0 || (await portFree(number)))
    return [serving, ok("port", number === 0 ? "any free one" : `${number} is free`)]
  const taken = `Port ${number} is taken by another program, or may not be listened on.`
  return [
    serving,
    demanded
      ? fail("port", taken, "Set BLACKBOX5_PORT to another one, or to none.")
      : warn("port", taken, "Nothing, if any free port will do; else set BLACKBOX5_PORT."),
  ]
}
