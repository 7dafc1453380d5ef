import type { App } from "../api/app.ts"
import { readJson } from "../api/body.ts"
import { asFault } from "../core/faults.ts"
import { type McpHttp, unreadable } from "../mcp/http.ts"

/** MCP at `/mcp` beside REST, for whom REST has let in. */
export function mountMcp(app: App, mcp: McpHttp): void {
  app.all("/mcp", async (c) => {
    const request = c.req.raw
    let body: unknown
    try {
      if (request.method === "POST") body = await readJson(request)
    } catch (error) {
      return unreadable(asFault(error))
    }
    return mcp.handle(request, c.get("who"), body)
  })
}
