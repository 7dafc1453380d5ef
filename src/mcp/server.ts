import { Server } from "@modelcontextprotocol/sdk/server/index.js"
import {
  CallToolRequestSchema,
  type CallToolResult,
  CompleteRequestSchema,
  ElicitResultSchema,
  ErrorCode,
  GetPromptRequestSchema,
  ListPromptsRequestSchema,
  ListResourcesRequestSchema,
  ListResourceTemplatesRequestSchema,
  ListToolsRequestSchema,
  McpError,
  ReadResourceRequestSchema,
  type RequestId,
  SubscribeRequestSchema,
  UnsubscribeRequestSchema,
} from "@modelcontextprotocol/sdk/types.js"
import { noProgress } from "../core/tool.ts"
import { clean } from "../core/view.ts"
import { capabilities, serverInfo } from "./about.ts"
import {
  type Confirmation,
  confirmationOf,
  confirmMs,
  jsonForm,
  refusedBy,
} from "./confirmation.ts"
import { invalidParams, Refusal } from "./refusal.ts"
import type { Surface } from "./surface.ts"
import type { ResourceChange } from "./watch.ts"

/** MCP up to 2025-11-25, with the first generation of the SDK. */

export type LegacyMcpServer = Server
export interface McpParts {
  readonly surface: Surface
  readonly version: string
  readonly instructions: string
}

/** More than anybody needs. Each costs a set entry, and each log a read every two seconds. */
const subscriptionsMax = 100

/** Asks the person at the client. */
async function confirm(
  server: Server,
  question: string,
  options: { readonly signal: AbortSignal; readonly relatedRequestId: RequestId },
): Promise<Confirmation> {
  for (let attempts = 1; ; attempts++) {
    const atMs = performance.now()
    try {
      const { action } = await server.request(
        { method: "elicitation/create", params: jsonForm(question) },
        ElicitResultSchema,
        {
          timeout: confirmMs,
          ...options,
        },
      )
      const confirmation = confirmationOf(action, { attempts, atMs })
      if (confirmation !== undefined) return confirmation
    } catch (error) {
      const isUnknownMethod = error instanceof McpError && error.code === ErrorCode.MethodNotFound
      return isUnknownMethod ? "unasked" : "silence"
    }
  }
}

/** An MCP server over a surface. The caller connects it to a transport. */
export function createMcpServer({ surface, version, instructions }: McpParts): LegacyMcpServer {
  const server = new Server({ ...serverInfo, version }, { capabilities, instructions })
  const subscribed = new Set<string>()
  let following: Promise<() => void> | undefined

  const notify = (change: ResourceChange): void => {
    const sent = notification(change)
    // A client that is gone is not notified.
    sent?.catch(() => {})
  }
  const notification = (change: ResourceChange): Promise<void> | undefined => {
    if (change === "listed") return server.sendResourceListChanged()
    if (!subscribed.has(change.uri)) return undefined
    return server.sendResourceUpdated({ uri: change.uri })
  }
  /** Starts when the client first looks at resources; a client that never does costs nothing. */
  const follow = (): Promise<unknown> => {
    following ??= surface.watch.follow(notify, () => subscribed)
    return following
  }
  server.onclose = () => void following?.then((end) => end())

  server.setRequestHandler(ListToolsRequestSchema, () => ({ tools: [...surface.tools] }))
  handleCalls(server, surface)

  server.setRequestHandler(ListResourcesRequestSchema, async ({ params }, { signal }) => {
    void follow()
    return surface.resources.list(params?.cursor, signal)
  })
  server.setRequestHandler(ListResourceTemplatesRequestSchema, () => ({
    resourceTemplates: surface.resourceTemplates,
  }))
  server.setRequestHandler(ReadResourceRequestSchema, ({ params }, { signal }) =>
    surface.resources.read(params.uri, signal),
  )
  server.setRequestHandler(SubscribeRequestSchema, async ({ params: { uri } }, { signal }) => {
    if (subscribed.size >= subscriptionsMax && !subscribed.has(uri))
      throw new Refusal(
        invalidParams,
        `You are already subscribed to ${subscriptionsMax} resources. Unsubscribe from one first.`,
      )
    // A caller must not follow what it may not see: for it, that does not exist.
    await surface.resources.read(uri, signal)
    await follow()
    subscribed.add(uri)
    return {}
  })
  server.setRequestHandler(UnsubscribeRequestSchema, ({ params: { uri } }) => {
    subscribed.delete(uri)
    return {}
  })

  server.setRequestHandler(ListPromptsRequestSchema, () => ({ prompts: surface.prompts }))
  server.setRequestHandler(GetPromptRequestSchema, ({ params }, { signal }) =>
    surface.prompt(params.name, params.arguments ?? {}, signal),
  )
  server.setRequestHandler(
    CompleteRequestSchema,
    async ({ params: { ref, argument } }, { signal }) => ({
      completion: await surface.complete(
        ref.type === "ref/prompt" ? { prompt: ref.name } : { uriTemplate: ref.uri },
        argument,
        signal,
      ),
    }),
  )
  return server
}

function handleCalls(server: LegacyMcpServer, surface: Surface): void {
  server.setRequestHandler(
    CallToolRequestSchema,
    async ({ params }, { signal, sendNotification, requestId }): Promise<CallToolResult> => {
      const input = params.arguments ?? {}
      const question = surface.question(params.name, input)
      if (question !== undefined && server.getClientCapabilities()?.elicitation?.form) {
        const refused = refusedBy(
          await confirm(server, question, { signal, relatedRequestId: requestId }),
          input,
        )
        if (refused) return refused
      }
      const progressToken = params._meta?.progressToken
      let last = 0
      const progress = (done: number, message: string): void => {
        if (progressToken === undefined || signal.aborted) return
        // The protocol wants a growing number, even when only the message changed.
        last = done > last ? done : last + 0.001
        const sent = sendNotification({
          method: "notifications/progress",
          params: { progressToken, progress: last, message: clean(message) },
        })
        // The SDK cancels the call itself when its client is gone.
        sent.catch(() => {})
      }
      return surface.call(params.name, input, {
        signal,
        progress: progressToken === undefined ? noProgress : progress,
      })
    },
  )
}
