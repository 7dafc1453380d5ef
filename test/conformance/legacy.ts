import type { ElicitRequestFormParams } from "@modelcontextprotocol/sdk/types.js"
import {
  CallToolRequestSchema,
  CreateMessageResultSchema,
  ElicitResultSchema,
  SetLevelRequestSchema,
} from "@modelcontextprotocol/sdk/types.js"
import { createMcpServer, type LegacyMcpServer, type McpParts } from "../../src/mcp/server.ts"
import { type Said, say, type ToolFixture, withFixtures } from "./fixtures.ts"

/**
 * The real server of clients up to 2025-11-25, with the fixtures that ask their client for
 * something in the middle of a call.
 */

type Properties = ElicitRequestFormParams["requestedSchema"]["properties"]
const titled = (...names: string[]) =>
  names.map((title, index) => ({ const: `value${index + 1}`, title }))
const options = ["option1", "option2", "option3"]
const text = (name: string): NonNullable<ToolFixture["schema"]> => ({
  type: "object",
  properties: { [name]: { type: "string" } },
  required: [name],
})

const asking: Readonly<Record<string, ToolFixture>> = {
  test_tool_with_logging: { description: "Logs." },
  test_reconnection: { description: "Cuts its stream before it answers." },
  test_sampling: { description: "Asks the client's model.", schema: text("prompt") },
  test_elicitation: { description: "Asks the person.", schema: text("message") },
  test_elicitation_sep1034_defaults: { description: "A form with defaults." },
  test_elicitation_sep1330_enums: { description: "A form with every kind of choice." },
}

export function legacyWithFixtures(parts: McpParts): LegacyMcpServer {
  const surface = withFixtures(parts.surface, { tools: asking })
  const server = createMcpServer({ ...parts, surface })
  // Deprecated, and no part of the fleet; the suites before 2026 ask for it.
  server.registerCapabilities({ logging: {} })
  server.setRequestHandler(SetLevelRequestSchema, () => ({}))
  const inner = Reflect.get(server, "_requestHandlers") as Map<
    string,
    (request: unknown, extra: unknown) => Promise<Said>
  > // the real handler, which the fixtures stand before
  const real = inner.get("tools/call")

  server.setRequestHandler(CallToolRequestSchema, async (request, extra): Promise<Said> => {
    const { name, arguments: input = {} } = request.params
    const elicit = async (
      message: string,
      properties: Properties,
      required: string[] = [],
    ): Promise<Said> => {
      const params = {
        mode: "form" as const,
        message,
        requestedSchema: { type: "object" as const, properties, required },
      }
      const { action, content } = await extra.sendRequest(
        { method: "elicitation/create", params },
        ElicitResultSchema,
      )
      return say(`User response: action=${action}, content=${JSON.stringify(content ?? {})}`)
    }
    switch (name) {
      case "test_tool_with_logging":
        for (const data of ["started", "processing", "completed"])
          await extra.sendNotification({
            method: "notifications/message",
            params: { level: "info", data: `Tool ${data}` },
          })
        return say("Tool with logging executed successfully")
      case "test_reconnection":
        extra.closeSSEStream?.()
        await new Promise((resolve) => setTimeout(resolve, 100))
        return say("Reconnection test completed successfully.")
      case "test_sampling": {
        const messages = [
          { role: "user" as const, content: { type: "text" as const, text: String(input.prompt) } },
        ]
        const asked = {
          method: "sampling/createMessage" as const,
          params: { messages, maxTokens: 100 },
        }
        const { content } = await extra.sendRequest(asked, CreateMessageResultSchema)
        return say(`LLM response: ${JSON.stringify(content)}`)
      }
      case "test_elicitation":
        return elicit(
          String(input.message),
          { response: { type: "string", description: "What you say" } },
          ["response"],
        )
      case "test_elicitation_sep1034_defaults":
        return elicit("Review the fields.", {
          name: { type: "string", default: "John Doe" },
          age: { type: "integer", default: 30 },
          score: { type: "number", default: 95.5 },
          status: { type: "string", enum: ["active", "inactive", "pending"], default: "active" },
          verified: { type: "boolean", default: true },
        })
      case "test_elicitation_sep1330_enums":
        return elicit("Choose.", {
          untitledSingle: { type: "string", enum: options },
          titledSingle: { type: "string", oneOf: titled("First", "Second", "Third") },
          legacyEnum: {
            type: "string",
            enum: ["opt1", "opt2", "opt3"],
            enumNames: ["One", "Two", "Three"],
          },
          untitledMulti: {
            type: "array",
            minItems: 1,
            maxItems: 3,
            items: { type: "string", enum: options },
          },
          titledMulti: {
            type: "array",
            minItems: 1,
            maxItems: 3,
            items: { anyOf: titled("First", "Second", "Third") },
          },
        })
      default:
        if (!real) throw new Error("the real server has no tools")
        return real(request, extra)
    }
  })
  return server
}
