import { randomBytes } from "node:crypto"
import { WebStandardStreamableHTTPServerTransport } from "@modelcontextprotocol/sdk/server/webStandardStreamableHttp.js"
import type { RequestId } from "@modelcontextprotocol/sdk/types.js"
import { boundedResponse, streams, type WholeResponse } from "./bounded-stream.ts"
import { type BoundedEventStore, keepEvents } from "./event-store.ts"
import { rpcError } from "./rpc-error.ts"
import type { LegacyMcpServer } from "./server.ts"

/**
 * The sessions of clients up to 2025-11-25: what each has open, what it may have, and when it is
 * over.
 */

export interface Bounds {
  /** Sessions of one principal, and of all together. */
  readonly perPrincipalMax: number
  readonly max: number
  /** Without a request and without an open stream. */
  readonly idleMs: number
  /** Requests of one session that are not answered yet. */
  readonly requestsMax: number
  readonly streamsMax: number
  /** Bytes that wait for one stream's reader. */
  readonly streamBytesMax: number
  /** A call whose stream was cut off goes on this long for a client that resumes. */
  readonly resumeMs: number
}
export const defaultBounds: Bounds = {
  perPrincipalMax: 200,
  max: 1000,
  idleMs: 1_800_000,
  requestsMax: 64,
  streamsMax: 80,
  streamBytesMax: 1_048_576,
  resumeMs: 10_000,
}

/** When a client whose stream broke comes back, if it asks us: well within `resumeMs`. */
const retryMs = 500

/** As the SDK and the protocol say it. */
const sessionNotFound = -32001
const refused = -32000

interface Session {
  /** Whose it is. */
  readonly owner: string
  readonly transport: WebStandardStreamableHTTPServerTransport
  readonly kept: BoundedEventStore
  /** Requests that are not answered. */
  readonly running: Set<RequestId>
  /** Those of them whose stream was cut off. */
  readonly abandoned: Set<RequestId>
  giveUp: NodeJS.Timeout | undefined
  streams: number
  usedAtMs: number
}

export interface Sessions {
  /** Answers one request; `open` makes the server of a new session. */
  serve(
    owner: string,
    request: Request,
    body: unknown,
    open: () => LegacyMcpServer,
  ): Promise<Response | WholeResponse>
  count(): number
  /** Ends all, streams included. */
  close(): Promise<void>
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null
const messagesOf = (body: unknown): readonly Record<string, unknown>[] =>
  (Array.isArray(body) ? body : [body]).filter(isObject)
const idOf = ({ id }: Record<string, unknown>): RequestId | undefined =>
  typeof id === "string" || typeof id === "number" ? id : undefined

export function createSessions(nowMs: () => number, bounds: Bounds = defaultBounds): Sessions {
  /** By id, the one that was used longest ago first. */
  const sessions = new Map<string, Session>()

  const idle = ({ running, streams }: Session): boolean => running.size === 0 && streams === 0
  const end = async (id: string): Promise<void> => {
    const session = sessions.get(id)
    sessions.delete(id)
    clearTimeout(session?.giveUp)
    await session?.transport.close()
  }
  const sweep = setInterval(
    () => {
      for (const [id, session] of sessions)
        if (idle(session) && nowMs() - session.usedAtMs >= bounds.idleMs) void end(id)
    },
    Math.min(60_000, bounds.idleMs),
  )
  sweep.unref()

  /** Makes room; false when all that could go are in use. */
  const room = async (owner: string): Promise<boolean> => {
    const own = [...sessions.values()].filter((session) => session.owner === owner).length
    if (own < bounds.perPrincipalMax && sessions.size < bounds.max) return true
    // Nobody loses a session because of somebody else's number of them.
    const mine = own >= bounds.perPrincipalMax
    for (const [id, session] of sessions)
      if (idle(session) && (!mine || session.owner === owner)) {
        await end(id)
        return true
      }
    return false
  }

  const cancel = async (
    { transport, running, abandoned }: Session,
    id: RequestId,
    told: boolean,
  ): Promise<void> => {
    abandoned.delete(id)
    if (!running.has(id)) return
    if (!told)
      transport.onmessage?.({
        jsonrpc: "2.0",
        method: "notifications/cancelled",
        params: { requestId: id, reason: "cut off" },
      })
    // The SDK answers nothing to what was cancelled, and would keep its stream for ever.
    await transport
      .send({ jsonrpc: "2.0", id, error: { code: refused, message: "The request was cancelled." } })
      .catch(() => {})
  }
  const abandon = (session: Session, ids: readonly RequestId[]): void => {
    for (const id of ids) if (session.running.has(id)) session.abandoned.add(id)
    if (session.abandoned.size === 0) return
    clearTimeout(session.giveUp)
    session.giveUp = setTimeout(() => {
      for (const id of [...session.abandoned]) void cancel(session, id, false)
    }, bounds.resumeMs)
    session.giveUp.unref()
  }
  const streamed = async (
    session: Session,
    response: Response,
    ids: readonly RequestId[],
  ): Promise<Response | WholeResponse> => {
    if (!streams(response)) return response
    session.streams += 1
    return boundedResponse(response, bounds.streamBytesMax, (how) => {
      session.streams -= 1
      session.usedAtMs = nowMs()
      if (how === "cut") abandon(session, ids)
    })
  }

  const begin = async (
    owner: string,
    request: Request,
    body: unknown,
    open: () => LegacyMcpServer,
  ): Promise<Response | WholeResponse> => {
    if (!(await room(owner)))
      return rpcError(
        429,
        refused,
        "Too many sessions are in use.",
        "End one with DELETE, or try again later.",
      )
    const kept = keepEvents()
    const session: Session = {
      ...{
        owner,
        kept,
        running: new Set<RequestId>(),
        abandoned: new Set<RequestId>(),
        giveUp: undefined,
        streams: 0,
      },
      usedAtMs: nowMs(),
      transport: new WebStandardStreamableHTTPServerTransport({
        sessionIdGenerator: () => randomBytes(24).toString("base64url"),
        eventStore: kept,
        retryInterval: retryMs,
        onsessioninitialized: (id) => void sessions.set(id, session),
      }),
    }
    const { transport, running } = session
    const send = transport.send.bind(transport)
    transport.send = (message, options) => {
      if (!("method" in message) && message.id !== undefined) running.delete(message.id)
      return send(message, options)
    }
    const server = open()
    await server.connect(transport)
    const closed = transport.onclose
    transport.onclose = () => {
      if (transport.sessionId !== undefined) sessions.delete(transport.sessionId)
      clearTimeout(session.giveUp)
      closed?.()
    }
    const response = await transport.handleRequest(request, { parsedBody: body })
    if (transport.sessionId === undefined) await server.close()
    return streamed(session, response, [])
  }

  return {
    count: () => sessions.size,
    async serve(owner, request, body, open) {
      const id = request.headers.get("mcp-session-id")
      const messages = messagesOf(body)
      const session = id === null ? undefined : sessions.get(id)
      // A client that begins again may still name the session that it lost.
      if (
        session?.owner !== owner &&
        request.method === "POST" &&
        messages.some(({ method }) => method === "initialize")
      )
        return begin(owner, request, body, open)
      if (id === null)
        return rpcError(
          400,
          refused,
          "The header Mcp-Session-Id is missing.",
          "Send initialize first, then its session id.",
        )
      // Another principal's is not there: nobody learns which ids there are.
      if (session?.owner !== owner)
        return rpcError(
          404,
          sessionNotFound,
          "There is no such session.",
          "Begin one with initialize.",
          messages[0]?.id,
        )
      const { transport, kept, running, abandoned } = session
      session.usedAtMs = nowMs()
      sessions.delete(id)
      sessions.set(id, session)
      if (request.method === "GET") {
        const last = request.headers.get("last-event-id")
        if (last !== null && !kept.resumable(last))
          return rpcError(
            400,
            refused,
            "The stream cannot be resumed from there any more.",
            "Open it without Last-Event-ID.",
          )
        if (session.streams >= bounds.streamsMax)
          return rpcError(
            429,
            refused,
            `This session has ${session.streams} streams open.`,
            "Close some of them.",
          )
        // One that broke unseen would keep its client from coming back.
        if (last === null) transport.closeStandaloneSSEStream()
        else clearTimeout(session.giveUp)
        return streamed(session, await transport.handleRequest(request), [...abandoned])
      }
      const asked = messages.flatMap((message) =>
        typeof message.method === "string" ? (idOf(message) ?? []) : [],
      )
      if (
        asked.length > 0 &&
        (running.size + asked.length > bounds.requestsMax || session.streams >= bounds.streamsMax)
      )
        return rpcError(
          ...([
            429,
            refused,
            `${running.size} requests of this session are not answered yet.`,
            "Wait for some of them.",
          ] as const),
          asked[0],
        )
      for (const one of asked) running.add(one)
      const response = await transport.handleRequest(request, { parsedBody: body })
      // Refused before it was taken in.
      if (response.status >= 400) for (const one of asked) running.delete(one)
      for (const { method, params } of messages)
        if (method === "notifications/cancelled" && isObject(params)) {
          const cancelled = idOf({ id: params.requestId })
          if (cancelled !== undefined) await cancel(session, cancelled, true)
        }
      return streamed(session, response, asked)
    },
    async close() {
      clearInterval(sweep)
      await Promise.all([...sessions.keys()].map(end))
    },
  }
}
