import { Server } from "@modelcontextprotocol/sdk/server/index.js"
import {
  CallToolRequestSchema,
  type CallToolResult,
  ErrorCode,
  ListToolsRequestSchema,
  type ListToolsResult,
  McpError,
} from "@modelcontextprotocol/sdk/types.js"
import { asFault } from "../core/faults.ts"
import type { Invoke } from "../core/invoke.ts"
import { noProgress, type Row, type Tool } from "../core/tool.ts"
import { clean } from "../core/view.ts"
import { capabilities, serverInfo } from "./about.ts"
import { schemaOf } from "./schema.ts"

export interface McpParts {
  readonly tools: readonly Tool[]
  /** Of the one caller whose conversation this is. */
  readonly invoke: Invoke
  readonly version: string
  readonly instructions: string
}

/** Rows as lines that people can read without a fixed-width font. */
const linesOf = (rows: readonly Row[]): string =>
  rows
    .map((row) =>
      Object.entries(row)
        .filter(([, value]) => value !== "")
        .map(([name, value]) => `${name}: ${value}`)
        .join(", "),
    )
    .join("\n")

/** An MCP server over the tools; whoever has a transport connects it. Tools of the set `admin` are not among them. */
export function createMcpServer({ tools: all, invoke, version, instructions }: McpParts): Server {
  const tools = new Map(all.filter(({ toolset }) => toolset !== "admin").map((tool) => [tool.name, tool]))
  let list: ListToolsResult | undefined
  const listed = (): ListToolsResult => ({
    tools: [...tools.values()].map(({ name, title, description, input, output, hints }) => ({
      name,
      title,
      description,
      inputSchema: schemaOf(input, "input"),
      outputSchema: schemaOf(output, "output"),
      annotations: { title, ...hints },
    })),
  })
  const server = new Server({ ...serverInfo, version }, { capabilities, instructions })

  server.setRequestHandler(ListToolsRequestSchema, () => {
    list ??= listed()
    return list
  })
  server.setRequestHandler(CallToolRequestSchema, async ({ params }, { signal, sendNotification }): Promise<CallToolResult> => {
    const tool = tools.get(params.name)
    if (!tool) throw new McpError(ErrorCode.InvalidParams, `Unknown tool: ${params.name.slice(0, 80)}`)
    const progressToken = params._meta?.progressToken
    let last = 0
    const progress = (done: number, message: string): void => {
      if (progressToken === undefined || signal.aborted) return
      // The protocol wants every notification above the one before, also where only the message changed.
      last = done > last ? done : last + 0.001
      const told = sendNotification({
        method: "notifications/progress",
        params: { progressToken, progress: last, message: clean(message) },
      })
      // A client that is gone cancels the call itself.
      told.catch(() => {})
    }
    try {
      const output = await invoke(tool.name, params.arguments ?? {}, {
        signal,
        progress: progressToken === undefined ? noProgress : progress,
      })
      const { text, rows = [] } = tool.show(output)
      return {
        structuredContent: output,
        content: [{ type: "text", text: rows.length === 0 ? text : `${text}\n${linesOf(rows)}` }],
      }
    } catch (error) {
      const { message, next } = asFault(error)
      return { isError: true, content: [{ type: "text", text: clean(`${message} Next: ${next}`) }] }
    }
  })
  return server
}
