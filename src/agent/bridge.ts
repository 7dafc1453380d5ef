import { randomUUID } from "node:crypto"
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js"
import { WebStandardStreamableHTTPServerTransport } from "@modelcontextprotocol/sdk/server/webStandardStreamableHttp.js"
import type { Transport } from "@modelcontextprotocol/sdk/shared/transport.js"
import type { StdioServer } from "../core/mcp-servers.ts"

/**
 * MCP servers that are programs, offered over HTTP, message by message: an agent uses them without seeing their environment. One process for
 * each session, as claude would start it itself: a server is initialized once.
 */
export interface Bridges {
  /** A request of the Streamable HTTP transport. */
  handle(request: Request, server: StdioServer & { readonly cwd: string }): Promise<Response>
  /** Ends all processes. */
  close(): Promise<void>
}
/** Sessions at once: an iteration has one for each server, and one more for each time that claude connects again. */
const sessionsMax = 32
/** One message of a program. */
const messageBytesMax = 32 * 1024 * 1024

const refused = (status: number, message: string): Response =>
  Response.json({ jsonrpc: "2.0", error: { code: -32000, message }, id: null }, { status })

export function createBridges(): Bridges {
  const sessions = new Map<string, { near: WebStandardStreamableHTTPServerTransport; close(): Promise<void> }>()
  const open = new Set<() => Promise<void>>()

  const begin = async ({ command, args, env, cwd }: StdioServer & { readonly cwd: string }) => {
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
    const close = async (): Promise<void> => {
      if (!open.delete(close)) return
      if (near.sessionId !== undefined) sessions.delete(near.sessionId)
      await Promise.allSettled([far.close(), near.close()])
    }
    open.add(close)
    const over = (): void => void close()
    far.onmessage = (message) => void near.send(message).catch(() => {}) // nobody listens any more
    near.onmessage = (message) => void far.send(message).catch(over)
    far.onclose = over
    near.onclose = over
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
    async handle(request, server) {
      const id = request.headers.get("mcp-session-id")
      const known = id === null ? undefined : sessions.get(id)
      if (known) return known.near.handleRequest(request)
      if (id !== null) return refused(404, "The session is over: initialize again.")
      if (open.size >= sessionsMax) return refused(503, `There are ${sessionsMax} sessions already.`)
      try {
        const { near, close } = await begin(server)
        const response = await near.handleRequest(request)
        // Whatever came first was no initialize: nothing else may begin a session.
        if (near.sessionId === undefined) await close()
        return response
      } catch (error) {
        return refused(503, `The program could not be started (${error instanceof Error ? error.message : error}).`)
      }
    },
    async close() {
      await Promise.all([...open].map((one) => one()))
    },
  }
}
