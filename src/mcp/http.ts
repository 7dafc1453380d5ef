import type { Fault } from "../core/faults.ts"
import type { Invoke } from "../core/invoke.ts"
import type { Principal } from "../core/principal.ts"
import type { Tool } from "../core/tool.ts"
import { instructionsFor } from "./about.ts"
import { boundedResponse, streams, type WholeResponse } from "./bounded-stream.ts"
import { createModernServer, isLegacyRequest, serveModern } from "./modern.ts"
import { rpcError } from "./rpc-error.ts"
import { createMcpServer, type McpParts } from "./server.ts"
import { type Bounds, createSessions, defaultBounds } from "./sessions.ts"
import { createSurface } from "./surface.ts"
import { type ResourceWatch, watchResources } from "./watch.ts"

/**
 * MCP over Streamable HTTP, both eras on one port: whoever listens has authenticated the caller and
 * read the body.
 */

export interface McpHttp {
  /** `body` is a POST's, parsed. */
  handle(request: Request, who: Principal, body: unknown): Promise<Response | WholeResponse>
  sessions(): number
  close(): Promise<void>
}
export interface McpHttpParts {
  readonly tools: readonly Tool[]
  readonly invokeAs: (who: Principal) => Invoke
  readonly version: string
  readonly nowMs: () => number
  readonly bounds?: Bounds
  /** The servers of both eras; tests add to what they have. */
  readonly servers?: {
    readonly legacy: typeof createMcpServer
    readonly modern: (parts: McpParts) => ReturnType<typeof createModernServer>
  }
}

/** Two are the same caller when all that decides about them is the same. */
const ownerOf = (who: Principal): string =>
  JSON.stringify(who.kind === "human" ? [who.kind, who.id, who.role] : [who.kind, who.id, who.uid])

/** A body that could not be read, as JSON-RPC. */
export const unreadable = (fault: Fault): Response =>
  fault.code === "TooLarge"
    ? rpcError(413, -32600, fault.message, fault.next)
    : rpcError(
        fault.message.includes("not said to be JSON") ? 415 : 400,
        -32700,
        fault.message,
        fault.next,
      )

export function createMcpHttp({
  tools,
  invokeAs,
  version,
  nowMs,
  bounds = defaultBounds,
  servers = { legacy: createMcpServer, modern: createModernServer },
}: McpHttpParts): McpHttp {
  const sessions = createSessions(nowMs, bounds)
  /** By owner; only of those who follow something now. */
  const watches = new Map<string, { readonly watch: ResourceWatch; followers: number }>()
  /** Requests of the later era that are not answered yet, by owner. */
  const open = new Map<string, number>()

  /** One look at the timeline for all conversations of a caller. */
  const watchOf = (owner: string, invoke: Invoke): ResourceWatch => ({
    async follow(tell, wanted) {
      const shared = watches.get(owner) ?? { watch: watchResources(invoke), followers: 0 }
      watches.set(owner, shared)
      shared.followers += 1
      const end = await shared.watch.follow(tell, wanted)
      let ended = false
      return () => {
        if (ended) return
        ended = true
        end()
        shared.followers -= 1
        if (shared.followers === 0) watches.delete(owner)
      }
    },
  })
  const partsOf = (who: Principal, owner: string): McpParts => {
    const invoke = invokeAs(who)
    const person = who.kind === "human"
    return {
      surface: createSurface({ tools, invoke, person, watch: watchOf(owner, invoke) }),
      version,
      instructions: instructionsFor(person ? undefined : who.id),
    }
  }

  return {
    async handle(request, who, body) {
      const owner = ownerOf(who)
      if (!["GET", "POST", "DELETE"].includes(request.method))
        return rpcError(405, -32000, `/mcp takes no ${request.method}.`, "Use POST, GET or DELETE.")
      if (await isLegacyRequest(request, body))
        return sessions.serve(owner, request, body, () => servers.legacy(partsOf(who, owner)))
      const count = open.get(owner) ?? 0
      if (count >= bounds.requestsMax)
        return rpcError(
          429,
          -32000,
          `${count} requests of yours are not answered yet.`,
          "Wait for some of them.",
        )
      open.set(owner, count + 1)
      const done = (): void => {
        const left = (open.get(owner) ?? 1) - 1
        if (left > 0) open.set(owner, left)
        else open.delete(owner)
      }
      try {
        const response = await serveModern(request, body, partsOf(who, owner), servers.modern)
        if (streams(response)) return await boundedResponse(response, bounds.streamBytesMax, done)
        done()
        return response
      } catch (error) {
        done()
        throw error
      }
    },
    sessions: sessions.count,
    close: sessions.close,
  }
}
