import {
  type CallToolResult,
  createMcpHandler,
  type InputRequiredResult,
  inputRequired,
  inputResponse,
  isLegacyRequest,
  Server,
  type ServerEventBus,
  type ServerOptions,
} from "@modelcontextprotocol/server"
import { z } from "zod"
import { noProgress } from "../core/tool.ts"
import { clean } from "../core/view.ts"
import { capabilities, serverInfo } from "./about.ts"
import { type Asking, confirmationOf, jsonForm, refusedBy } from "./confirmation.ts"
import type { McpParts } from "./server.ts"
import type { ResourceChange } from "./watch.ts"

/**
 * MCP from 2026-07-28 on, with the second generation of the SDK: no sessions, each request is
 * complete. The only importer of that SDK.
 */

export { isLegacyRequest }

/** Changes only with the program. */
const programMs = 300_000
const cachedLong = { ttlMs: programMs, cacheScope: "private" as const }

const askingSchema = z.object({ attempts: z.int(), atMs: z.number() })
/**
 * The state of the question, as the client returned it. It could be forged, but so could the
 * person's acceptance.
 */
function readAsking(state: unknown): Asking {
  try {
    return askingSchema.parse(JSON.parse(String(state)))
  } catch {
    return { attempts: 0, atMs: Number.NEGATIVE_INFINITY }
  }
}

/** A server for one request, over the same surface as in server.ts. */
export function createModernServer(
  { surface, version, instructions }: McpParts,
  more: Pick<ServerOptions, "requestState"> = {},
): Server {
  const server = new Server(
    { ...serverInfo, version },
    {
      capabilities,
      instructions,
      ...more,
      cacheHints: {
        "tools/list": cachedLong,
        "prompts/list": cachedLong,
        "resources/templates/list": cachedLong,
      },
    },
  )
  server.setRequestHandler("tools/list", () => ({ tools: [...surface.tools] }))
  server.setRequestHandler(
    "tools/call",
    async ({ params }, { mcpReq }): Promise<CallToolResult | InputRequiredResult> => {
      const input = params.arguments ?? {}
      const question = surface.question(params.name, input)
      if (question !== undefined && server.getClientCapabilities()?.elicitation) {
        const answer = inputResponse(mcpReq.inputResponses, "confirm")
        const asking = readAsking(mcpReq.requestState())
        const confirmation =
          answer.kind === "elicit" ? confirmationOf(answer.action, asking) : undefined
        if (confirmation === undefined)
          return inputRequired({
            inputRequests: { confirm: inputRequired.elicit(jsonForm(question)) },
            requestState: JSON.stringify({
              attempts: asking.attempts + 1,
              atMs: performance.now(),
            } satisfies Asking),
          })
        const refused = refusedBy(confirmation, input)
        if (refused) return refused
      }
      const { signal } = mcpReq
      const progressToken = mcpReq._meta?.progressToken
      let last = 0
      const progress = (done: number, message: string): void => {
        if (progressToken === undefined || signal.aborted) return
        last = done > last ? done : last + 0.001
        mcpReq
          .notify({
            method: "notifications/progress",
            params: { progressToken, progress: last, message: clean(message) },
          })
          .catch(() => {})
      }
      return surface.call(params.name, input, {
        signal,
        progress: progressToken === undefined ? noProgress : progress,
      })
    },
  )
  server.setRequestHandler("resources/list", ({ params }, { mcpReq }) =>
    surface.resources.list(params?.cursor, mcpReq.signal),
  )
  server.setRequestHandler("resources/templates/list", () => ({
    resourceTemplates: surface.resourceTemplates,
  }))
  server.setRequestHandler("resources/read", ({ params }, { mcpReq }) =>
    surface.resources.read(params.uri, mcpReq.signal),
  )
  server.setRequestHandler("prompts/list", () => ({ prompts: surface.prompts }))
  server.setRequestHandler("prompts/get", ({ params }, { mcpReq }) =>
    surface.prompt(params.name, params.arguments ?? {}, mcpReq.signal),
  )
  server.setRequestHandler(
    "completion/complete",
    async ({ params: { ref, argument } }, { mcpReq }) => ({
      completion: await surface.complete(
        ref.type === "ref/prompt" ? { prompt: ref.name } : { uriTemplate: ref.uri },
        argument,
        mcpReq.signal,
      ),
    }),
  )
  return server
}

const listenSchema = z.object({
  method: z.literal("subscriptions/listen"),
  params: z.object({
    notifications: z.object({ resourceSubscriptions: z.array(z.string()).max(100).optional() }),
  }),
})

/** Answers one request of this era. */
export async function serveModern(
  request: Request,
  body: unknown,
  parts: McpParts,
  open: (parts: McpParts) => Server,
): Promise<Response> {
  const listen = listenSchema.safeParse(body)
  const serve = (bus?: ServerEventBus): Promise<Response> =>
    createMcpHandler(() => open(parts), { legacy: "reject", ...(bus && { bus }) }).fetch(request, {
      parsedBody: body,
    })
  if (!listen.success) return serve()
  let notify: ((event: Parameters<ServerEventBus["publish"]>[0]) => void) | undefined
  const wanted = listen.data.params.notifications.resourceSubscriptions ?? []
  const end = await parts.surface.watch.follow(
    (change: ResourceChange) =>
      notify?.(
        change === "listed"
          ? { kind: "resources_list_changed" }
          : { kind: "resource_updated", uri: change.uri },
      ),
    () => wanted,
  )
  try {
    return await serve({
      publish: () => {},
      subscribe(listener) {
        notify = listener
        return () => {
          notify = undefined
          end()
        }
      },
    })
  } finally {
    // It was refused or failed, so nobody listens.
    if (!notify) end()
  }
}
