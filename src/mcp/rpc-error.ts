import { clean } from "../core/view.ts"

/** The code for a request that is refused before a server sees it, as the SDK numbers it. */
export const requestRefused = -32000

/** The answer to a request that reached no server: JSON-RPC, which every MCP client reads. */
export const rpcError = (
  status: number,
  code: number,
  message: string,
  next: string,
  id?: unknown,
): Response =>
  Response.json(
    {
      jsonrpc: "2.0",
      error: { code, message: clean(`${message} Next: ${next}`) },
      id: typeof id === "string" || typeof id === "number" ? id : null,
    },
    { status },
  )
