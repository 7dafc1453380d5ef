import { McpServer } from "@modelcontextprotocol/sdk/server/mcp.js"
import { StdioServerTransport } from "@modelcontextprotocol/sdk/server/stdio.js"

/** An MCP server for tests: it tells how it was started. */
const server = new McpServer({ name: "look", version: "1" })
server.registerTool("look", { description: "Looks." }, () => ({
  content: [{ type: "text", text: JSON.stringify({ args: process.argv.slice(2), env: process.env }) }],
}))
await server.connect(new StdioServerTransport())
