import type { Fault } from "../core/faults.ts"
import type { Invoke } from "../core/invoke.ts"
import type { Principal } from "../core/principal.ts"
import type { Tool } from "../core/tool.ts"
import { instructionsFor } from "./about.ts"
import { boundedResponse, streams, type WholeResponse } from "./bounded-stream.ts"
import { type Bounds, defaultBounds } from "./bounds.ts"
import { createModernServer, isLegacyRequest, serveModern } from "./modern.ts"
import { requestRefused, rpcError } from "./rpc-error.ts"
import { createMcpServer, type McpParts } from "./server.ts"
import { createSessions } from "./sessions.ts"
import { createSurface } from "./surface.ts"
import { type ResourceWatch, watchResources } from "./watch.ts"

/**
 * MCP over Streamable HTTP, both eras of the protocol on one port. The listener has authenticated
 * the caller and read the body.
 */

export interface McpHttp {
  /** `body`: of a POST, parsed. */
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
  /** The servers of both eras; tests add tools to them. */
  readonly servers?: {
    readonly legacy: typeof createMcpServer
    readonly modern: (parts: McpParts) => ReturnType<typeof createModernServer>
  }
}

/** Two callers are the same when everything that decides about them is the same. */
const ownerKey = (who: Principal): string =>
  JSON.stringify(who.kind === "human" ? [who.kind, who.id, who.role] : [who.kind, who.id, who.uid])

/** The answer to a body that could not be read, as JSON-RPC. */
export function unreadableBody({ code, message, next }: Fault, isJson: boolean): Response {
  if (code === "TooLarge") return rpcError(413, -32600, message, next)
  return rpcError(isJson ? 400 : 415, -32700, message, next)
}

export function createMcpHttp({
  tools,
  invokeAs,
  version,
  nowMs,
  bounds = defaultBounds,
  servers = { legacy: createMcpServer, modern: createModernServer },
}: McpHttpParts): McpHttp {
  const sessions = createSessions(nowMs, bounds)
  /** By owner, as long as somebody follows. */
  const watches = new Map<string, { readonly watch: ResourceWatch; followers: number }>()
  /** The number of unanswered requests of the later era, by owner. */
  const unanswered = new Map<string, number>()

  /** All conversations of a caller share one loop over the timeline. */
  const sharedWatch = (owner: string, invoke: Invoke): ResourceWatch => ({
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
  const serverParts = (who: Principal, owner: string): McpParts => {
    const invoke = invokeAs(who)
    const person = who.kind === "human"
    return {
      surface: createSurface({ tools, invoke, person, watch: sharedWatch(owner, invoke) }),
      version,
      instructions: instructionsFor(person ? undefined : who.id),
    }
  }

  return {
    async handle(request, who, body) {
      const owner = ownerKey(who)
      if (!["GET", "POST", "DELETE"].includes(request.method))
        return rpcError(
          405,
          requestRefused,
          `/mcp does not support ${request.method}.`,
          "Use POST, GET or DELETE.",
        )
      if (await isLegacyRequest(request, body))
        return sessions.serve(owner, request, body, () => servers.legacy(serverParts(who, owner)))
      const count = unanswered.get(owner) ?? 0
      if (count >= bounds.requestsMax)
        return rpcError(
          429,
          requestRefused,
          `You have ${count} unanswered requests.`,
          "Wait for some of them.",
        )
      unanswered.set(owner, count + 1)
      const done = (): void => {
        const left = (unanswered.get(owner) ?? 1) - 1
        if (left > 0) unanswered.set(owner, left)
        else unanswered.delete(owner)
      }
      try {
        const response = await serveModern(request, body, serverParts(who, owner), servers.modern)
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
