import { clean } from "../core/view.ts"

/** An answer to a request that reached no server: JSON-RPC, as every client of MCP reads it. */
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
