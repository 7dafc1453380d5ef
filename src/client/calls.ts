/** Calls the control plane over its socket or over HTTP, and says who could not be reached. */

import type { ClientRequest, IncomingMessage, RequestOptions } from "node:http"
import { createParser } from "eventsource-parser"
import { inputFields, readInput } from "../core/decode.ts"
import { Fault, faultCodes } from "../core/faults.ts"
import type { Invoke } from "../core/invoke.ts"
import { alivePath, type Call, codeRootHeader, noProgress, type Tool } from "../core/tool.ts"
import { cut, insideFence } from "../core/view.ts"
import { requestOptionsTo } from "../host/local-socket.ts"

/** Where `serve` listens: the socket of this machine, or somewhere else. */
export type Target =
  | {
      readonly socketPath: string
      readonly bearer?: string
      /** Found where the client runs. */
      readonly codeRoot?: string | undefined
    }
  | { readonly url: string; readonly bearer: string }

// An import of node:http also loads what it merely re-exports, node's fetch and WebSocket: 40 ms
// and 12 MiB in every client.
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
    const plain =
      value.length > 0 && value.every((one) => typeof one === "string" && /^[^,[][^,]*$/.test(one))
    return plain ? value.map(String) : [JSON.stringify(value)]
  }
  // A text in a field of JSON needs its quotes, else `12` would come back as a number.
  return [
    typeof value === "string" && kind !== "json" && kind !== "object"
      ? value
      : JSON.stringify(value),
  ]
}

/** A tool's input as its route takes it. @throws Invalid, TooLarge. */
export function requestOf(tool: Tool, input: unknown): Outgoing {
  // A query has no null: what is not given must be left out of it before.
  const given = readInput(tool.input, input)
  if (!isObject(given))
    throw new Fault("Invalid", "The input is not an object.", `Give ${tool.name} an object.`)
  const [method = "", pattern = ""] = tool.route.split(" ")
  const rest = new Map(Object.entries(given).filter(([, value]) => value !== undefined))
  let path = pattern.replace(/\{(\w+)\}/g, (_, field: string) => {
    const value = rest.get(field)
    rest.delete(field)
    if (typeof value !== "string" || /^\.{0,2}$/.test(value))
      throw new Fault(
        "Invalid",
        `${field}: expected a name.`,
        "Correct that field, then call again.",
      )
    return encodeURIComponent(value)
  })
  if (method === "GET") {
    const kinds = new Map(inputFields(tool.input).map(({ name, kind }) => [name, kind]))
    const query = new URLSearchParams()
    for (const [name, value] of rest)
      for (const text of textsOf(kinds.get(name), value)) query.append(name, text)
    if (query.size > 0) path += `?${query}`
  }
  const body = method === "GET" ? undefined : JSON.stringify(Object.fromEntries(rest))
  if (path.length > pathBytesMax || Buffer.byteLength(body ?? "") > requestBytesMax)
    throw new Fault("TooLarge", `The input of ${tool.name} is too large.`, "Send less in one call.")
  return { method, path, ...(body !== undefined && { body }) }
}

export const away = (what: string, cause?: unknown, untrusted?: string): Fault =>
  new Fault(
    "Unavailable",
    what,
    "Try again; `blackbox5 serve` in a terminal shows what is wrong.",
    cause,
    untrusted,
  )

/** True when no connection came about, so that nobody can have received the request. */
export const unreached = (error: unknown): boolean =>
  error instanceof Fault &&
  error.cause instanceof Error &&
  "syscall" in error.cause &&
  error.cause.syscall === "connect"

function faultOf(answer: unknown, status: number): Fault {
  const said = isObject(answer) && isObject(answer.error) ? answer.error : {}
  const code = faultCodes.find((one) => one === said.code)
  // Bare, as everywhere within: whoever shows it fences it anew.
  const untrusted =
    typeof said.untrusted === "string" ? (insideFence(said.untrusted) ?? said.untrusted) : undefined
  if (code) return new Fault(code, String(said.message), String(said.next), undefined, untrusted)
  return away(`The control plane answered with HTTP status ${status} and no reason.`)
}

function open(target: Target, { method, path, body }: Outgoing, accept: string): ClientRequest {
  const options: RequestOptions = {
    method,
    // A connection for each call: one that is kept could be closed by a restart just while a call
    // is written to it.
    agent: false,
    headers: {
      accept,
      ...(target.bearer !== undefined && { authorization: `Bearer ${target.bearer}` }),
      ...("codeRoot" in target &&
        target.codeRoot !== undefined && { [codeRootHeader]: encodeURIComponent(target.codeRoot) }),
      ...(body !== undefined && {
        "content-type": "application/json",
        "content-length": Buffer.byteLength(body),
      }),
    },
  }
  if ("socketPath" in target)
    return requestPlain({ ...options, ...requestOptionsTo(target.socketPath), path })
  const url = new URL(target.url + path)
  return (
    url.protocol === "https:" ? process.getBuiltinModule("node:https").request : requestPlain
  )(url, options)
}

/** Reads one result, event by event or whole. */
function read(
  response: IncomingMessage,
  call: Call,
  settle: (outcome: Record<string, unknown> | Fault) => void,
): void {
  const status = response.statusCode ?? 0
  const parse = (text: string): unknown => {
    try {
      return JSON.parse(text)
    } catch {
      return undefined
    }
  }
  const finish = (answer: unknown, good: boolean): void =>
    settle(good && isObject(answer) ? answer : faultOf(answer, status))
  const tooLarge = (): void =>
    settle(new Fault("TooLarge", "The answer is larger than 8 MiB.", "Ask for less at once."))
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

export function exchange(
  target: Target,
  outgoing: Outgoing,
  call: Call,
): Promise<Record<string, unknown>> {
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
    request.setTimeout(streamed ? silenceMs.stream : silenceMs.plain, () =>
      settle(away(`Nothing came from ${where}.`)),
    )
    request.on("error", (error) =>
      settle(away(`The control plane at ${where} cannot be reached (${error.message}).`, error)),
    )
    request.on("response", (response) => {
      response.on("error", (error) =>
        settle(away(`The connection to ${where} broke (${error.message}).`, error)),
      )
      read(response, call, settle)
    })
    call.signal.addEventListener("abort", abort)
    if (call.signal.aborted) return abort()
    request.end(outgoing.body)
  })
}

const supervisorMs = 2000
/**
 * Asked before each call of an agent: a supervisor that stands still would hold the call for as
 * long, and might do it long after nobody wants it any more. @throws Unavailable
 */
async function checkSupervisor(target: Target, signal: AbortSignal): Promise<void> {
  const inTime = AbortSignal.timeout(supervisorMs)
  const call: Call = { signal: AbortSignal.any([signal, inTime]), progress: noProgress }
  // Whatever it answers, it works; where nobody listens, the call itself says so.
  await exchange(target, { method: "GET", path: alivePath }, call).catch(() => undefined)
  if (inTime.aborted && !signal.aborted)
    throw new Fault(
      "Unavailable",
      `The supervisor of this instance has not answered for ${supervisorMs / 1000} s; nothing was sent.`,
      "Go on with something else, and try again in a minute.",
    )
}

/** Calls tools over HTTP, as whoever the target takes the caller for. */
export function invokeOver(target: Target, tools: readonly Tool[]): Invoke {
  const byName = new Map(tools.map((tool) => [tool.name, tool]))
  return async (name, input, call) => {
    const tool = byName.get(name)
    if (!tool)
      throw new Fault(
        "NotFound",
        `There is no tool ${JSON.stringify(cut(name, 80))}.`,
        "List the tools.",
      )
    return exchange(target, requestOf(tool, input), call)
  }
}

/** As invokeOver, for an agent: its calls go through its supervisor. */
export const invokeSupervised = (target: Target, tools: readonly Tool[]): Invoke => {
  const invoke = invokeOver(target, tools)
  return async (name, input, call) => {
    await checkSupervisor(target, call.signal)
    return invoke(name, input, call)
  }
}
