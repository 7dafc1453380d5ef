import { randomBytes } from "node:crypto"
import {
  type CallToolResult,
  createRequestStateCodec,
  type InputRequests,
  type InputRequiredResult,
  inputRequired,
  inputResponse,
  type Server,
  type ServerContext,
} from "@modelcontextprotocol/server"
import { createModernServer } from "../../src/mcp/modern.ts"
import type { McpParts } from "../../src/mcp/server.ts"
import { say, type ToolFixture, withFixtures } from "./fixtures.ts"

/** The real server of 2026-07-28, with the fixtures that need more than one round. */

const form = (message: string, name: string, type: "string" | "boolean" = "string") =>
  inputRequired.elicit({
    message,
    requestedSchema: {
      type: "object",
      properties: { [name]: type === "string" ? { type: "string" } : { type: "boolean" } },
      required: [name],
    },
  })
const sample = (prompt: string) =>
  inputRequired.createMessage({
    messages: [{ role: "user", content: { type: "text", text: prompt } }],
    maxTokens: 100,
  })

const states = createRequestStateCodec<{ round: number }>({ key: randomBytes(32) })

/** For each tool, what it asks in each round, and whether it gives a state along. */
const rounds: Readonly<
  Record<string, { ask: readonly (() => InputRequests)[]; stateful?: boolean }>
> = {
  test_input_required_result_elicitation: {
    ask: [() => ({ user_name: form("What is your name?", "name") })],
  },
  test_input_required_result_sampling: {
    ask: [() => ({ capital_question: sample("What is the capital of France?") })],
  },
  test_input_required_result_list_roots: {
    ask: [() => ({ client_roots: inputRequired.listRoots() })],
  },
  test_input_required_result_request_state: {
    ask: [() => ({ confirm: form("Please confirm", "ok", "boolean") })],
    stateful: true,
  },
  test_input_required_result_multiple_inputs: {
    ask: [
      () => ({
        user_name: form("What is your name?", "name"),
        greeting: sample("Generate a greeting"),
        client_roots: inputRequired.listRoots(),
      }),
    ],
    stateful: true,
  },
  test_input_required_result_multi_round: {
    ask: [
      () => ({ step1: form("Step 1: What is your name?", "name") }),
      () => ({ step2: form("Step 2: What is your favorite color?", "color") }),
    ],
    stateful: true,
  },
  test_input_required_result_tampered_state: {
    ask: [() => ({ confirm: form("Please confirm", "ok", "boolean") })],
    stateful: true,
  },
  test_missing_capability: { ask: [() => ({ sample: sample("Hello") })] },
  test_streaming_elicitation: { ask: [() => ({ user_name: form("What is your name?", "name") })] },
}
const tools: Readonly<Record<string, ToolFixture>> = Object.fromEntries(
  [...Object.keys(rounds), "test_input_required_result_capabilities", "test_logging_tool"].map(
    (name) => [name, { description: "Needs input." }],
  ),
)
const prompt = "test_input_required_result_prompt"

async function play(
  name: string,
  ctx: ServerContext,
): Promise<CallToolResult | InputRequiredResult> {
  const { ask, stateful = false } = rounds[name] ?? { ask: [] }
  const { inputResponses, requestState } = ctx.mcpReq
  const at = requestState<{ round: number }>()?.round ?? 0
  const answered = (round: number): boolean =>
    Object.keys(ask[round]?.() ?? {}).every((key) => {
      const answer = inputResponse(inputResponses, key)
      return (
        answer.kind !== "missing" &&
        !(answer.kind === "elicit" && answer.action === "accept" && !whole(answer.content))
      )
    })
  const next = answered(at) && (!stateful || requestState() !== undefined) ? at + 1 : at
  const inputRequests = ask[next]?.()
  if (!inputRequests)
    return say(stateful ? "state-ok: all rounds are done" : "done") as CallToolResult
  return inputRequired({
    inputRequests,
    ...(stateful && { requestState: await states.mint({ round: next }, ctx) }),
  })
}
/** A form's answer that has something of the right kind in it. */
const whole = (content: Record<string, unknown> | undefined): boolean =>
  Object.values(content ?? {}).some(
    (value) => typeof value === "string" || typeof value === "boolean",
  )

export function modernWithFixtures(parts: McpParts): Server {
  const listed = { name: prompt, title: prompt, description: "Needs input.", arguments: [] }
  const surface = withFixtures(parts.surface, { tools, prompts: [listed] })
  const server = createModernServer(
    { ...parts, surface },
    { requestState: { verify: states.verify } },
  )
  const inner = Reflect.get(server, "_requestHandlers") as Map<
    string,
    (request: unknown, ctx: ServerContext) => Promise<never>
  > // the real handlers, which the fixtures stand before
  const [call, get] = [inner.get("tools/call"), inner.get("prompts/get")]
  if (!call || !get) throw new Error("the real server has no tools or no prompts")

  server.setRequestHandler("tools/call", async (request, ctx) => {
    const { name } = request.params
    if (name === "test_logging_tool") {
      await ctx.mcpReq.log("info", "working")
      return say("logged") as CallToolResult
    }
    if (name === "test_input_required_result_capabilities") {
      const { inputResponses } = ctx.mcpReq
      if (inputResponses && Object.keys(inputResponses).length > 0)
        return say("done") as CallToolResult
      const declared = server.getClientCapabilities()
      return inputRequired({
        inputRequests: {
          ...(declared?.elicitation && { user_name: form("What is your name?", "name") }),
          ...(declared?.sampling && { sample: sample("Hello") }),
          ...(declared?.roots && { client_roots: inputRequired.listRoots() }),
        },
      })
    }
    return rounds[name] ? play(name, ctx) : call(request, ctx)
  })
  server.setRequestHandler("prompts/get", async (request, ctx) => {
    if (request.params.name !== prompt) return get(request, ctx)
    const answer = inputResponse(ctx.mcpReq.inputResponses, "user_context")
    if (answer.kind !== "elicit")
      return inputRequired({ inputRequests: { user_context: form("What context?", "context") } })
    return {
      messages: [{ role: "user", content: { type: "text", text: JSON.stringify(answer.content) } }],
    }
  })
  return server
}
