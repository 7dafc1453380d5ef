import { randomUUID } from "node:crypto"
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js"
import { WebStandardStreamableHTTPServerTransport } from "@modelcontextprotocol/sdk/server/webStandardStreamableHttp.js"
import type { Transport } from "@modelcontextprotocol/sdk/shared/transport.js"
import type { RequestId } from "@modelcontextprotocol/sdk/types.js"
import type { StartedServer } from "./server-program.ts"

/**
 * MCP servers that are programs, offered over HTTP, message by message: an agent uses them without
 * seeing their environment. One process for each session, as claude would start it itself: a server
 * is initialized once.
 */
export interface Bridges {
  /**
   * A request of the Streamable HTTP transport. A new session gets what `prepare` makes for it, and
   * takes it away at its end.
   */
  handle(request: Request, prepare: () => StartedServer): Promise<Response>
  /** Ends all their processes. */
  close(): Promise<void>
}
/** Sessions at once: an iteration has one for each server, and one more for each reconnect. */
const sessionsMax = 32
/** The longest message that a program may write. */
const messageBytesMax = 32 * 1024 * 1024

const refusal = (status: number, message: string): Response =>
  Response.json({ jsonrpc: "2.0", error: { code: -32000, message }, id: null }, { status })

export function createBridges(): Bridges {
  const sessions = new Map<
    string,
    { near: WebStandardStreamableHTTPServerTransport; close(): Promise<void> }
  >()
  const open = new Set<() => Promise<void>>()

  const begin = async ({ program, remove }: StartedServer) => {
    const { command, args, env, cwd } = program
    const far: Transport = new StdioClientTransport({
      command,
      args,
      cwd,
      env,
      stderr: "ignore", // what it writes there might be a secret
      maxBufferSize: messageBytesMax,
    })
    const near = new WebStandardStreamableHTTPServerTransport({
      sessionIdGenerator: randomUUID,
      onsessioninitialized: (id) => void sessions.set(id, { near, close }),
    })
    const unanswered = new Set<RequestId>()
    const answerEnded = (id: RequestId): Promise<void> =>
      near.send({
        jsonrpc: "2.0",
        id,
        error: { code: -32000, message: "The program of this MCP server has exited." },
      })
    let ended = false
    const close = async (): Promise<void> => {
      if (!open.delete(close)) return
      ended = true
      if (near.sessionId !== undefined) sessions.delete(near.sessionId)
      await Promise.allSettled([...unanswered].map(answerEnded))
      await Promise.allSettled([far.close(), near.close()])
      remove()
    }
    open.add(close)
    // What could not be removed now, the next session removes.
    const end = (): void => void close().catch(() => {})
    far.onmessage = (message) => {
      if ("id" in message && message.id !== undefined && !("method" in message))
        unanswered.delete(message.id)
      void near.send(message).catch(() => {}) // nobody listens any more
    }
    near.onmessage = (message) => {
      const request = "method" in message && "id" in message ? message.id : undefined
      // A program that exited at once leaves nobody who would answer.
      if (request !== undefined && ended) return void answerEnded(request).catch(() => {})
      if (request !== undefined) unanswered.add(request)
      void far.send(message).catch(end)
    }
    far.onclose = end
    near.onclose = end
    try {
      await far.start()
      await near.start()
    } catch (error) {
      await close()
      throw error
    }
    return { near, close }
  }

  return {
    async handle(request, prepare) {
      const id = request.headers.get("mcp-session-id")
      const known = id === null ? undefined : sessions.get(id)
      if (known) return known.near.handleRequest(request)
      if (id !== null) return refusal(404, "This session has ended: initialize again.")
      if (open.size >= sessionsMax)
        return refusal(503, `There are already ${sessionsMax} sessions.`)
      try {
        const { near, close } = await begin(prepare())
        const response = await near.handleRequest(request)
        // The first message was not initialize, which alone may begin a session.
        if (near.sessionId === undefined) await close()
        return response
      } catch (error) {
        return refusal(
          503,
          `The program could not be started (${error instanceof Error ? error.message : error}).`,
        )
      }
    },
    async close() {
      await Promise.all([...open].map((one) => one()))
    },
  }
}
