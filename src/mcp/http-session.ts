import { randomBytes } from "node:crypto"
import { WebStandardStreamableHTTPServerTransport } from "@modelcontextprotocol/sdk/server/webStandardStreamableHttp.js"
import type { RequestId } from "@modelcontextprotocol/sdk/types.js"
import { boundedResponse, streams, type WholeResponse } from "./bounded-stream.ts"
import type { Bounds } from "./bounds.ts"
import { type BoundedEventStore, keepEvents } from "./event-store.ts"
import { requestRefused, rpcError } from "./rpc-error.ts"
import type { LegacyMcpServer } from "./server.ts"

/** One session of a client up to 2025-11-25. */
export interface HttpSession {
  readonly owner: string
  usedAtMs: number
  readonly transport: WebStandardStreamableHTTPServerTransport
  readonly events: BoundedEventStore
  /** Unanswered requests. */
  readonly running: Set<RequestId>
  /** Those of them whose stream was cut. */
  readonly abandoned: Set<RequestId>
  giveUp: NodeJS.Timeout | undefined
  openStreams: number
}

export interface SessionParts {
  readonly bounds: Bounds
  readonly nowMs: () => number
  opened(id: string, session: HttpSession): void
  closed(id: string): void
}

/** A request's body as JSON-RPC messages. */
export type RpcMessages = readonly Record<string, unknown>[]

/** A client whose stream broke is asked to return after this: well within `resumeMs`. */
const retryMs = 500

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null
export const rpcMessages = (body: unknown): RpcMessages =>
  (Array.isArray(body) ? body : [body]).filter(isObject)
const requestId = ({ id }: Record<string, unknown>): RequestId | undefined =>
  typeof id === "string" || typeof id === "number" ? id : undefined

export const isIdle = ({ running, openStreams }: HttpSession): boolean =>
  running.size === 0 && openStreams === 0

/** Answers the request that opens a session. */
export async function beginSession(
  owner: string,
  request: Request,
  body: unknown,
  server: LegacyMcpServer,
  parts: SessionParts,
): Promise<Response | WholeResponse> {
  const events = keepEvents()
  const transport = new WebStandardStreamableHTTPServerTransport({
    sessionIdGenerator: () => randomBytes(24).toString("base64url"),
    eventStore: events,
    retryInterval: retryMs,
    onsessioninitialized: (id) => parts.opened(id, session),
  })
  const session: HttpSession = {
    owner,
    usedAtMs: parts.nowMs(),
    transport,
    events,
    running: new Set(),
    abandoned: new Set(),
    giveUp: undefined,
    openStreams: 0,
  }
  const send = transport.send.bind(transport)
  transport.send = (message, options) => {
    if (!("method" in message) && message.id !== undefined) session.running.delete(message.id)
    return send(message, options)
  }
  await server.connect(transport)
  const closed = transport.onclose
  transport.onclose = () => {
    if (transport.sessionId !== undefined) parts.closed(transport.sessionId)
    clearTimeout(session.giveUp)
    closed?.()
  }
  const response = await transport.handleRequest(request, { parsedBody: body })
  if (transport.sessionId === undefined) await server.close()
  return streamed(session, response, [], parts)
}

/** Answers a later request of a session: a stream (GET), messages (POST) or its end (DELETE). */
export async function answerInSession(
  session: HttpSession,
  request: Request,
  body: unknown,
  parts: SessionParts,
): Promise<Response | WholeResponse> {
  if (request.method === "GET") return openStream(session, request, parts)
  const { transport, running, openStreams } = session
  const { requestsMax, streamsMax } = parts.bounds
  const messages = rpcMessages(body)
  const requests = messages.flatMap((message) =>
    typeof message.method === "string" ? (requestId(message) ?? []) : [],
  )
  if (
    requests.length > 0 &&
    (running.size + requests.length > requestsMax || openStreams >= streamsMax)
  )
    return rpcError(
      429,
      requestRefused,
      `This session has ${running.size} unanswered requests.`,
      "Wait for some of them.",
      requests[0],
    )
  for (const id of requests) running.add(id)
  const response = await transport.handleRequest(request, { parsedBody: body })
  // The transport refused it, so it will not be answered.
  if (response.status >= 400) for (const id of requests) running.delete(id)
  for (const { method, params } of messages)
    if (method === "notifications/cancelled" && isObject(params)) {
      const id = requestId({ id: params.requestId })
      if (id !== undefined) await cancel(session, id, { serverKnows: true })
    }
  return streamed(session, response, requests, parts)
}

async function openStream(
  session: HttpSession,
  request: Request,
  parts: SessionParts,
): Promise<Response | WholeResponse> {
  const { transport, events, openStreams, abandoned } = session
  const lastEventId = request.headers.get("last-event-id")
  if (lastEventId !== null && !events.resumable(lastEventId))
    return rpcError(
      400,
      requestRefused,
      "The stream can no longer be resumed from this event.",
      "Open it without Last-Event-ID.",
    )
  if (openStreams >= parts.bounds.streamsMax)
    return rpcError(
      429,
      requestRefused,
      `This session has ${openStreams} open streams.`,
      "Close some of them.",
    )
  // A standalone stream that broke unnoticed would lock its client out.
  if (lastEventId === null) transport.closeStandaloneSSEStream()
  else clearTimeout(session.giveUp)
  return streamed(session, await transport.handleRequest(request), [...abandoned], parts)
}

async function streamed(
  session: HttpSession,
  response: Response,
  requests: readonly RequestId[],
  { bounds, nowMs }: SessionParts,
): Promise<Response | WholeResponse> {
  if (!streams(response)) return response
  session.openStreams += 1
  return boundedResponse(response, bounds.streamBytesMax, (how) => {
    session.openStreams -= 1
    session.usedAtMs = nowMs()
    if (how === "cut") abandon(session, requests, bounds.resumeMs)
  })
}

/** Cancels requests whose stream was cut, unless the client resumes in time. */
function abandon(session: HttpSession, requests: readonly RequestId[], resumeMs: number): void {
  for (const id of requests) if (session.running.has(id)) session.abandoned.add(id)
  if (session.abandoned.size === 0) return
  clearTimeout(session.giveUp)
  session.giveUp = setTimeout(() => {
    for (const id of [...session.abandoned]) void cancel(session, id, { serverKnows: false })
  }, resumeMs)
  session.giveUp.unref()
}

async function cancel(
  { transport, running, abandoned }: HttpSession,
  id: RequestId,
  { serverKnows }: { readonly serverKnows: boolean },
): Promise<void> {
  abandoned.delete(id)
  if (!running.has(id)) return
  if (!serverKnows)
    transport.onmessage?.({
      jsonrpc: "2.0",
      method: "notifications/cancelled",
      params: { requestId: id, reason: "connection lost" },
    })
  // The SDK does not answer a cancelled request, and would keep its stream open for ever.
  const message = "The request was cancelled."
  await transport
    .send({ jsonrpc: "2.0", id, error: { code: requestRefused, message } })
    .catch(() => {})
}
