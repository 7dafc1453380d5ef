import { once } from "node:events"
import type { Server } from "node:http"
import type { AddressInfo } from "node:net"
import { connect } from "node:net"
import { createAdaptorServer } from "@hono/node-server"
import {
  Client as ModernClient,
  StreamableHTTPClientTransport as ModernTransport,
} from "@modelcontextprotocol/client"
import { Client } from "@modelcontextprotocol/sdk/client/index.js"
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js"
import {
  ElicitRequestSchema,
  ResourceListChangedNotificationSchema,
  ResourceUpdatedNotificationSchema,
} from "@modelcontextprotocol/sdk/types.js"
import { pino } from "pino"
import { afterEach, beforeEach, describe, expect, it } from "vitest"
import { z } from "zod"
import { createApp, through } from "../../src/api/app.ts"
import { createMetrics } from "../../src/api/metrics.ts"
import type { Principal } from "../../src/core/principal.ts"
import { defineTool } from "../../src/core/tool.ts"
import { defaultBounds } from "../../src/mcp/bounds.ts"
import { readingMs } from "../../src/mcp/confirmation.ts"
import { createMcpHttp, type McpHttp } from "../../src/mcp/http.ts"
import { mountMcp } from "../../src/roles/mount-mcp.ts"
import { tools as everything } from "../../tools/index.ts"
import { agent, type Fleet, makeFleet, operator, viewer } from "../unit/fleet.ts"
import { eventually } from "./world.ts"

/** The HTTP face with a fleet in memory behind it: real clients, real sockets. */

const people: Record<string, Principal> = { "Bearer ann": operator, "Bearer eve": viewer }
/** How a call of the tool `hang` is told that nobody waits for it any more. */
const hung = { begun: 0, ended: 0 }
const hang = defineTool({
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
const bulk = defineTool({
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
const all = [...everything, hang, bulk]
/** No MCP client sees the others. */
const shown = all.filter(({ toolset }) => toolset !== "admin")

let fleet: Fleet
let mcp: McpHttp
let server: Server
let url: URL
const clients: { close(): Promise<void> }[] = []
const bounds = {
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

const as = (who: string) => ({ requestInit: { headers: { authorization: `Bearer ${who}` } } })
async function connected(
  who = "ann",
  capabilities = {},
): Promise<{ client: Client; transport: StreamableHTTPClientTransport }> {
  const client = new Client({ name: "test", version: "1" }, { capabilities })
  const transport = new StreamableHTTPClientTransport(url, as(who))
  await client.connect(transport as Parameters<Client["connect"]>[0]) // its sessionId may be undefined, which exact optional types refuse
  clients.push(client)
  return { client, transport }
}
async function modern(
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
const headers = {
  authorization: "Bearer ann",
  "content-type": "application/json",
  accept: "application/json, text/event-stream",
}
const post = (body: unknown, more: Record<string, string> = {}): Promise<Response> =>
  fetch(url, {
    method: "POST",
    headers: { ...headers, ...more },
    body: typeof body === "string" ? body : JSON.stringify(body),
  })
const message = (method: string, params: object = {}, id: number | string = 1) => ({
  jsonrpc: "2.0",
  id,
  method,
  params,
})
const initialize = message("initialize", {
  protocolVersion: "2025-11-25",
  capabilities: {},
  clientInfo: { name: "raw", version: "1" },
})
async function session(more: Record<string, string> = {}): Promise<Record<string, string>> {
  const response = await post(initialize, more)
  await response.text()
  return {
    "mcp-session-id": response.headers.get("mcp-session-id") ?? "",
    "mcp-protocol-version": "2025-11-25",
    ...more,
  }
}
/** Messages of an event stream, with their ids. */
async function* eventsOf(
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

describe("clients of every generation", () => {
  it.each([
    ["sdk 1.x", async () => (await connected()).client],
    ["client 2.x", () => modern(undefined)],
    ["client 2.x, auto", () => modern("auto")],
    ["client 2.x, pinned to 2026-07-28", () => modern({ pin: "2026-07-28" })],
  ] as const)("%s lists, calls, reads, completes and is prompted", async (_, open) => {
    fleet.running("shop-1")
    const client = await open()
    const { tools: listed } = await client.listTools()
    expect(listed.map(({ name }) => name)).toEqual(shown.map(({ name }) => name))
    const result = await client.callTool({ name: "list_instances", arguments: {} })
    expect(result.structuredContent).toMatchObject({ total: 1, instances: [{ name: "shop-1" }] })
    expect(
      await client.callTool({ name: "inspect_instance", arguments: { name: "nobody" } }),
    ).toMatchObject({
      isError: true,
      content: [{ text: expect.stringContaining("no instance nobody") }],
    })
    await expect(client.callTool({ name: "nothing", arguments: {} })).rejects.toMatchObject({
      code: -32602,
    })
    const { resources } = await client.listResources()
    expect(resources.map(({ uri }) => uri)).toEqual(["ralf://fleet", "ralf://instances/shop-1"])
    for (const uri of [
      "ralf://fleet",
      "ralf://instances/shop-1",
      "ralf://instances/shop-1/logs",
      "ralf://instances/shop-1/events",
    ]) {
      const { contents } = await client.readResource({ uri })
      expect(contents).toMatchObject([
        { uri, mimeType: "application/json", text: expect.stringMatching(/^\{.*\}$/s) },
      ])
    }
    await expect(client.readResource({ uri: "ralf://instances/nobody" })).rejects.toThrow(
      /no instance nobody/,
    )
    await expect(client.readResource({ uri: "file:///etc/passwd" })).rejects.toThrow(/not found/i)
    const { resourceTemplates } = await client.listResourceTemplates()
    expect(resourceTemplates).toHaveLength(3)
    for (const { uriTemplate } of resourceTemplates)
      expect(
        await client.complete({
          ref: { type: "ref/resource", uri: uriTemplate },
          argument: { name: "name", value: "sh" },
        }),
      ).toMatchObject({ completion: { values: ["shop-1"], total: 1, hasMore: false } })
    const { prompts } = await client.listPrompts()
    expect(prompts.map(({ name }) => name)).toEqual([
      "fleet_report",
      "triage",
      "hand_over_issue",
      "stand_up",
    ])
    const prompt = await client.getPrompt({
      name: "hand_over_issue",
      arguments: { issue: "#7", project: "shop" },
    })
    expect(prompt.messages).toMatchObject([
      { role: "user", content: { type: "text", text: expect.stringContaining("#7") } },
      { role: "user", content: { type: "resource", resource: { uri: "ralf://fleet" } } },
    ])
    await expect(
      client.getPrompt({ name: "hand_over_issue", arguments: { issue: "#7" } }),
    ).rejects.toThrow(/project/)
  })

  it("sees what its principal sees, and is refused what it may not do", async () => {
    const one = fleet.running("mine")
    fleet.running("strange")
    people["Bearer mine"] = agent(one)
    for (const client of [
      (await connected("mine")).client,
      await modern({ pin: "2026-07-28" }, "mine"),
    ]) {
      expect((await client.listResources()).resources.map(({ uri }) => uri)).toEqual([
        "ralf://fleet",
        "ralf://instances/mine",
      ])
      await expect(client.readResource({ uri: "ralf://instances/strange" })).rejects.toThrow(
        /no instance strange/,
      )
      expect(
        await client.complete({
          ref: { type: "ref/resource", uri: "ralf://instances/{name}" },
          argument: { name: "name", value: "" },
        }),
      ).toMatchObject({ completion: { values: ["mine"] } })
    }
    const { client } = await connected("eve")
    expect(
      await client.callTool({ name: "pause_instances", arguments: { names: ["mine"] } }),
    ).toMatchObject({
      isError: true,
      content: [{ text: expect.stringContaining("viewer") }],
    })
  })
})

describe("changes", () => {
  it("are told to those who asked, in both eras, and only what they may see", async () => {
    const one = fleet.running("mine")
    people["Bearer mine"] = agent(one)
    const heard = new Map<string, string[]>()
    const hear = (who: string, what: string): void =>
      void heard.set(who, [...(heard.get(who) ?? []), what])
    for (const who of ["ann", "mine"]) {
      const { client } = await connected(who)
      client.setNotificationHandler(ResourceUpdatedNotificationSchema, ({ params }) =>
        hear(who, params.uri),
      )
      client.setNotificationHandler(ResourceListChangedNotificationSchema, () =>
        hear(who, "listed"),
      )
      await client.listResources()
      await client.subscribeResource({ uri: "ralf://fleet" })
      await client.subscribeResource({ uri: "ralf://instances/mine" })
    }
    const later = await modern({ pin: "2026-07-28" })
    later.setNotificationHandler("notifications/resources/updated", ({ params }) =>
      hear("later", params.uri),
    )
    later.setNotificationHandler("notifications/resources/list_changed", () =>
      hear("later", "listed"),
    )
    const listening = await later.listen({
      resourcesListChanged: true,
      resourceSubscriptions: ["ralf://instances/mine"],
    })
    await fleet.call(operator)("spawn_instance", { project: "shop", name: "other" })
    await fleet.call(operator)("pause_instances", { names: ["mine"] })
    await eventually(
      () =>
        heard.get("ann")?.includes("ralf://instances/mine") && heard.get("ann")?.includes("listed"),
      "told ann",
    )
    await eventually(
      () =>
        heard.get("later")?.includes("ralf://instances/mine") &&
        heard.get("later")?.includes("listed"),
      "later",
    )
    await eventually(
      () => heard.get("mine")?.includes("ralf://instances/mine"),
      "told the instance",
    )
    // The birth of a stranger is no news to it.
    expect(heard.get("mine")).not.toContain("listed")
    expect(heard.get("later")).not.toContain("ralf://fleet")
    await listening.close()
  })

  it("are not subscribed to where there is nothing to see", async () => {
    const { client } = await connected()
    await expect(client.subscribeResource({ uri: "ralf://instances/nobody" })).rejects.toThrow(
      /no instance nobody/,
    )
  })
})

describe("what cannot be taken back", () => {
  const form = { elicitation: { form: {} } }
  const remove = { name: "stop_instances", arguments: { all: true, expect: 1, remove: true } }

  /** Clients of both eras, whose answers come after `ms`. */
  const answering = async (
    action: "accept" | "decline" | "cancel",
    asked: string[],
    ms: number,
  ) => {
    const answer = async ({ params }: { params: { message: string } }) => {
      asked.push(params.message)
      await new Promise((resolve) => setTimeout(resolve, ms))
      return { action, content: {} }
    }
    const { client } = await connected("ann", form)
    client.setRequestHandler(ElicitRequestSchema, answer)
    const later = await modern({ pin: "2026-07-28" }, "ann", form)
    later.setRequestHandler("elicitation/create", answer)
    return [client, later]
  }

  it.each(["accept", "decline", "cancel"] as const)(
    "is asked for, and %s decides",
    async (action) => {
      fleet.running("shop-1")
      const asked: string[] = []
      // A person takes time to read it.
      const clients = await answering(action, asked, readingMs + 50)
      for (const one of clients) {
        const result = await one.callTool(remove)
        if (action === "accept") expect(result.isError).toBeUndefined()
        else {
          expect(result).toMatchObject({
            isError: true,
            content: [{ text: expect.stringMatching(/Nothing was changed/) }],
          })
          expect(fleet.byName.get("shop-1")?.deletedAtMs).toBeUndefined()
        }
      }
      if (action === "accept") expect(fleet.byName.get("shop-1")?.deletedAtMs).toBeDefined()
      expect(asked).toEqual(
        Array(2).fill(expect.stringMatching(/Remove all instances.*\(1\).*for good/)),
      )
    },
  )

  it("is left to the count where a client cancels faster than anybody reads, twice", async () => {
    fleet.running("shop-1")
    const asked: string[] = []
    for (const one of await answering("cancel", asked, 0)) {
      const uncounted = await one.callTool({
        name: "stop_instances",
        arguments: { names: ["shop-1"], remove: true },
      })
      expect(uncounted).toMatchObject({
        isError: true,
        content: [
          {
            text: expect.stringMatching(
              /cannot ask a person to confirm\. Nothing was changed\..*as expect/,
            ),
          },
        ],
      })
      const wrong = await one.callTool({
        name: "stop_instances",
        arguments: { all: true, expect: 2 },
      })
      expect(wrong).toMatchObject({
        isError: true,
        content: [{ text: expect.stringMatching(/not 2/) }],
      })
      expect(fleet.specOf("shop-1")?.state).toBe("Running")
      expect(
        (await one.callTool({ name: "stop_instances", arguments: { all: true, expect: 1 } }))
          .isError,
      ).toBeUndefined()
      expect(fleet.specOf("shop-1")?.state).toBe("Stopped")
      await fleet.call(operator)("resume_instances", { names: ["shop-1"] })
    }
    expect(asked).toHaveLength(12)
  })

  it("is left to the count where a client that can ask does not know how", async () => {
    fleet.running("shop-1")
    const { client } = await connected("ann", form) // without a handler it answers that it knows no such method
    expect((await client.callTool(remove)).isError).toBeUndefined()
    expect(fleet.byName.get("shop-1")?.deletedAtMs).toBeDefined()
  })

  it("is not asked for a dry run, a wrong call or one agent's stop; without a form the count guards", async () => {
    fleet.running("shop-1")
    const { client } = await connected("ann", form)
    client.setRequestHandler(ElicitRequestSchema, () => {
      throw new Error("asked")
    })
    expect(
      (await client.callTool({ name: "stop_instances", arguments: { all: true, dryRun: true } }))
        .isError,
    ).toBeUndefined()
    expect((await client.callTool({ name: "stop_instances", arguments: { all: 1 } })).isError).toBe(
      true,
    )
    expect(
      (await client.callTool({ name: "stop_instances", arguments: { names: ["shop-1"] } })).isError,
    ).toBeUndefined()
    // A form that breaks confirms nothing.
    expect((await client.callTool(remove)).isError).toBe(true)
    const { client: plain } = await connected()
    expect(
      (await plain.callTool({ name: "stop_instances", arguments: { all: true, remove: true } }))
        .isError,
    ).toBe(true)
    expect(fleet.byName.get("shop-1")?.deletedAtMs).toBeUndefined()
    expect((await plain.callTool(remove)).isError).toBeUndefined()
  })
})

describe("sessions", () => {
  it("belong to one principal; ids are long; DELETE ends them", async () => {
    const mine = await session()
    expect(mine["mcp-session-id"]).toMatch(/^[\w-]{32}$/)
    expect((await post(message("ping"), mine)).status).toBe(200)
    const stranger = await post(message("ping"), { ...mine, authorization: "Bearer eve" })
    expect(stranger.status).toBe(404)
    expect(await stranger.json()).toMatchObject({ id: 1, error: { code: -32001 } })
    const get = await fetch(url, { headers: { ...headers, ...mine, authorization: "Bearer eve" } })
    expect(get.status).toBe(404)
    expect(
      (
        await fetch(url, {
          method: "DELETE",
          headers: { ...headers, ...mine, authorization: "Bearer eve" },
        })
      ).status,
    ).toBe(404)
    expect((await fetch(url, { method: "DELETE", headers: { ...headers, ...mine } })).status).toBe(
      200,
    )
    expect((await post(message("ping"), mine)).status).toBe(404)
    expect(mcp.sessions()).toBe(0)
    expect((await post(message("ping"))).status).toBe(400)
  })

  it("that are gone are begun anew by an initialize that still names them", async () => {
    const mine = await session()
    await fetch(url, { method: "DELETE", headers: { ...headers, ...mine } })
    const gone = { "mcp-session-id": mine["mcp-session-id"] ?? "" }
    const stranger = await session({ authorization: "Bearer eve" })
    let id = ""
    for (const named of [
      gone,
      { "mcp-session-id": "never-was" },
      { "mcp-session-id": stranger["mcp-session-id"] ?? "" },
    ]) {
      const response = await post(initialize, named)
      await response.text()
      id = response.headers.get("mcp-session-id") ?? ""
      expect({ status: response.status, isNew: id !== named["mcp-session-id"] }).toEqual({
        status: 200,
        isNew: true,
      })
      expect(
        (
          await post(message("ping"), {
            "mcp-session-id": id,
            "mcp-protocol-version": "2025-11-25",
          })
        ).status,
      ).toBe(200)
    }
    expect((await post(message("ping"), stranger)).status).toBe(200)
    // A session that is there is not begun twice.
    expect((await post(initialize, { "mcp-session-id": id })).status).toBe(400)
  })

  it("are bounded for each principal and in all: who is idle longest goes first, who is busy stays", async () => {
    const first = await session()
    const busy = await session()
    const waiting = post(message("tools/call", { name: "hang", arguments: {} }), busy)
    await eventually(() => hung.begun === 1, "it hangs")
    const third = await session()
    await session()
    expect((await post(message("ping"), first)).status).toBe(404)
    await session()
    expect((await post(message("ping"), third)).status).toBe(404)
    expect(mcp.sessions()).toBe(3)
    const eve = await session({ authorization: "Bearer eve" })
    expect((await post(message("ping"), eve)).status).toBe(200)
    expect((await post(message("ping"), busy)).status).toBe(200)
    await (await waiting).body?.cancel()
  })

  it("that nobody uses are over after a while", async () => {
    await mcp.close()
    const sessions = createMcpHttp({
      ...{ tools: all, invokeAs: fleet.asCaller, version: "0", nowMs: () => fleet.clock.nowMs() },
      bounds: { ...bounds, idleMs: 20 },
    })
    const request = new Request(url, { method: "POST", headers, body: "{}" })
    expect((await sessions.handle(request, operator, initialize)).status).toBe(200)
    expect(sessions.sessions()).toBe(1)
    fleet.clock.advance(19)
    await new Promise((resolve) => setTimeout(resolve, 60))
    expect(sessions.sessions()).toBe(1)
    fleet.clock.advance(1)
    await eventually(() => sessions.sessions() === 0, "it is over")
    await sessions.close()
  })

  it("take so many requests at once, and say so", async () => {
    const mine = await session()
    const waiting = await Promise.all(
      [1, 2, 3, 4].map((id) => post(message("tools/call", { name: "hang" }, id), mine)),
    )
    const fifth = await post(message("ping", {}, 5), mine)
    expect(fifth.status).toBe(429)
    expect(await fifth.json()).toMatchObject({
      id: 5,
      error: { message: expect.stringMatching(/4 unanswered requests.*Next: Wait/) },
    })
    for (const one of waiting) await one.body?.cancel()
    await eventually(() => hung.ended === 4, "they are cancelled")
    expect((await post(message("ping", {}, 6), mine)).status).toBe(200)
  })
})

describe("streams", () => {
  it("that are cut off resume where they were, with what came meanwhile", async () => {
    const mine = await session()
    const cut = new AbortController()
    let waits = false
    fleet.memory.hooks.waiting = () => {
      waits = true
    }
    const call = message(
      "tools/call",
      { name: "read_events", arguments: { after: "$", waitSeconds: 20 } },
      "w",
    )
    const response = await fetch(url, {
      method: "POST",
      headers: { ...headers, ...mine },
      body: JSON.stringify(call),
      signal: cut.signal,
    })
    const events = eventsOf(response)
    const first = await events.next()
    await eventually(() => waits, "it waits")
    cut.abort()
    await expect(events.next()).rejects.toThrow()
    expect(first.value?.id).toBeTruthy()
    const resumed = await fetch(url, {
      headers: { ...headers, ...mine, "last-event-id": first.value?.id ?? "" },
    })
    expect(resumed.status).toBe(200)
    await fleet.call(operator)("spawn_instance", { project: "shop", name: "new" })
    for await (const { data } of eventsOf(resumed)) {
      expect(data).toMatchObject({
        id: "w",
        result: { structuredContent: { events: [{ name: "new" }] } },
      })
      break
    }
    const unknown = await fetch(url, {
      headers: { ...headers, ...mine, "last-event-id": "nowhere.9999" },
    })
    expect(unknown.status).toBe(400)
    expect(await unknown.json()).toMatchObject({
      error: { message: expect.stringMatching(/can no longer be resumed/) },
    })
  })

  it("that nobody comes back for cancel their call; DELETE and cancellation do so at once", async () => {
    const mine = await session()
    const call = (id: number) => post(message("tools/call", { name: "hang" }, id), mine)
    const gone = await call(1)
    await eventually(() => hung.begun === 1, "it hangs")
    await gone.body?.cancel()
    await eventually(() => hung.ended === 1, "it is cancelled")
    const second = await call(2)
    await eventually(() => hung.begun === 2, "it hangs")
    await post(
      { jsonrpc: "2.0", method: "notifications/cancelled", params: { requestId: 2 } },
      mine,
    )
    await eventually(() => hung.ended === 2, "it is cancelled")
    expect(await second.text()).toMatch(/cancelled/)
    await call(3)
    await eventually(() => hung.begun === 3, "it hangs")
    await fetch(url, { method: "DELETE", headers: { ...headers, ...mine } })
    await eventually(() => hung.ended === 3, "it is cancelled")
  })

  it("of the later era cancel with the socket", async () => {
    const client = await modern({ pin: "2026-07-28" })
    const stop = new AbortController()
    const call = client.callTool({ name: "hang", arguments: {} }, { signal: stop.signal })
    await eventually(() => hung.begun === 1, "it hangs")
    stop.abort()
    await expect(call).rejects.toThrow()
    await eventually(() => hung.ended === 1, "it is cancelled")
  })

  it("whose reader stands still are cut, and nobody else waits for it", async () => {
    const mine = await session()
    const body = JSON.stringify(
      message("tools/call", { name: "bulk", arguments: {}, _meta: { progressToken: 1 } }),
    )
    const socket = connect({ host: "127.0.0.1", port: Number(url.port) })
    const lines = Object.entries({
      ...headers,
      ...mine,
      host: url.host,
      "content-length": String(body.length),
    })
    socket.write(
      `POST /mcp HTTP/1.1\r\n${lines.map(([name, value]) => `${name}: ${value}\r\n`).join("")}\r\n${body}`,
    )
    socket.pause()
    socket.on("error", () => {})
    const beganMs = performance.now()
    expect((await post(message("ping", {}, "p"), mine)).status).toBe(200)
    expect(performance.now() - beganMs).toBeLessThan(5000)
    socket.resume()
    let bytes = 0
    socket.on("data", (chunk) => {
      bytes += chunk.length
    })
    await once(socket, "close")
    // 4 MB were said; what the system's own buffers hold and the bound is all that came.
    expect(bytes).toBeLessThan(4_000_000)
  })

  it("are opened anew by a client whose old one broke unseen", async () => {
    const mine = await session()
    const one = await fetch(url, { headers: { ...headers, ...mine } })
    const two = await fetch(url, { headers: { ...headers, ...mine } })
    expect([one.status, two.status]).toEqual([200, 200])
    expect(await one.text()).toBe("")
    await two.body?.cancel()
  })
})

describe("a call that hangs", () => {
  it("delays nobody", async () => {
    const { client: hanging } = await connected("eve")
    for (let one = 0; one < 4; one++)
      hanging.callTool({ name: "hang", arguments: {} }).catch(() => {})
    const { client } = await connected()
    await eventually(() => hung.begun === 4, "they hang")
    const took: number[] = []
    for (let round = 0; round < 50; round++) {
      const beganMs = performance.now()
      await client.ping()
      took.push(performance.now() - beganMs)
    }
    // The median: a busy machine may take a while with one of them, a call that waits for another
    // would with all.
    expect(took.toSorted((a, b) => a - b)[25]).toBeLessThan(100)
  })
})

describe("what may not come in", () => {
  it.each([
    ["no credential", { authorization: "" }, 401],
    ["a wrong credential", { authorization: "Bearer mallory" }, 401],
    ["another host", { host: "evil.example" }, 403],
    ["a page of another origin", { origin: "https://evil.example" }, 403],
  ])("%s", async (_, more, status) => {
    // fetch lets nobody say another host.
    const { request } = process.getBuiltinModule("node:http")
    const response = await new Promise<number | undefined>((resolve, reject) => {
      const asked = request(url, { method: "POST", headers: { ...headers, ...more } }, (answer) => {
        answer.resume()
        resolve(answer.statusCode)
      })
      asked.on("error", reject)
      asked.end(JSON.stringify(initialize))
    })
    expect(response).toBe(status)
  })

  it("bodies that are none, or too large: as JSON-RPC, with what to do", async () => {
    const broken = await post("{broken")
    expect(broken.status).toBe(400)
    expect(await broken.json()).toMatchObject({
      jsonrpc: "2.0",
      id: null,
      error: { code: -32700, message: expect.stringMatching(/Next: /) },
    })
    const large = await post({ ...initialize, more: "x".repeat(1_100_000) })
    expect(large.status).toBe(413)
    expect(await large.json()).toMatchObject({
      error: { message: expect.stringMatching(/larger than 1048576 bytes.*Next: /) },
    })
    expect((await post("{}", { "content-type": "text/plain" })).status).toBe(415)
    expect((await fetch(url, { method: "PUT", headers, body: "{}" })).status).toBe(405)
    expect((await post([])).status).toBe(400)
    expect((await post(message("initialize", {}))).status).toBe(400)
    expect(mcp.sessions()).toBe(0)
  })
})
