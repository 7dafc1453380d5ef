import type { WholeResponse } from "./bounded-stream.ts"
import { type Bounds, defaultBounds } from "./bounds.ts"
import {
  answerInSession,
  beginSession,
  type HttpSession,
  isIdle,
  rpcMessages,
  type SessionParts,
} from "./http-session.ts"
import { requestRefused, rpcError } from "./rpc-error.ts"
import type { LegacyMcpServer } from "./server.ts"

/**
 * All sessions of clients up to 2025-11-25: whose each is, how many there may be, when they end.
 */

export interface Sessions {
  /** Answers one request; `open` creates the server of a new session. */
  serve(
    owner: string,
    request: Request,
    body: unknown,
    open: () => LegacyMcpServer,
  ): Promise<Response | WholeResponse>
  count(): number
  /** Ends all, including their streams. */
  close(): Promise<void>
}

/** The code that MCP and the SDK use for this. */
const sessionNotFound = -32001
const sweepMs = 60_000

export function createSessions(nowMs: () => number, bounds: Bounds = defaultBounds): Sessions {
  /** By id, least recently used first. */
  const sessions = new Map<string, HttpSession>()
  const parts: SessionParts = {
    bounds,
    nowMs,
    opened: (id, session) => void sessions.set(id, session),
    closed: (id) => void sessions.delete(id),
  }
  const end = async (id: string): Promise<void> => {
    const session = sessions.get(id)
    sessions.delete(id)
    clearTimeout(session?.giveUp)
    await session?.transport.close()
  }
  const sweep = setInterval(
    () => {
      for (const [id, session] of sessions)
        if (isIdle(session) && nowMs() - session.usedAtMs >= bounds.idleMs) void end(id)
    },
    Math.min(sweepMs, bounds.idleMs),
  )
  sweep.unref()

  /** Makes room for one more; false when no session that could end is idle. */
  const makeRoom = async (owner: string): Promise<boolean> => {
    const own = [...sessions.values()].filter((session) => session.owner === owner).length
    if (own < bounds.perPrincipalMax && sessions.size < bounds.max) return true
    // Whoever has too many loses one of their own, never somebody else's.
    const onlyOwn = own >= bounds.perPrincipalMax
    for (const [id, session] of sessions)
      if (isIdle(session) && (!onlyOwn || session.owner === owner)) {
        await end(id)
        return true
      }
    return false
  }

  return {
    count: () => sessions.size,
    async serve(owner, request, body, open) {
      const id = request.headers.get("mcp-session-id")
      const messages = rpcMessages(body)
      const session = id === null ? undefined : sessions.get(id)
      // A client that starts over may still name the session that it lost.
      if (
        session?.owner !== owner &&
        request.method === "POST" &&
        messages.some(({ method }) => method === "initialize")
      )
        return (await makeRoom(owner))
          ? beginSession(owner, request, body, open(), parts)
          : rpcError(
              429,
              requestRefused,
              "Too many sessions are in use.",
              "End one with DELETE, or try again later.",
            )
      if (id === null)
        return rpcError(
          400,
          requestRefused,
          "The Mcp-Session-Id header is missing.",
          "Send initialize first, then use the session id from its answer.",
        )
      // The answer is the same for another principal's session, so nobody learns which ids exist.
      if (session?.owner !== owner)
        return rpcError(
          404,
          sessionNotFound,
          "Session not found.",
          "Start one with initialize.",
          messages[0]?.id,
        )
      session.usedAtMs = nowMs()
      sessions.delete(id)
      sessions.set(id, session)
      return answerInSession(session, request, body, parts)
    },
    async close() {
      clearInterval(sweep)
      await Promise.all([...sessions.keys()].map(end))
    },
  }
}
