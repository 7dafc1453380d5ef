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

/** MCP up to 2025-11-25, by the first generation of the SDK. */

export type LegacyMcpServer = Server
export interface McpParts {
  readonly surface: Surface
  readonly version: string
  readonly instructions: string
}

/**
 * More than anybody looks at; each costs a set entry, and those of logs a look every two seconds.
 */
const subscriptionsMax = 100

/** Puts the question to the person at the client. */
async function confirm(
  server: Server,
  question: string,
  options: { readonly signal: AbortSignal; readonly relatedRequestId: RequestId },
): Promise<Confirmation> {
  for (let asked = 1; ; asked++) {
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
      const confirmation = confirmationOf(action, { asked, atMs })
      if (confirmation !== undefined) return confirmation
    } catch (error) {
      const isUnknownMethod = error instanceof McpError && error.code === ErrorCode.MethodNotFound
      return isUnknownMethod ? "unasked" : "silence"
    }
  }
}

/** An MCP server over a surface; whoever has a transport connects it. */
export function createMcpServer({ surface, version, instructions }: McpParts): LegacyMcpServer {
  const server = new Server({ ...serverInfo, version }, { capabilities, instructions })
  const subscribed = new Set<string>()
  let following: Promise<() => void> | undefined

  const tell = (change: ResourceChange): void => {
    const told =
      change === "listed"
        ? server.sendResourceListChanged()
        : subscribed.has(change.uri)
          ? server.sendResourceUpdated({ uri: change.uri })
          : undefined
    // Who is gone is not told.
    told?.catch(() => {})
  }
  /** From the first look at resources on: a client that never looks has nothing to be told. */
  const follow = (): Promise<unknown> => {
    following ??= surface.watch.follow(tell, () => subscribed)
    return following
  }
  server.onclose = () => void following?.then((end) => end())

  server.setRequestHandler(ListToolsRequestSchema, () => ({ tools: [...surface.tools] }))
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
        // The protocol wants every notification above the one before, also where only the message
        // changed.
        last = done > last ? done : last + 0.001
        const told = sendNotification({
          method: "notifications/progress",
          params: { progressToken, progress: last, message: clean(message) },
        })
        // A client that is gone cancels the call itself.
        told.catch(() => {})
      }
      return surface.call(params.name, input, {
        signal,
        progress: progressToken === undefined ? noProgress : progress,
      })
    },
  )

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
        `${subscriptionsMax} resources are subscribed to already: unsubscribe from one.`,
      )
    // What one may not see is not there, and is not told of.
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
