import { readdirSync } from "node:fs"
import { McpServer } from "@modelcontextprotocol/sdk/server/mcp.js"
import { StdioServerTransport } from "@modelcontextprotocol/sdk/server/stdio.js"

/** An MCP server for tests: it tells how it was started. */
const told = {
  args: process.argv.slice(2),
  env: process.env,
  directory: process.cwd(),
  files: readdirSync("."),
}
const server = new McpServer({ name: "look", version: "1" })
server.registerTool("look", { description: "Looks." }, () => ({
  content: [{ type: "text", text: JSON.stringify(told) }],
}))
await server.connect(new StdioServerTransport())
