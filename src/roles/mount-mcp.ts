import { RESPONSE_ALREADY_SENT } from "@hono/node-server/utils/response"
import type { App } from "../api/app.ts"
import { isJsonRequest, readJson } from "../api/body.ts"
import { asFault } from "../core/faults.ts"
import { WholeResponse } from "../mcp/bounded-stream.ts"
import { type McpHttp, unreadableBody } from "../mcp/http.ts"

/** Serves MCP at `/mcp`, beside REST and behind the same authentication. */
export function mountMcp(app: App, mcp: McpHttp): void {
  app.all("/mcp", async (c) => {
    const request = c.req.raw
    let body: unknown
    try {
      if (request.method === "POST") body = await readJson(request)
    } catch (error) {
      return unreadableBody(asFault(error), isJsonRequest(request))
    }
    const answer = await mcp.handle(request, c.get("who"), body)
    if (!(answer instanceof WholeResponse)) return answer
    const { outgoing } = c.env
    // Straight to the socket: a Response would turn it into a stream, which the listener would read
    // back.
    outgoing.writeHead(answer.status, [...answer.headers].flat())
    outgoing.end(answer.body)
    return RESPONSE_ALREADY_SENT
  })
}
