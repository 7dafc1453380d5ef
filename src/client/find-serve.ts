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
import { asFault, Fault } from "../core/faults.ts"
import type { Invoke } from "../core/invoke.ts"
import { type Call, noProgress, type Tool } from "../core/tool.ts"
import { codeRootOf } from "../host/find-code-root.ts"
import { isDiskFull } from "../host/reserve.ts"
import { type Config, instanceHere, revivedVariable, serveEnvironment } from "../settings/config.ts"
import { away, exchange, invokeOver, invokeSupervised, type Target, unreached } from "./calls.ts"
import { lastingProgram } from "./program.ts"
import {
  endMs,
  endServe,
  environmentOf,
  newerEntry,
  olderThanThis,
  readServeFile,
} from "./serve-file.ts"
import { readIfThere, startMs, takeStartLock } from "./start-lock.ts"

/** Finds the serve of this machine, or starts it. */

/**
 * V8 lets young objects have 64 MiB each way by itself, and never gives them back: 100 MiB of a
 * serve that many clients asked at once. As in `npm start`.
 */
const serveFlags = ["--max-semi-space-size=16"]
const logBytesMax = 1_048_576

/** What the serve on the socket says of itself, or undefined when none answers. */
export async function whoAnswers(
  socketPath: string,
): Promise<{ readonly version?: string } | undefined> {
  const call: Call = { signal: AbortSignal.timeout(2_000), progress: noProgress }
  try {
    const { version } = await exchange({ socketPath }, { method: "GET", path: "/healthz" }, call)
    return typeof version === "string" ? { version } : {}
  } catch {
    return undefined
  }
}
/** True when one answers that is not older than this program. */
async function current(socketPath: string): Promise<boolean> {
  const found = await whoAnswers(socketPath)
  return found !== undefined && !olderThanThis(found.version)
}

/** The last lines that were written to a file since it had `from` bytes. */
function tailOf(path: string, from: number): string {
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
  const last = tailOf(path, from)
  const why = end === undefined ? "did not answer in time" : `ended at once (${end})`
  throw new Fault(
    "Unavailable",
    `blackbox5 serve ${why}.`,
    `Read ${path}, put right what it says, and try again.`,
    undefined,
    last === "" ? undefined : last,
  )
}

/** Starts serve where none answers; ends an older one first, if it can be. */
async function startOrReplace(
  config: Config,
  entry: string | undefined,
  env: NodeJS.ProcessEnv = {},
): Promise<void> {
  const found = await whoAnswers(config.socketPath)
  // What is left of one that was killed says what it did not offer.
  if (!found)
    return start(config, entry, { ...readServeFile(config.stateDirectory)?.bounds, ...env })
  if (!olderThanThis(found.version)) return // the holder of the lock before has just succeeded
  const before = await endServe(config, found.version ?? "")
  if (before) await start(config, entry, { ...environmentOf(before), ...env })
}

const unwritable = (stateDirectory: string, error: unknown): Fault =>
  isDiskFull(error)
    ? new Fault(
        "Unavailable",
        `The disk of ${stateDirectory} is full.`,
        "Make room on it and try again.",
        error,
      )
    : new Fault(
        "Invalid",
        `The state directory ${stateDirectory} cannot be made or written.`,
        "Set BLACKBOX5_STATE to a directory that this user may write.",
        error,
      )

/** What `findOrStartServe` left for those who waited: our own line, then what serve said last. */
function failureOf(text: string): Fault {
  const [message = "", ...last] = text.split("\n")
  return away(message, undefined, last.join("\n") || undefined)
}

/**
 * Where serve answers; on this machine it is started if none does, and one of an older version is
 * replaced: versions only grow, so that two clients never take turns at it. However many ask at
 * once, one starts it: the others wait for that start, and fail with it.
 */
export async function findOrStartServe(config: Config, entry?: string): Promise<Target> {
  if (config.remote) return config.remote
  const { socketPath, stateDirectory } = config
  if (await current(socketPath)) return { socketPath }
  try {
    mkdirSync(stateDirectory, { recursive: true, mode: 0o700 })
  } catch (error) {
    throw unwritable(stateDirectory, error)
  }
  const lock = join(stateDirectory, "serve.start")
  const failed = join(stateDirectory, "serve.failed")
  const locked = (): boolean => {
    try {
      return takeStartLock(lock)
    } catch (error) {
      throw unwritable(stateDirectory, error)
    }
  }
  /** To those who wait for this start. */
  const tell = ({ message, untrusted = "" }: Fault): void => {
    try {
      writeFileSync(failed, `${message}\n${untrusted}`, { mode: 0o600 })
    } catch {
      // The disk is full, which is probably what the text says: they try it themselves.
    }
  }
  const beganMs = performance.now()
  const before = readIfThere(failed)
  while (performance.now() < beganMs + endMs + startMs) {
    const failure = readIfThere(failed)
    // It is another one than before, whatever the clock did between.
    if (failure && (failure.atMs !== before?.atMs || failure.text !== before.text))
      throw failureOf(failure.text)
    if (locked()) {
      try {
        await startOrReplace(config, entry)
        rmSync(failed, { force: true })
      } catch (error) {
        tell(asFault(error))
        throw error
      } finally {
        rmSync(lock, { force: true })
      }
      return { socketPath }
    }
    await sleep(50)
    if (await current(socketPath)) return { socketPath }
  }
  throw away("blackbox5 serve, which another process is starting, does not answer.")
}

/**
 * For those who connect by themselves as soon as a serve is there: one of them starts it, and
 * nobody waits. A hundred that waited as clients do, by looking again and again, would take the
 * processor from the start that they wait for.
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

/**
 * Calls the control plane that the configuration names: here it is started when it is not there,
 * elsewhere it is not told of directories.
 */
export function invokeServe(
  config: Config,
  tools: readonly Tool[],
  find = findOrStartServe,
): Invoke & { warm(): void } {
  const over = instanceHere() === undefined ? invokeOver : invokeSupervised
  const invoke = over(
    config.remote ?? { socketPath: config.socketPath, codeRoot: codeRootOf(config) },
    tools,
  )
  let starting: Promise<Target> | undefined
  const started = (): Promise<Target> => {
    starting ??= find(config).finally(() => {
      starting = undefined
    })
    return starting
  }
  const unlessAborted = <T>(work: Promise<T>, signal: AbortSignal): Promise<T> =>
    new Promise((resolve, reject) => {
      const abort = () => reject(away("The call was cancelled."))
      signal.addEventListener("abort", abort, { once: true })
      if (signal.aborted) abort()
      work.then(resolve, reject).finally(() => signal.removeEventListener("abort", abort))
    })
  let checked: Promise<unknown> | undefined
  /**
   * Before the first call: an older serve is asked nothing. One that does not answer is left to the
   * call itself, which may wait for it.
   */
  const check = (): Promise<unknown> => {
    checked ??= whoAnswers(config.socketPath)
      .then((found) => (olderThanThis(found?.version) ? started() : undefined))
      .catch((error: unknown) => {
        checked = undefined
        throw error
      })
    return checked
  }
  const called: Invoke = async (name, input, call) => {
    if (!config.remote) await unlessAborted(check(), call.signal)
    try {
      return await invoke(name, input, call)
    } catch (error) {
      // What may have been received is never sent again.
      if (config.remote || !unreached(error)) throw error
    }
    await unlessAborted(started(), call.signal)
    return invoke(name, input, call)
  }
  // A start that fails here is told by the next call, which tries again.
  return Object.assign(called, { warm: () => void started().catch(() => {}) })
}
