import type { Transport } from "@modelcontextprotocol/sdk/shared/transport.js"
import { JSONRPCMessageSchema } from "@modelcontextprotocol/sdk/types.js"
import { tools } from "../../tools/index.ts"
import { invokeServe } from "../client/invoke-serve.ts"
import { asFault } from "../core/faults.ts"
import type { Invoke } from "../core/invoke.ts"
import { type Offer, offers } from "../core/tool.ts"
import { instanceHere, readConfig } from "../settings/config.ts"
import { version } from "../settings/version.ts"
import type { StdioLine, StdioSession } from "./lazy-server.ts"
import { createMcpServer } from "./server.ts"
import { createSurface } from "./surface.ts"

/**
 * An invalid configuration is reported by every call, because there is nowhere else to report it.
 */
function invokeConfigured(): Invoke {
  try {
    const invoke = invokeServe(readConfig(), tools)
    invoke.warm()
    return invoke
  } catch (error) {
    return () => Promise.reject(asFault(error))
  }
}

/** Connects the SDK's server to a client on stdio. */
export async function openSession(
  line: StdioLine,
  { offer, instructions }: { offer: Offer; instructions: string },
): Promise<StdioSession> {
  const shown = tools.filter(offers(offer))
  const surface = createSurface({
    tools: shown,
    invoke: invokeConfigured(),
    person: instanceHere() === undefined,
  })
  const server = createMcpServer({ surface, version, instructions })
  const transport: Transport = {
    start: async () => {},
    send: async (message) => line.send({ ...message }),
    close: async () => transport.onclose?.(),
  }
  await server.connect(transport)
  return {
    receive(message) {
      const parsed = JSONRPCMessageSchema.safeParse(message)
      if (parsed.success) transport.onmessage?.(parsed.data)
      else
        line.send({ id: message.id ?? null, error: { code: -32600, message: "Invalid Request" } })
    },
    close: () => server.close(),
  }
}
