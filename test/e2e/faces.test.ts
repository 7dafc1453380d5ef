import { once } from "node:events"
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs"
import {
  createServer as createPlainServer,
  type IncomingMessage,
  request,
  type Server,
} from "node:http"
import type { AddressInfo } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { createAdaptorServer } from "@hono/node-server"
import { createParser } from "eventsource-parser"
import { pino } from "pino"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { z } from "zod"
import type { Listener } from "../../src/api/admission.ts"
import { createApp, through } from "../../src/api/app.ts"
import { authenticateByMachineToken } from "../../src/api/authenticate.ts"
import { readToken } from "../../src/api/machine-token.ts"
import { createMetrics } from "../../src/api/metrics.ts"
import { invokeOver } from "../../src/client/calls.ts"
import { ensureServe } from "../../src/client/find-serve.ts"
import { invokeServe } from "../../src/client/invoke-serve.ts"
import { type Endpoint, endpointAt, socketUrl } from "../../src/core/endpoint.ts"
import { Fault, type FaultCode, faultCodes } from "../../src/core/faults.ts"
import type { Principal } from "../../src/core/principal.ts"
import { defineTool, noProgress, type Tool, type ToolContext } from "../../src/core/tool.ts"
import { readConfig } from "../../src/settings/config.ts"

const hints = {
  readOnlyHint: true,
  destructiveHint: false,
  idempotentHint: true,
  openWorldHint: false,
}
const about = {
  description: "For tests.",
  toolset: "fleet",
  verb: "see",
  hints,
  output: z.strictObject({ input: z.unknown() }),
} as const
const show = () => ({ text: "shown" })

const readEcho = defineTool({
  ...about,
  name: "read_echo",
  title: "Read",
  route: "GET /v1/echoes/{name}",
  input: z.strictObject({
    name: z.string(),
    names: z.array(z.string()).optional(),
    limit: z.int().optional(),
    detail: z.boolean().optional(),
    text: z.string().optional(),
    filter: z.union([z.string(), z.array(z.int())]).optional(),
  }),
  show,
  handler: async (_, input) => ({ input }),
})
const writeEcho = defineTool({
  ...about,
  name: "write_echo",
  title: "Write",
  route: "PATCH /v1/echoes/{name}",
  input: z.strictObject({
    name: z.string(),
    text: z.string().optional(),
    labels: z.record(z.string(), z.string()).optional(),
  }),
  show,
  handler: async (_, input) => ({ input }),
})
/** What calls of `act` wait for, and what became of them. */
const acts = { started: Promise.withResolvers<void>(), aborted: Promise.withResolvers<void>() }
const act = defineTool({
  ...about,
  name: "act",
  title: "Act",
  route: "POST /v1/echoes:act",
  input: z.strictObject({
    fault: z.enum(faultCodes).optional(),
    crash: z.boolean().optional(),
    wait: z.boolean().optional(),
  }),
  show,
  async handler(ctx: ToolContext, input) {
    if (input.fault) throw new Fault(input.fault, "It \u001b[31mfailed.", "Do this.")
    if (input.crash) throw new Error("a secret detail")
    ctx.progress(1, "begun")
    acts.started.resolve()
    if (input.wait) {
      await once(ctx.signal, "abort")
      acts.aborted.resolve()
    }
    return { input }
  },
})
const tools: readonly Tool[] = [readEcho, writeEcho, act]

const directory = mkdtempSync(join(tmpdir(), "bb5-faces-"))
const socketPath = join(directory, "serve.sock")
const token = readToken(directory)
const metrics = createMetrics(tools)
let ready = true
const tester: Principal = { kind: "human", id: "tester", role: "admin" }
const app = createApp({
  tools,
  invokeAs: (who) =>
    metrics.measured(async (name, raw, call) => {
      if (raw instanceof Fault) throw raw
      const tool = tools.find((one) => one.name === name)
      const input = tool?.input.safeParse(raw)
      if (!tool || !input?.success)
        throw new Fault("Invalid", `unknown or invalid: ${input?.error?.message}`, "Correct it.")
      // The handlers above use nothing of their context but the call.
      return tool.handler({ ...call, who } as ToolContext, input.data)
    }),
  authenticate: authenticateByMachineToken(token, tester),
  localAdmin: tester,
  offered: () => true,
  publicUrl: () => undefined,
  issuer: () => undefined,
  credentialWatch: { whileValid: () => () => {}, untilExpired: () => () => {} },
  ready: async () => ({ ready, why: ready ? "well" : "starting" }),
  metrics,
  version: "0.0.0",
  log: pino({ level: "silent" }),
})
const servers: Server[] = []
let port = 0
const listen = async (
  listener: Listener,
  at: { path: string } | { host: string; port: number },
): Promise<Server> => {
  const server = createAdaptorServer({
    fetch: through(app, listener),
    overrideGlobalObjects: false,
  }) as Server // plain HTTP is the default
  server.listen(at)
  await once(server, "listening")
  servers.push(server)
  return server
}

interface Sent {
  readonly method?: string
  readonly path: string
  readonly headers?: Record<string, string>
  readonly body?: string
  readonly overSocket?: boolean
}
/** A call as any HTTP client makes it. */
const send = async (
  sent: Sent,
): Promise<{
  status: number
  headers: IncomingMessage["headers"]
  text: string
  json: unknown
}> => {
  const headers = {
    ...(!sent.overSocket && { authorization: `Bearer ${token}` }),
    ...(sent.body !== undefined && { "content-type": "application/json" }),
    ...sent.headers,
  }
  const outgoing = request({
    ...(sent.overSocket ? { socketPath } : { host: "127.0.0.1", port }),
    method: sent.method ?? "GET",
    path: sent.path,
    headers,
    agent: false,
  })
  outgoing.end(sent.body)
  const [response]: IncomingMessage[] = await once(outgoing, "response")
  let text = ""
  for await (const chunk of response?.setEncoding("utf8") ?? []) text += chunk
  const json: unknown = response?.headers["content-type"]?.includes("json")
    ? JSON.parse(text)
    : undefined
  return { status: response?.statusCode ?? 0, headers: response?.headers ?? {}, text, json }
}
const post = (body: unknown, more: Partial<Sent> = {}) =>
  send({ method: "POST", path: "/v1/echoes:act", body: JSON.stringify(body), ...more })
const fault = (code: string) => ({
  error: { code, message: expect.any(String), next: expect.any(String) },
})
const signal = new AbortController().signal
const quiet = { signal, progress: noProgress }

beforeAll(async () => {
  await listen("socket", { path: socketPath })
  const { port: given } = (
    await listen("tcp", { host: "127.0.0.1", port: 0 })
  ).address() as AddressInfo // TCP, so no path
  port = given
})
afterAll(async () => {
  for (const server of servers)
    await new Promise((resolve) => server.close(resolve).closeAllConnections())
  rmSync(directory, { recursive: true })
})

describe("REST", () => {
  it("answers over the socket as the machine's admin, and over TCP with the bearer", async () => {
    const read = { path: "/v1/echoes/a?limit=3&names=x,y&names=z&detail=true" }
    const expected = { input: { name: "a", limit: 3, names: ["x", "y", "z"], detail: true } }
    expect(await send({ ...read, overSocket: true })).toMatchObject({ status: 200, json: expected })
    expect(await send(read)).toMatchObject({ status: 200, json: expected })
  })

  it.each([
    ["none", {}],
    ["a wrong one", { authorization: `Bearer ${token.slice(0, -1)}_` }],
    ["the token as a password", { authorization: `Basic ${token}` }],
  ])("refuses a bearer that is %s, everywhere but at the health checks", async (_, headers) => {
    for (const path of ["/v1/echoes/a", "/metrics", "/openapi.json", "/nothing"]) {
      const answer = await send({ path, headers: { authorization: "", ...headers } })
      expect(answer).toMatchObject({ status: 401, json: fault("Unauthenticated") })
    }
    expect(await send({ path: "/healthz", headers: { authorization: "" } })).toMatchObject({
      status: 200,
    })
  })

  it("trusts a connection as the socket's only on the word of its listener", async () => {
    // Without one: as a TCP connection looks whose peer has reset it.
    const answer = await app.request("http://localhost/metrics", { headers: { host: "localhost" } })
    expect(answer.status).toBe(401)
  })

  it("refuses other hosts and pages of other origins", async () => {
    const path = "/v1/echoes/a"
    for (const host of ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example:80"])
      expect(await send({ path, headers: { host } })).toMatchObject({
        status: 403,
        json: fault("Forbidden"),
      })
    for (const origin of ["https://evil.example", "http://localhost.evil.example", "null"])
      for (const overSocket of [true, false])
        expect(await send({ path, overSocket, headers: { origin } })).toMatchObject({
          status: 403,
          json: fault("Forbidden"),
        })
    for (const host of ["localhost:1", "[::1]:7505", "127.0.0.1"])
      expect(await send({ path, headers: { host, origin: `http://${host}` } })).toMatchObject({
        status: 200,
      })
    expect(await send({ path, overSocket: true, headers: { host: "anything" } })).toMatchObject({
      status: 200,
    })
  })

  it.each<[FaultCode, number]>([
    ["Invalid", 400],
    ["Unauthenticated", 401],
    ["Forbidden", 403],
    ["NotFound", 404],
    ["Conflict", 409],
    ["TooLarge", 413],
    ["RateLimited", 429],
    ["Unavailable", 503],
    ["Internal", 500],
  ])("tells %s with status %i, without escape sequences", async (code, status) => {
    expect(await post({ fault: code })).toMatchObject({
      status,
      json: { error: { code, message: "It failed.", next: "Do this." } },
    })
  })

  it("keeps the details of a crash to itself", async () => {
    const answer = await post({ crash: true })
    expect(answer).toMatchObject({ status: 500, json: fault("Internal") })
    expect(answer.text).not.toContain("secret")
  })

  it("refuses bodies that are too large, declared or not, no JSON, no object, or of another type", async () => {
    const large = JSON.stringify({ text: "x".repeat(1_048_577) })
    expect(await post({}, { body: large })).toMatchObject({ status: 413, json: fault("TooLarge") })
    const chunked = { body: large, headers: { "transfer-encoding": "chunked" } }
    expect(await post({}, chunked)).toMatchObject({ status: 413, json: fault("TooLarge") })
    for (const body of ["{", "[]", "null", ""])
      expect(await post({}, { body })).toMatchObject({ status: 400, json: fault("Invalid") })
    for (const type of ["text/plain", "application/x-www-form-urlencoded"])
      expect(await post({}, { headers: { "content-type": type } })).toMatchObject({
        status: 400,
        json: fault("Invalid"),
      })
    expect(await post({ strange: 1 })).toMatchObject({ status: 400, json: fault("Invalid") })
  })

  it("names what there is for an unknown path, a wrong method, a field given twice", async () => {
    expect(await send({ path: "/v1/nothing" })).toMatchObject({
      status: 404,
      json: fault("NotFound"),
    })
    const wrong = await send({ method: "DELETE", path: "/v1/echoes/a" })
    expect(wrong).toMatchObject({
      status: 405,
      headers: { allow: "GET, PATCH" },
      json: fault("Invalid"),
    })
    const twice = { method: "PATCH", path: "/v1/echoes/a", body: JSON.stringify({ name: "b" }) }
    expect(await send(twice)).toMatchObject({ status: 400, json: fault("Invalid") })
    expect(await send({ path: "/v1/echoes/%ff" })).toMatchObject({
      status: 400,
      json: fault("Invalid"),
    })
    expect(await send({ method: "POST", path: "/v1/echoes%3Aact", body: "{}" })).toMatchObject({
      status: 200,
    })
  })

  it("says whether it is ready, and counts", async () => {
    ready = false
    expect(await send({ path: "/readyz" })).toMatchObject({
      status: 503,
      json: { ready: false, why: "starting" },
    })
    ready = true
    expect(await send({ path: "/readyz" })).toMatchObject({ status: 200, json: { ready: true } })
    await post({ fault: "Conflict" })
    const { text } = await send({ path: "/metrics" })
    expect(text).toMatch(/blackbox5_calls_total\{tool="act",code="Conflict"\} \d/)
    expect(text).toContain("process_resident_memory_bytes")
  })

  it("describes every tool in OpenAPI", async () => {
    const { json } = await send({ path: "/openapi.json" })
    const operation = z.looseObject({
      operationId: z.string(),
      summary: z.string(),
      responses: z.looseObject({ "200": z.unknown() }),
    })
    const document = z.looseObject({
      openapi: z.literal("3.1.0"),
      paths: z.record(z.string(), z.record(z.enum(["get", "post", "patch"]), operation.optional())),
    })
    const { paths } = document.parse(json)
    for (const tool of tools) {
      const [method = "", path = ""] = tool.route.split(" ")
      expect(paths[path]).toMatchObject({ [method.toLowerCase()]: { operationId: tool.name } })
    }
    expect(paths["/v1/echoes/{name}"]?.patch).toMatchObject({
      parameters: [{ name: "name", in: "path", required: true }],
      requestBody: {
        content: { "application/json": { schema: { properties: { text: { type: "string" } } } } },
      },
    })
  })

  it("streams progress, then one result or fault", async () => {
    const accept = { headers: { accept: "text/event-stream" } }
    const events = (text: string): unknown[] => {
      const found: unknown[] = []
      createParser({ onEvent: ({ event, data }) => found.push([event, JSON.parse(data)]) }).feed(
        text,
      )
      return found
    }
    expect(events((await post({}, accept)).text)).toEqual([
      ["progress", { done: 1, message: "begun" }],
      ["result", { input: {} }],
    ])
    expect(events((await post({ fault: "Conflict" }, accept)).text)).toEqual([
      ["fault", fault("Conflict")],
    ])
  })
})

describe("the client", () => {
  const socket = endpointAt(socketUrl(socketPath))
  const endpoints: [string, () => Endpoint][] = [
    ["the socket", () => socket],
    ["TCP", () => endpointAt(`http://127.0.0.1:${port}`, token)],
  ]

  it.each(endpoints)("brings every input over %s as it was", async (_, endpoint) => {
    const invoke = invokeOver(endpoint(), tools)
    for (const input of [
      { name: "a b/ü:?%" },
      { name: "a", names: ["x", "y"], limit: 0, detail: false, text: "" },
      { name: "a", names: ["x,y", "[1]"], text: "12" },
      { name: "a", names: [], text: "a&b=c" },
      { name: "a", filter: "12" },
      { name: "a", filter: [1, 2] },
    ])
      expect(await invoke("read_echo", input, quiet)).toEqual({ input })
    const change = { name: "a/b", text: "ü".repeat(100_000), labels: { constructor: "x" } }
    expect(await invoke("write_echo", change, quiet)).toEqual({ input: change })
  })

  it.each(endpoints)("brings faults and progress over %s", async (_, endpoint) => {
    const invoke = invokeOver(endpoint(), tools)
    for (const progress of [noProgress, () => {}])
      for (const code of faultCodes)
        await expect(invoke("act", { fault: code }, { signal, progress })).rejects.toMatchObject({
          code,
          next: "Do this.",
        })
    const told: unknown[] = []
    const progress = (...one: unknown[]) => void told.push(one)
    expect(await invoke("act", {}, { signal, progress })).toEqual({ input: {} })
    expect(told).toEqual([[1, "begun"]])
  })

  it.each([
    ["a stream", () => {}],
    ["a plain call", noProgress],
  ])("cancels %s at the other end", async (_, progress) => {
    acts.started = Promise.withResolvers()
    acts.aborted = Promise.withResolvers()
    const cancelling = new AbortController()
    const call = invokeOver(socket, tools)(
      "act",
      { wait: true },
      { signal: cancelling.signal, progress },
    )
    await acts.started.promise
    cancelling.abort()
    await expect(call).rejects.toMatchObject({ code: "Unavailable" })
    await acts.aborted.promise
  })

  it("refuses what no path can carry, and what is too large, before it is sent", async () => {
    const invoke = invokeOver(endpointAt(socketUrl(join(directory, "absent"))), tools)
    for (const name of [undefined, "", "..", 3])
      await expect(invoke("read_echo", { name }, quiet)).rejects.toMatchObject({ code: "Invalid" })
    await expect(
      invoke("write_echo", { name: "a", text: "x".repeat(1_048_577) }, quiet),
    ).rejects.toMatchObject({
      code: "TooLarge",
    })
    await expect(invoke("nothing", {}, quiet)).rejects.toMatchObject({ code: "NotFound" })
    await expect(invoke("read_echo", { name: "a" }, quiet)).rejects.toMatchObject({
      code: "Unavailable",
    })
  })

  it("takes no answer above its bound, and none that is no answer", async () => {
    let answer = `{"input":"${"x".repeat(8_388_608)}"}`
    const server = createPlainServer((_, response) => response.end(answer))
    servers.push(server)
    server.listen(0, "127.0.0.1")
    await once(server, "listening")
    const { port: other } = server.address() as AddressInfo // TCP, so no path
    const invoke = invokeOver(endpointAt(`http://127.0.0.1:${other}`, ""), tools)
    await expect(invoke("act", {}, quiet)).rejects.toMatchObject({ code: "TooLarge" })
    answer = "<html>"
    await expect(invoke("act", {}, quiet)).rejects.toMatchObject({ code: "Unavailable" })
  })

  it("never sends again what may have been received", async () => {
    let received = 0
    const path = join(directory, "breaking.sock")
    const server = createPlainServer((asked) => {
      if (asked.url !== "/healthz") received++
      asked.socket.destroy()
    })
    servers.push(server)
    server.listen(path)
    await once(server, "listening")
    const config = { ...readConfig({}, { BLACKBOX5_STATE: directory }), socketPath: path }
    let started = 0
    const invoke = invokeServe(config, tools, async () => {
      started++
    })
    await expect(invoke("act", {}, quiet)).rejects.toMatchObject({ code: "Unavailable" })
    expect([received, started]).toEqual([1, 0])
  })
})

describe("finding or starting serve", () => {
  /** A program that says each of its starts, and serves or dies. */
  const world = (body: string) => {
    const state = mkdtempSync(join(tmpdir(), "bb5-start-"))
    const entry = join(state, "entry.mjs")
    writeFileSync(
      entry,
      `import { appendFileSync } from "node:fs"
      import { createServer } from "node:http"
      appendFileSync(${JSON.stringify(join(state, "starts"))}, process.pid + "\\n")
      ${body}`,
    )
    const config = readConfig({}, { BLACKBOX5_STATE: state })
    const starts = () => readFileSync(join(state, "starts"), "utf8").trim().split("\n").map(Number)
    return {
      config,
      entry,
      starts,
      state,
      [Symbol.dispose]: () => rmSync(state, { recursive: true }),
    }
  }
  const serving = `createServer((_, response) => response.end('{"alive":true}')).listen(process.env.BLACKBOX5_STATE + "/serve.sock")`

  it("starts one for ten that ask at once, and none when it is there", async () => {
    using place = world(serving.replace("process.env.BLACKBOX5_STATE", "import.meta.dirname"))
    try {
      await Promise.all(Array.from({ length: 10 }, () => ensureServe(place.config, place.entry)))
      await ensureServe(place.config, place.entry)
      expect(place.starts()).toHaveLength(1)
    } finally {
      for (const pid of place.starts()) process.kill(pid)
    }
  })

  it("tells all who wait the last words of one that dies, and tries again when asked again", async () => {
    using place = world(`console.error("the policy is broken"); process.exitCode = 1`)
    const asked = await Promise.allSettled(
      Array.from({ length: 5 }, () => ensureServe(place.config, place.entry)),
    )
    for (const one of asked)
      expect(one).toMatchObject({
        reason: { code: "Unavailable", untrusted: expect.stringContaining("the policy is broken") },
      })
    expect(place.starts()).toHaveLength(1)
    await expect(ensureServe(place.config, place.entry)).rejects.toMatchObject({
      code: "Unavailable",
    })
    expect(place.starts()).toHaveLength(2)
  })

  it("is not kept by the lock of a starter that is gone", async () => {
    using place = world(serving.replace("process.env.BLACKBOX5_STATE", "import.meta.dirname"))
    // Above the largest process id of Linux.
    writeFileSync(join(place.state, "serve.start"), "4194305")
    try {
      await ensureServe(place.config, place.entry)
      expect(place.starts()).toHaveLength(1)
    } finally {
      for (const pid of place.starts()) process.kill(pid)
    }
  })
})

it("makes the token once, for its owner alone", () => {
  expect(readToken(directory)).toBe(token)
  const [, random = ""] = /^bb5m_([\w-]+)$/.exec(token) ?? []
  expect(Buffer.from(random, "base64url")).toHaveLength(32)
  expect(statSync(join(directory, "token")).mode & 0o777).toBe(0o600)
})
