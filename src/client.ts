// A long file: calling and starting `serve` are one thing to every caller, and share what "not reached" means.
import { spawn } from "node:child_process"
import {
  closeSync,
  fstatSync,
  linkSync,
  mkdirSync,
  openSync,
  readFileSync,
  readSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs"
import type { ClientRequest, IncomingMessage, RequestOptions } from "node:http"
import { join } from "node:path"
import { setTimeout as sleep } from "node:timers/promises"
import { fileURLToPath } from "node:url"
import { createParser } from "eventsource-parser"
import { type Config, lastingEnvironment } from "./config.ts"
import { fieldsOf } from "./core/decode.ts"
import { asFault, Fault, faultCodes } from "./core/faults.ts"
import type { Invoke } from "./core/invoke.ts"
import { type Call, noProgress, type Tool } from "./core/tool.ts"

/** Where `serve` listens: the socket of this machine, or somewhere else. */
export type Target = { readonly socketPath: string } | { readonly url: string; readonly bearer: string }

// An import of node:http also loads what it merely re-exports, node's fetch and WebSocket: 40 ms and 12 MiB in every client.
const { request: requestPlain } = process.getBuiltinModule("node:http")

const requestBytesMax = 1_048_576
/** node's servers refuse heads above 16 KiB. */
const pathBytesMax = 14_000
const responseBytesMax = 8_388_608
const connectMs = 10_000
/** The longest wait a tool offers is ten minutes; a stream says something every 15 s. */
const silenceMs = { plain: 900_000, stream: 60_000 }

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value)

interface Outgoing {
  readonly method: string
  readonly path: string
  readonly body?: string
}

/** The inverse of decode.ts: the texts of a query from which it makes the same value again. */
function textsOf(kind: string | undefined, value: unknown): readonly string[] {
  if (kind === "list" && Array.isArray(value)) {
    const plain = value.length > 0 && value.every((one) => typeof one === "string" && /^[^,[][^,]*$/.test(one))
    return plain ? value.map(String) : [JSON.stringify(value)]
  }
  // A text in a field of JSON needs its quotes, else `12` would come back as a number.
  return [typeof value === "string" && kind !== "json" ? value : JSON.stringify(value)]
}

/** A tool's input as its route takes it. @throws Invalid, TooLarge. */
export function requestOf(tool: Tool, input: unknown): Outgoing {
  if (!isObject(input)) throw new Fault("Invalid", "The input is not an object.", `Give ${tool.name} an object.`)
  const [method = "", pattern = ""] = tool.route.split(" ")
  const rest = new Map(Object.entries(input).filter(([, value]) => value !== undefined))
  let path = pattern.replace(/\{(\w+)\}/g, (_, field: string) => {
    const value = rest.get(field)
    rest.delete(field)
    if (typeof value !== "string" || /^\.{0,2}$/.test(value))
      throw new Fault("Invalid", `${field}: expected a name.`, `Correct the named fields of ${tool.name}.`)
    return encodeURIComponent(value)
  })
  if (method === "GET") {
    const kinds = new Map(fieldsOf(tool.input).map(({ name, kind }) => [name, kind]))
    const query = new URLSearchParams()
    for (const [name, value] of rest) for (const text of textsOf(kinds.get(name), value)) query.append(name, text)
    if (query.size > 0) path += `?${query}`
  }
  const body = method === "GET" ? undefined : JSON.stringify(Object.fromEntries(rest))
  if (path.length > pathBytesMax || Buffer.byteLength(body ?? "") > requestBytesMax)
    throw new Fault("TooLarge", `The input of ${tool.name} is too large.`, "Send less in one call.")
  return { method, path, ...(body !== undefined && { body }) }
}

const away = (what: string, cause?: unknown): Fault =>
  new Fault("Unavailable", what, "Try again; `blackbox5 serve` in a terminal shows what is wrong.", cause)

/** True when no connection came about, so that nobody can have received the request. */
const unreached = (error: unknown): boolean =>
  error instanceof Fault && error.cause instanceof Error && "syscall" in error.cause && error.cause.syscall === "connect"

function faultOf(answer: unknown, status: number): Fault {
  const said = isObject(answer) && isObject(answer.error) ? answer.error : {}
  const code = faultCodes.find((one) => one === said.code)
  if (code) return new Fault(code, String(said.message), String(said.next))
  return away(`The control plane answered with HTTP status ${status} and no reason.`)
}

function open(target: Target, { method, path, body }: Outgoing, accept: string): ClientRequest {
  const options: RequestOptions = {
    method,
    // A connection for each call: one that is kept could be closed by a restart just while a call is written to it.
    agent: false,
    headers: {
      accept,
      ...("bearer" in target && { authorization: `Bearer ${target.bearer}` }),
      ...(body !== undefined && { "content-type": "application/json", "content-length": Buffer.byteLength(body) }),
    },
  }
  if ("socketPath" in target) return requestPlain({ ...options, socketPath: target.socketPath, path, host: "localhost" })
  const url = new URL(target.url + path)
  return (url.protocol === "https:" ? process.getBuiltinModule("node:https").request : requestPlain)(url, options)
}

/** Reads one result, event by event or whole. */
function read(response: IncomingMessage, call: Call, settle: (outcome: Record<string, unknown> | Fault) => void): void {
  const status = response.statusCode ?? 0
  const parse = (text: string): unknown => {
    try {
      return JSON.parse(text)
    } catch {
      return undefined
    }
  }
  const finish = (answer: unknown, good: boolean): void => settle(good && isObject(answer) ? answer : faultOf(answer, status))
  const tooLarge = (): void => settle(new Fault("TooLarge", "The answer is larger than 8 MiB.", "Ask for less at once."))
  response.setEncoding("utf8")
  if (response.headers["content-type"]?.startsWith("text/event-stream")) {
    const parser = createParser({
      maxBufferSize: responseBytesMax,
      onError: ({ type }) => type === "max-buffer-size-exceeded" && tooLarge(),
      onEvent: ({ event, data }) => {
        const value = parse(data)
        if (event === "progress") {
          if (isObject(value)) call.progress(Number(value.done), String(value.message))
        } else finish(value, event === "result")
      },
    })
    response.on("data", (text: string) => parser.feed(text))
    response.on("end", () => settle(away("The control plane ended the call without a result.")))
    return
  }
  let text = ""
  response.on("data", (more: string) => {
    text += more
    if (text.length > responseBytesMax) tooLarge()
  })
  response.on("end", () => finish(parse(text), status === 200))
}

function exchange(target: Target, outgoing: Outgoing, call: Call): Promise<Record<string, unknown>> {
  const streamed = call.progress !== noProgress
  const request = open(target, outgoing, streamed ? "text/event-stream" : "application/json")
  return new Promise((resolve, reject) => {
    const where = "socketPath" in target ? `the socket ${target.socketPath}` : target.url
    const connecting = setTimeout(() => request.destroy(new Error("no connection")), connectMs)
    const settle = (outcome: Record<string, unknown> | Fault): void => {
      clearTimeout(connecting)
      call.signal.removeEventListener("abort", abort)
      if (outcome instanceof Fault) reject(outcome)
      else resolve(outcome)
      request.destroy()
    }
    const abort = (): void => settle(away("The call was cancelled."))
    request.on("socket", (socket) => socket.once("connect", () => clearTimeout(connecting)))
    request.setTimeout(streamed ? silenceMs.stream : silenceMs.plain, () => settle(away(`Nothing came from ${where}.`)))
    request.on("error", (error) => settle(away(`The control plane at ${where} cannot be reached (${error.message}).`, error)))
    request.on("response", (response) => {
      response.on("error", (error) => settle(away(`The connection to ${where} broke (${error.message}).`, error)))
      read(response, call, settle)
    })
    call.signal.addEventListener("abort", abort)
    if (call.signal.aborted) return abort()
    request.end(outgoing.body)
  })
}

/** Calls tools over HTTP, as whoever the target takes the caller for. */
export function invokeOver(target: Target, tools: readonly Tool[]): Invoke {
  const byName = new Map(tools.map((tool) => [tool.name, tool]))
  return async (name, input, call) => {
    const tool = byName.get(name)
    if (!tool) throw new Fault("NotFound", `There is no tool ${JSON.stringify(name.slice(0, 80))}.`, "List the tools.")
    return exchange(target, requestOf(tool, input), call)
  }
}

const startMs = 15_000
/** A start-lock older than any start may take was left by a process whose id lives on in another. */
const lockStaleMs = startMs + 5_000
const logBytesMax = 1_048_576

/** True when a serve answers on the socket. */
export async function answers(socketPath: string): Promise<boolean> {
  const call: Call = { signal: AbortSignal.timeout(2_000), progress: noProgress }
  return exchange({ socketPath }, { method: "GET", path: "/healthz" }, call).then(
    () => true,
    () => false,
  )
}

const isCode = (error: unknown, code: string): boolean => error instanceof Error && "code" in error && error.code === code

/** Text and age of a file, or undefined when there is none. */
function look(path: string): { readonly text: string; readonly atMs: number } | undefined {
  try {
    return { atMs: statSync(path).mtimeMs, text: readFileSync(path, "utf8") }
  } catch (error) {
    if (isCode(error, "ENOENT")) return undefined
    throw error
  }
}

function alive(pid: number): boolean {
  try {
    return process.kill(pid, 0)
  } catch (error) {
    return isCode(error, "EPERM")
  }
}

/** True when this process may start serve now. A lock whose holder is gone is broken; the next look takes it. */
function takeLock(path: string): boolean {
  try {
    writeFileSync(path, `${process.pid}`, { flag: "wx", mode: 0o600 })
    return true
  } catch (error) {
    if (!isCode(error, "EEXIST")) throw error
  }
  const lock = look(path)
  // An empty lock is being written at this moment; if its writer died just then, it ages.
  if (!lock || (Date.now() - lock.atMs < lockStaleMs && (lock.text === "" || alive(Number(lock.text))))) return false
  const aside = `${path}.${process.pid}`
  try {
    renameSync(path, aside)
    // Somebody else may have broken it and taken it between the look and the renaming: then it is put back.
    if (readFileSync(aside, "utf8") !== lock.text) linkSync(aside, path)
  } catch (error) {
    if (!isCode(error, "ENOENT") && !isCode(error, "EEXIST")) throw error
  }
  rmSync(aside, { force: true })
  return false
}

/** The last lines that were written to a file since it had `from` bytes. */
function tailOf(path: string, from: number): string {
  const file = openSync(path, "r")
  try {
    const size = fstatSync(file).size
    const bytes = Buffer.alloc(Math.min(4096, Math.max(0, size - from)))
    readSync(file, bytes, 0, bytes.length, size - bytes.length)
    return bytes.toString("utf8").trimEnd().split("\n").slice(-8).join("\n")
  } finally {
    closeSync(file)
  }
}

/** Starts serve, detached, and waits until it answers. @throws Unavailable with its last words when it ends instead. */
async function start(config: Config, entry: string, deadlineMs: number): Promise<void> {
  const path = join(config.stateDirectory, "serve.log")
  if ((statSync(path, { throwIfNoEntry: false })?.size ?? 0) > logBytesMax) renameSync(path, `${path}.1`)
  const log = openSync(path, "a", 0o600)
  const from = fstatSync(log).size
  const child = spawn(process.execPath, [entry, "serve"], {
    detached: true,
    stdio: ["ignore", log, log],
    env: lastingEnvironment(),
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
  while (Date.now() < deadlineMs) {
    if (await answers(config.socketPath)) return
    if (end !== undefined) break
    await sleep(30)
  }
  const last = tailOf(path, from)
  const why = end === undefined ? "did not answer in time" : `ended at once (${end})`
  throw new Fault(
    "Unavailable",
    `blackbox5 serve ${why}.${last && ` It said:\n${last}`}`,
    `Read ${path}, put right what it says, and try again.`,
  )
}

const mainPath = fileURLToPath(new URL(import.meta.url.endsWith(".ts") ? "./main.ts" : "./main.js", import.meta.url))

/**
 * Where serve answers; on this machine it is started if none does. However many ask at once, one starts it: the others wait
 * for that start, and fail with it.
 */
export async function findOrStartServe(config: Config, entry: string = mainPath): Promise<Target> {
  if (config.remote) return config.remote
  const { socketPath, stateDirectory } = config
  if (await answers(socketPath)) return { socketPath }
  try {
    mkdirSync(stateDirectory, { recursive: true, mode: 0o700 })
  } catch (error) {
    throw new Fault(
      "Invalid",
      `The state directory ${stateDirectory} cannot be made.`,
      "Set BLACKBOX5_STATE to a directory that this user may write.",
      error,
    )
  }
  const lock = join(stateDirectory, "serve.start")
  const failed = join(stateDirectory, "serve.failed")
  const beganMs = Date.now()
  while (Date.now() < beganMs + startMs) {
    const failure = look(failed)
    if (failure && failure.atMs >= beganMs) throw away(failure.text)
    if (takeLock(lock)) {
      try {
        // The holder before may have succeeded between the last look and this lock.
        if (!(await answers(socketPath))) await start(config, entry, beganMs + startMs)
        rmSync(failed, { force: true })
      } catch (error) {
        writeFileSync(failed, asFault(error).message, { mode: 0o600 })
        throw error
      } finally {
        rmSync(lock, { force: true })
      }
      return { socketPath }
    }
    await sleep(50)
    if (await answers(socketPath)) return { socketPath }
  }
  throw away("blackbox5 serve, which another process is starting, does not answer.")
}

/** Calls the control plane that the configuration names; on this machine it is started when it is not there. */
export function invokeServe(config: Config, tools: readonly Tool[], find = findOrStartServe): Invoke & { warm(): void } {
  const invoke = invokeOver(config.remote ?? { socketPath: config.socketPath }, tools)
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
  const called: Invoke = async (name, input, call) => {
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
