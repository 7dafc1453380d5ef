import { randomUUID } from "node:crypto"
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import { McpServer } from "@modelcontextprotocol/sdk/server/mcp.js"
import { StreamableHTTPServerTransport } from "@modelcontextprotocol/sdk/server/streamableHttp.js"
import type { Transport } from "@modelcontextprotocol/sdk/shared/transport.js"

/**
 * The least that the SDK's documentation makes a server with sessions of: one tool, no
 * authentication, no bounds. Prints its port.
 */
const transports = new Map<string, StreamableHTTPServerTransport>()

const server = createServer(async (request, response) => {
  const id = request.headers["mcp-session-id"]
  let transport = typeof id === "string" ? transports.get(id) : undefined
  if (!transport) {
    const fresh = new StreamableHTTPServerTransport({
      sessionIdGenerator: randomUUID,
      onsessioninitialized: (session) => void transports.set(session, fresh),
    })
    const mcp = new McpServer({ name: "plain", version: "1" })
    mcp.registerTool("trivial", { description: "Says yes." }, () => ({
      content: [{ type: "text", text: "yes" }],
    }))
    // Its sessionId may be undefined, which exact optional types refuse.
    await mcp.connect(fresh as Transport)
    transport = fresh
  }
  await transport.handleRequest(request, response)
})
server.listen(0, "127.0.0.1", () => {
  const { port } = server.address() as AddressInfo // TCP, so no path
  process.stdout.write(`${port}\n`)
})
