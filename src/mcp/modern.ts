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
 * MCP from 2026-07-28 on, by the second generation of the SDK: no sessions, each request says all.
 * The only importer of that SDK.
 */

export { isLegacyRequest }

/** What changes with the program alone. */
const programMs = 300_000
const lasting = { ttlMs: programMs, cacheScope: "private" as const }

const askingSchema = z.object({ asked: z.int(), atMs: z.number() })
/**
 * What the client sent back of its question. It could be forged, but so could the person's
 * acceptance.
 */
function askingOf(state: unknown): Asking {
  try {
    return askingSchema.parse(JSON.parse(String(state)))
  } catch {
    return { asked: 0, atMs: Number.NEGATIVE_INFINITY }
  }
}

/** A server for one request over the same surface as server.ts's. */
export function createModernServer(
  { surface, version, instructions }: McpParts,
  more: Pick<ServerOptions, "requestState"> = {},
): Server {
  const server = new Server(
    { ...serverInfo, version },
    {
      ...{ capabilities, instructions, ...more },
      cacheHints: {
        "tools/list": lasting,
        "prompts/list": lasting,
        "resources/templates/list": lasting,
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
        const asking = askingOf(mcpReq.requestState())
        const confirmation =
          answer.kind === "elicit" ? confirmationOf(answer.action, asking) : undefined
        if (confirmation === undefined)
          return inputRequired({
            inputRequests: { confirm: inputRequired.elicit(jsonForm(question)) },
            requestState: JSON.stringify({
              asked: asking.asked + 1,
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

/** Answers one request of that era. */
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
  let tell: ((event: Parameters<ServerEventBus["publish"]>[0]) => void) | undefined
  const wanted = listen.data.params.notifications.resourceSubscriptions ?? []
  const end = await parts.surface.watch.follow(
    (change: ResourceChange) =>
      tell?.(
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
        tell = listener
        return () => {
          tell = undefined
          end()
        }
      },
    })
  } finally {
    // Refused, or failed: nobody listens.
    if (!tell) end()
  }
}
