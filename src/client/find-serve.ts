import { spawn } from "node:child_process"
import {
  closeSync,
  fstatSync,
  mkdirSync,
  openSync,
  readSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs"
import { join } from "node:path"
import { setTimeout as sleep } from "node:timers/promises"
import { endpointAt, socketUrl } from "../core/endpoint.ts"
import { asFault, Fault } from "../core/faults.ts"
import { type Call, noProgress } from "../core/tool.ts"
import { isDiskFull } from "../host/reserve.ts"
import { type Config, revivedVariable, serveEnvironment } from "../settings/config.ts"
import { exchange, unavailable } from "./exchange.ts"
import { lastingProgram } from "./program.ts"
import {
  endMs,
  endServe,
  newerEntry,
  olderThanThis,
  readServeFile,
  successorEnvironment,
} from "./serve-file.ts"
import { readIfThere, startMs, takeStartLock } from "./start-lock.ts"

/** Finds the serve of this machine, or starts it. */

/**
 * V8 lets young objects have 64 MiB each way by itself, and never gives them back: 100 MiB of a
 * serve that many clients asked at once. As in `npm start`.
 */
const serveFlags = ["--max-semi-space-size=16"]
const logBytesMax = 1_048_576

/** The version of the serve on the socket, or undefined when none answers. */
export async function whoAnswers(
  socketPath: string,
): Promise<{ readonly version?: string } | undefined> {
  const call: Call = { signal: AbortSignal.timeout(2_000), progress: noProgress }
  try {
    const serve = endpointAt(socketUrl(socketPath))
    const { version } = await exchange(serve, { method: "GET", path: "/healthz" }, call)
    return typeof version === "string" ? { version } : {}
  } catch {
    return undefined
  }
}
/** True when a serve answers that is not older than this program. */
async function isCurrent(socketPath: string): Promise<boolean> {
  const found = await whoAnswers(socketPath)
  return found !== undefined && !olderThanThis(found.version)
}

/** The last lines that were written to a file since it had `from` bytes. */
function readTail(path: string, from: number): string {
  const file = openSync(path, "r")
  try {
    const size = fstatSync(file).size
    const bytes = Buffer.alloc(Math.min(4096, Math.max(0, size - from)))
    readSync(file, bytes, 0, bytes.length, size - bytes.length)
    // A read that began in the middle of a character has its end first.
    const text = bytes.toString("utf8").replace(/^\ufffd+/, "")
    return text.trimEnd().split("\n").slice(-8).join("\n")
  } finally {
    closeSync(file)
  }
}

/**
 * Starts serve, detached, and waits until it answers. @throws Unavailable with its last words when
 * it ends instead.
 */
async function start(
  config: Config,
  entry: string | undefined,
  env: NodeJS.ProcessEnv,
): Promise<void> {
  const deadlineMs = performance.now() + startMs // by the steady clock, which nobody sets
  const path = join(config.stateDirectory, "serve.log")
  if ((statSync(path, { throwIfNoEntry: false })?.size ?? 0) > logBytesMax)
    renameSync(path, `${path}.1`)
  const log = openSync(path, "a", 0o600)
  const from = fstatSync(log).size
  const [node, main] =
    newerEntry(config) ?? (entry === undefined ? lastingProgram() : [process.execPath, entry])
  const child = spawn(node, [...serveFlags, main, "serve"], {
    detached: true,
    stdio: ["ignore", log, log],
    env: { ...serveEnvironment(), ...env },
  })
  closeSync(log)
  child.unref()
  let end: string | undefined
  child.once("error", (error) => {
    end = error.message
  })
  child.once("exit", (code, signal) => {
    // 0: another serve was first, and will answer.
    if (code !== 0) end = signal ? `signal ${signal}` : `exit code ${code}`
  })
  while (performance.now() < deadlineMs) {
    if (await whoAnswers(config.socketPath)) return
    if (end !== undefined) break
    await sleep(30)
  }
  const last = readTail(path, from)
  const why = end === undefined ? "did not answer in time" : `ended at once (${end})`
  throw new Fault(
    "Unavailable",
    `blackbox5 serve ${why}.`,
    `Read ${path}, fix what it reports, and try again.`,
    undefined,
    last === "" ? undefined : last,
  )
}

/** Starts serve where none answers, and replaces an older one. */
async function startOrReplace(
  config: Config,
  entry: string | undefined,
  env: NodeJS.ProcessEnv = {},
): Promise<void> {
  const found = await whoAnswers(config.socketPath)
  // One that was killed left its bounds: its successor must offer no more.
  if (!found)
    return start(config, entry, { ...readServeFile(config.stateDirectory)?.bounds, ...env })
  if (!olderThanThis(found.version)) return // whoever held the lock before has just succeeded
  const before = await endServe(config, found.version ?? "")
  if (before) await start(config, entry, { ...successorEnvironment(before), ...env })
}

const unwritable = (stateDirectory: string, error: unknown): Fault =>
  isDiskFull(error)
    ? new Fault(
        "Unavailable",
        `The disk of ${stateDirectory} is full.`,
        "Free some space on it, then try again.",
        error,
      )
    : new Fault(
        "Invalid",
        `The state directory ${stateDirectory} cannot be created or written.`,
        "Set BLACKBOX5_STATE to a directory that this user can write.",
        error,
      )

/** What `ensureServe` left for those who waited: our own line, then the last lines of serve. */
function readFailure(text: string): Fault {
  const [message = "", ...last] = text.split("\n")
  return unavailable(message, undefined, last.join("\n") || undefined)
}

/** Waits until the serve on the socket is current, or takes the right to start one: true. */
async function awaitTurn(
  { socketPath, stateDirectory }: Config,
  lock: string,
  failed: string,
): Promise<boolean> {
  const beganMs = performance.now()
  const before = readIfThere(failed)
  while (performance.now() < beganMs + endMs + startMs) {
    const failure = readIfThere(failed)
    // By age or by text it differs from the one before, whatever the clock did meanwhile.
    if (failure && (failure.atMs !== before?.atMs || failure.text !== before.text))
      throw readFailure(failure.text)
    try {
      if (takeStartLock(lock)) return true
    } catch (error) {
      throw unwritable(stateDirectory, error)
    }
    await sleep(50)
    if (await isCurrent(socketPath)) return false
  }
  throw unavailable("Another process is starting blackbox5 serve, but it does not answer.")
}

/**
 * Resolves when the serve of this machine answers. It is started if none does, and one of an older
 * version is replaced: versions only grow, so that two clients never take turns at it. However many
 * ask at once, one starts it: the others wait for that start, and fail with it.
 */
export async function ensureServe(config: Config, entry?: string): Promise<void> {
  if (config.remote) return
  const { socketPath, stateDirectory } = config
  if (await isCurrent(socketPath)) return
  try {
    mkdirSync(stateDirectory, { recursive: true, mode: 0o700 })
  } catch (error) {
    throw unwritable(stateDirectory, error)
  }
  const lock = join(stateDirectory, "serve.start")
  const failed = join(stateDirectory, "serve.failed")
  if (!(await awaitTurn(config, lock, failed))) return
  try {
    await startOrReplace(config, entry)
    rmSync(failed, { force: true })
  } catch (error) {
    const { message, untrusted = "" } = asFault(error)
    try {
      writeFileSync(failed, `${message}\n${untrusted}`, { mode: 0o600 })
    } catch {
      // The disk is full, which is probably what the text says: those who wait try it themselves.
    }
    throw error
  } finally {
    rmSync(lock, { force: true })
  }
}

/**
 * For supervisors, which reconnect by themselves as soon as a serve is there: one of them starts
 * it, and nobody waits. A hundred that polled as clients do would take the processor from the start
 * that they wait for.
 */
export async function reviveServe(config: Config, entry?: string): Promise<void> {
  const lock = join(config.stateDirectory, "serve.start")
  if (!takeStartLock(lock)) return
  try {
    await startOrReplace(config, entry, { [revivedVariable]: "1" })
  } finally {
    rmSync(lock, { force: true })
  }
}
