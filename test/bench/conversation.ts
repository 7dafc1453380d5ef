import { z } from "zod"
import { main } from "../e2e/world.ts"
import { type Child, startChild } from "./child.ts"

/** The lines with which every MCP client begins. */

const line = (message: object): string => JSON.stringify({ jsonrpc: "2.0", ...message })
export const initialize = line({
  id: 1,
  method: "initialize",
  params: {
    protocolVersion: "2025-11-25",
    capabilities: {},
    clientInfo: { name: "bench", version: "1" },
  },
})
const listTools = line({ id: 2, method: "tools/list", params: {} })
const answerSchema = z.object({ id: z.number(), result: z.record(z.string(), z.unknown()) })
const listSchema = z.object({
  tools: z.array(
    z.looseObject({ name: z.string(), description: z.string(), inputSchema: z.looseObject({}) }),
  ),
})
export type Tools = z.output<typeof listSchema>["tools"]

/** The stdio server as clients start it. */
export const startServer = (env: Record<string, string>): Child =>
  startChild(process.execPath, [main, "mcp"], env)

/** Initializes and lists; the tools as they stand on the wire. @throws when an answer is none. */
export async function greetAndList(server: Child): Promise<Tools> {
  answerSchema.parse(JSON.parse(await server.ask(initialize)))
  return listSchema.parse(answerSchema.parse(JSON.parse(await server.ask(listTools))).result).tools
}
