import type { ClientRequest, IncomingMessage, OutgoingHttpHeaders } from "node:http"
import { createParser } from "eventsource-parser"
import { describeEndpoint, type Endpoint } from "../core/endpoint.ts"
import { Fault, faultCodes } from "../core/faults.ts"
import { type Call, codeRootHeader, noProgress } from "../core/tool.ts"
import { insideFence } from "../core/view.ts"
import { credentialInTime, onceConnected, openRequest } from "../host/endpoint.ts"
import { type ApiRequest, isObject } from "./request.ts"

/** One request to the control plane, and its answer: a result, or a fault that says what to do. */

const responseBytesMax = 8_388_608
const connectMs = 10_000
/** The longest wait a tool offers is ten minutes; a stream says something every 15 s. */
const silenceMs = { plain: 900_000, stream: 60_000 }

export const unavailable = (message: string, cause?: unknown, untrusted?: string): Fault =>
  new Fault(
    "Unavailable",
    message,
    "Try again; run `blackbox5 serve` in a terminal to see what is wrong.",
    cause,
    untrusted,
  )

/** True when no connection came about, so that nobody can have received the request. */
export const isUnreached = (error: unknown): boolean =>
  error instanceof Fault &&
  error.cause instanceof Error &&
  "syscall" in error.cause &&
  error.cause.syscall === "connect"

function readFault(answer: unknown, status: number): Fault {
  const fields = isObject(answer) && isObject(answer.error) ? answer.error : {}
  const code = faultCodes.find((one) => one === fields.code)
  // Without its fence, as everywhere within: whoever shows it fences it anew.
  const untrusted =
    typeof fields.untrusted === "string"
      ? (insideFence(fields.untrusted) ?? fields.untrusted)
      : undefined
  if (code)
    return new Fault(code, String(fields.message), String(fields.next), undefined, untrusted)
  return unavailable(`The control plane answered with HTTP status ${status} and gave no reason.`)
}

const parseJson = (text: string): unknown => {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

/** Reads one result, event by event or whole. */
function readAnswer(
  response: IncomingMessage,
  call: Call,
  settle: (outcome: Record<string, unknown> | Fault) => void,
): void {
  const status = response.statusCode ?? 0
  const finish = (answer: unknown, isResult: boolean): void =>
    settle(isResult && isObject(answer) ? answer : readFault(answer, status))
  const tooLarge = (): void =>
    settle(new Fault("TooLarge", "The answer is larger than 8 MiB.", "Ask for less at once."))
  response.setEncoding("utf8")
  if (response.headers["content-type"]?.startsWith("text/event-stream")) {
    const parser = createParser({
      maxBufferSize: responseBytesMax,
      onError: ({ type }) => type === "max-buffer-size-exceeded" && tooLarge(),
      onEvent: ({ event, data }) => {
        const value = parseJson(data)
        if (event === "progress") {
          if (isObject(value)) call.progress(Number(value.done), String(value.message))
        } else finish(value, event === "result")
      },
    })
    response.on("data", (text: string) => parser.feed(text))
    response.on("end", () =>
      settle(unavailable("The control plane ended the call without a result.")),
    )
    return
  }
  let text = ""
  response.on("data", (more: string) => {
    text += more
    if (text.length > responseBytesMax) tooLarge()
  })
  response.on("end", () => finish(parseJson(text), status === 200))
}

/**
 * @param codeRoot found where the client runs; the control plane of this machine looks there too.
 */
function open(
  endpoint: Endpoint,
  { method, path, body }: ApiRequest,
  bearer: string | undefined,
  isStream: boolean,
  codeRoot: string | undefined,
): ClientRequest {
  const headers: OutgoingHttpHeaders = {
    accept: isStream ? "text/event-stream" : "application/json",
  }
  if (bearer !== undefined) headers.authorization = `Bearer ${bearer}`
  if (codeRoot !== undefined) headers[codeRootHeader] = encodeURIComponent(codeRoot)
  if (body !== undefined) {
    headers["content-type"] = "application/json"
    headers["content-length"] = Buffer.byteLength(body)
  }
  return openRequest(endpoint, { method, path, headers })
}

/** Rejects with the call, whatever becomes of the work. */
export const unlessCancelled = <T>(work: Promise<T>, signal: AbortSignal): Promise<T> =>
  new Promise((resolve, reject) => {
    const abort = (): void => reject(unavailable("The call was cancelled."))
    signal.addEventListener("abort", abort, { once: true })
    if (signal.aborted) abort()
    work.then(resolve, reject).finally(() => signal.removeEventListener("abort", abort))
  })

/** @throws Fault: what the control plane says, or Unavailable. */
export async function exchange(
  endpoint: Endpoint,
  outgoing: ApiRequest,
  call: Call,
  codeRoot?: string,
): Promise<Record<string, unknown>> {
  const where = describeEndpoint(endpoint)
  const isStream = call.progress !== noProgress
  const bearer = await unlessCancelled(credentialInTime(endpoint), call.signal).catch(
    (error: unknown) => {
      if (error instanceof Fault) throw error
      throw unavailable(`The credential for ${where} could not be read (${error}).`, error)
    },
  )
  let request: ClientRequest
  try {
    request = open(endpoint, outgoing, bearer, isStream, codeRoot)
  } catch (error) {
    throw unavailable(`${where} cannot be called (${error}).`, error)
  }
  return new Promise((resolve, reject) => {
    const connecting = setTimeout(
      () => request.destroy(new Error(`no connection within ${connectMs / 1000} s`)),
      connectMs,
    )
    const settle = (outcome: Record<string, unknown> | Fault): void => {
      clearTimeout(connecting)
      call.signal.removeEventListener("abort", abort)
      if (outcome instanceof Fault) reject(outcome)
      else resolve(outcome)
      request.destroy()
    }
    const abort = (): void => settle(unavailable("The call was cancelled."))
    onceConnected(request, () => clearTimeout(connecting))
    request.setTimeout(isStream ? silenceMs.stream : silenceMs.plain, () =>
      settle(unavailable(`${where} has not answered in time.`)),
    )
    request.on("error", (error) =>
      settle(
        unavailable(`The control plane at ${where} cannot be reached (${error.message}).`, error),
      ),
    )
    request.on("response", (response) => {
      response.on("error", (error) =>
        settle(unavailable(`The connection to ${where} broke (${error.message}).`, error)),
      )
      readAnswer(response, call, settle)
    })
    call.signal.addEventListener("abort", abort)
    if (call.signal.aborted) return abort()
    request.end(outgoing.body)
  })
}
