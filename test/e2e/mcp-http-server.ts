import { once } from "node:events"
import type { Server } from "node:http"
import type { AddressInfo } from "node:net"
import { createAdaptorServer } from "@hono/node-server"
import {
  Client as ModernClient,
  StreamableHTTPClientTransport as ModernTransport,
} from "@modelcontextprotocol/client"
import { Client } from "@modelcontextprotocol/sdk/client/index.js"
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js"
import { pino } from "pino"
import { afterEach, beforeEach } from "vitest"
import { z } from "zod"
import { createApp, through } from "../../src/api/app.ts"
import { createMetrics } from "../../src/api/metrics.ts"
import { spawnedEvent } from "../../src/core/birth.ts"
import type { Principal } from "../../src/core/principal.ts"
import { defineTool } from "../../src/core/tool.ts"
import { defaultBounds } from "../../src/mcp/bounds.ts"
import { createMcpHttp, type McpHttp } from "../../src/mcp/http.ts"
import { mountMcp } from "../../src/roles/mount-mcp.ts"
import { tools as everything } from "../../tools/index.ts"
import { type Fleet, makeFleet, operator, viewer } from "../unit/fleet.ts"

/** The HTTP face with a fleet in memory behind it: real clients, real sockets. */

export const people: Record<string, Principal> = { "Bearer ann": operator, "Bearer eve": viewer }
/** How a call of the tool `hang` is told that nobody waits for it any more. */
export const hung = { begun: 0, ended: 0 }
export const hang = defineTool({
  name: "hang",
  title: "Hang",
  description: "Waits for a dependency that never answers.",
  toolset: "fleet",
  route: "POST /v1/hang",
  verb: "see",
  input: z.strictObject({}),
  output: z.strictObject({}),
  hints: { readOnlyHint: true, destructiveHint: false, idempotentHint: true, openWorldHint: false },
  show: () => ({ text: "" }),
  handler: ({ signal, progress }) =>
    new Promise((_, reject) => {
      hung.begun += 1
      progress(1, "waiting")
      signal.addEventListener("abort", () => {
        hung.ended += 1
        reject(signal.reason)
      })
    }),
})
export const bulk = defineTool({
  ...hang,
  name: "bulk",
  description: "Says a lot.",
  output: z.strictObject({ text: z.string() }),
  outcome: () => ({}),
  show: ({ text }) => ({ text: String(text).slice(0, 10) }),
  handler: async ({ progress }) => {
    for (let part = 1; part <= 400; part++) progress(part, "x".repeat(10_000))
    return { text: "y" }
  },
})
export const all = [...everything, hang, bulk]
/** No MCP client sees the others. */
export const shown = all.filter(({ toolset }) => toolset !== "admin")

export let fleet: Fleet
export let mcp: McpHttp
export let server: Server
export let url: URL
export const clients: { close(): Promise<void> }[] = []
export const bounds = {
  ...defaultBounds,
  perPrincipalMax: 3,
  max: 5,
  resumeMs: 300,
  requestsMax: 4,
  streamBytesMax: 200_000,
}

beforeEach(async () => {
  fleet = makeFleet(all)
  Object.assign(hung, { begun: 0, ended: 0 })
  const app = createApp({
    tools: everything,
    offered: () => true,
    publicUrl: () => undefined,
    issuer: () => undefined,
    credentialWatch: { whileValid: () => () => {}, untilExpired: () => () => {} },
    invokeAs: fleet.asCaller,
    async authenticate(bearer) {
      const who = people[`Bearer ${bearer}`]
      return who && { who }
    },
    ready: async () => ({ ready: true, why: "" }),
    metrics: createMetrics(everything),
    version: "0",
    log: pino({ level: "silent" }),
  })
  mcp = createMcpHttp({
    tools: all,
    invokeAs: fleet.asCaller,
    version: "0",
    nowMs: () => fleet.clock.nowMs(),
    bounds,
  })
  mountMcp(app, mcp)
  server = createAdaptorServer({
    fetch: through(app, "tcp"),
    overrideGlobalObjects: false,
  }) as Server // plain HTTP is the default
  server.listen(0, "127.0.0.1")
  await once(server, "listening")
  const { port } = server.address() as AddressInfo // TCP, so no path
  url = new URL(`http://127.0.0.1:${port}/mcp`)
})
afterEach(async () => {
  for (const client of clients.splice(0)) await client.close()
  await mcp.close()
  await new Promise((resolve) => server.close(resolve).closeAllConnections())
})

export const as = (who: string) => ({
  requestInit: { headers: { authorization: `Bearer ${who}` } },
})
export async function connected(
  who = "ann",
  capabilities = {},
): Promise<{ client: Client; transport: StreamableHTTPClientTransport }> {
  const client = new Client({ name: "test", version: "1" }, { capabilities })
  const transport = new StreamableHTTPClientTransport(url, as(who))
  // Its sessionId may be undefined, which exact optional types refuse.
  await client.connect(transport as Parameters<Client["connect"]>[0])
  clients.push(client)
  return { client, transport }
}
export async function modern(
  mode: "auto" | "legacy" | { pin: string } | undefined,
  who = "ann",
  capabilities = {},
): Promise<ModernClient> {
  const client = new ModernClient(
    { name: "test", version: "2" },
    { capabilities, ...(mode && { versionNegotiation: { mode } }) },
  )
  await client.connect(new ModernTransport(url, as(who)))
  clients.push(client)
  return client
}
export const headers = {
  authorization: "Bearer ann",
  "content-type": "application/json",
  accept: "application/json, text/event-stream",
}
export const post = (body: unknown, more: Record<string, string> = {}): Promise<Response> =>
  fetch(url, {
    method: "POST",
    headers: { ...headers, ...more },
    body: typeof body === "string" ? body : JSON.stringify(body),
  })
export const message = (method: string, params: object = {}, id: number | string = 1) => ({
  jsonrpc: "2.0",
  id,
  method,
  params,
})
export const initialize = message("initialize", {
  protocolVersion: "2025-11-25",
  capabilities: {},
  clientInfo: { name: "raw", version: "1" },
})
export async function session(more: Record<string, string> = {}): Promise<Record<string, string>> {
  const response = await post(initialize, more)
  await response.text()
  return {
    "mcp-session-id": response.headers.get("mcp-session-id") ?? "",
    "mcp-protocol-version": "2025-11-25",
    ...more,
  }
}
/** Messages of an event stream, with their ids. */
export async function* eventsOf(
  response: Response,
): AsyncGenerator<{ id: string; data: { id?: unknown; method?: string; [key: string]: unknown } }> {
  let text = ""
  for await (const chunk of response.body?.pipeThrough(new TextDecoderStream()) ?? []) {
    text += chunk
    for (let end = text.indexOf("\n\n"); end >= 0; end = text.indexOf("\n\n")) {
      const lines = text.slice(0, end).split("\n")
      text = text.slice(end + 2)
      const field = (name: string): string =>
        lines.find((line) => line.startsWith(`${name}: `))?.slice(name.length + 2) ?? ""
      const data = field("data")
      if (field("id") || data) yield { id: field("id"), data: data ? JSON.parse(data) : {} }
    }
  }
}

/** Spawns an instance and, as the scheduler does, appends the event of its birth. */
export async function spawn(name: string): Promise<void> {
  await fleet.call(operator)("spawn_instance", { project: "shop", name })
  const instance = fleet.byName.get(name)
  if (!instance) throw new Error(`${name} was not created`)
  await fleet.memory.timeline.append(spawnedEvent(instance))
}
