import { type ChildProcessWithoutNullStreams, execFile, spawn } from "node:child_process"
import { once } from "node:events"
import { copyFileSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs"
import type { Server } from "node:http"
import type { AddressInfo } from "node:net"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"
import { createAdaptorServer } from "@hono/node-server"
import { Client } from "@modelcontextprotocol/sdk/client/index.js"
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js"
import { InMemoryTransport } from "@modelcontextprotocol/sdk/inMemory.js"
import {
  ElicitRequestSchema,
  SUPPORTED_PROTOCOL_VERSIONS,
} from "@modelcontextprotocol/sdk/types.js"
import { pino } from "pino"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { z } from "zod"
import { createApp, through } from "../../src/api/app.ts"
import { authenticateByMachineToken } from "../../src/api/authenticate.ts"
import { createMetrics } from "../../src/api/metrics.ts"
import { Fault } from "../../src/core/faults.ts"
import { type Call, defineTool } from "../../src/core/tool.ts"
import { instructionsFor, protocolVersions } from "../../src/mcp/about.ts"
import { createMcpServer } from "../../src/mcp/server.ts"
import { createSurface } from "../../src/mcp/surface.ts"
import { tools as all } from "../../tools/index.ts"
import { eventually } from "./world.ts"

/** No MCP server has the others. */
const tools = all.filter(({ toolset }) => toolset !== "admin")

/** Built by `npm test` before the tests run. */
const main = fileURLToPath(new URL("../../dist/main.js", import.meta.url))
const directory = mkdtempSync(join(tmpdir(), "bb5-stdio-"))
const token = "t".repeat(43)
const nobody = { total: 0, instances: [], next: "spawn_instance" }

/** A control plane elsewhere, which answers as the tests say. */
const calls: { name: string; input: unknown; call: Call }[] = []
let answering = async (_: Call): Promise<Record<string, unknown>> => nobody
const app = createApp({
  tools,
  invokeAs: () => async (name, input, call) => {
    calls.push({ name, input, call })
    return answering(call)
  },
  authenticate: authenticateByMachineToken(token, { kind: "human", id: "tester", role: "admin" }),
  offered: () => true,
  publicUrl: () => undefined,
  issuer: () => undefined,
  credentialWatch: { whileValid: () => () => {}, untilExpired: () => () => {} },
  ready: async () => ({ ready: true, why: "" }),
  metrics: createMetrics(tools),
  version: "0",
  log: pino({ level: "silent" }),
})
const server = createAdaptorServer({
  fetch: through(app, "tcp"),
  overrideGlobalObjects: false,
}) as Server // plain HTTP is the default
let remote: Record<string, string> = {}
/** A state directory that nothing can be made in: here no serve ever starts. */
const nowhere = {
  PATH: process.env.PATH ?? "",
  HOME: directory,
  BLACKBOX5_STATE: join(directory, "file", "state"),
}

beforeAll(async () => {
  writeFileSync(join(directory, "file"), "")
  server.listen(0, "127.0.0.1")
  await once(server, "listening")
  const { port } = server.address() as AddressInfo // TCP, so no path
  remote = { ...nowhere, BLACKBOX5_URL: `http://127.0.0.1:${port}`, BLACKBOX5_TOKEN: token }
})
afterAll(async () => {
  // What a failed test has left must not find a directory where it could start a serve.
  for (const { child, exited } of spawned) {
    child.kill("SIGKILL")
    await exited
  }
  await new Promise((resolve) => server.close(resolve).closeAllConnections())
  rmSync(directory, { recursive: true })
})

interface Raw {
  readonly child: ChildProcessWithoutNullStreams
  readonly exited: Promise<unknown[]>
  say(...messages: unknown[]): void
  /** The next line of its standard output. */
  hear(): Promise<unknown>
}
const spawned: Raw[] = []
/** The process, line by line. */
function raw(env: Record<string, string>, args: readonly string[] = []): Raw {
  const child = spawn(process.execPath, [main, "mcp", ...args], { env })
  child.stderr.resume()
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  const spoken: Raw = {
    child,
    exited: once(child, "exit"),
    say: (...messages) =>
      void child.stdin.write(
        messages
          .map(
            (one) =>
              `${typeof one === "string" ? one : JSON.stringify({ jsonrpc: "2.0", ...Object(one) })}\n`,
          )
          .join(""),
      ),
    async hear() {
      const { value, done } = await lines.next()
      return done ? undefined : JSON.parse(value)
    },
  }
  spawned.push(spoken)
  return spoken
}
const initialize = (protocolVersion = "2025-11-25") => ({
  id: 0,
  method: "initialize",
  params: { protocolVersion, capabilities: {}, clientInfo: { name: "test", version: "1" } },
})
const initialized = { method: "notifications/initialized" }

describe("raw lines", () => {
  it("are answered before there is a serve, and every call says why there is none", async () => {
    const { say, hear, child, exited } = raw(nowhere)
    say({ id: "p", method: "ping" })
    expect(await hear()).toEqual({ jsonrpc: "2.0", id: "p", result: {} })
    say({ id: 9, method: "server/discover" })
    expect(await hear()).toMatchObject({ id: 9, error: { code: -32601 } })
    say(initialize())
    expect(await hear()).toMatchObject({
      id: 0,
      result: {
        protocolVersion: "2025-11-25",
        capabilities: {
          tools: {},
          resources: { subscribe: true, listChanged: true },
          prompts: {},
          completions: {},
        },
        serverInfo: { name: "blackbox5" },
        instructions: instructionsFor(undefined),
      },
    })
    say(initialized)
    for (const id of [1, 2]) {
      say({ id, method: "tools/call", params: { name: "fleet_status", arguments: {} } })
      expect(await hear()).toMatchObject({
        id,
        result: {
          isError: true,
          content: [
            { text: expect.stringMatching(/state directory .* cannot be created.* Next: /s) },
          ],
        },
      })
    }
    child.stdin.end()
    expect(await exited).toEqual([0, null])
    // Nothing but answers: the initialize handed on to the SDK was not answered again.
    expect(await hear()).toBeUndefined()
  })

  it("may all come at once: none is lost, answered twice or out of order", async () => {
    const { say, hear, child, exited } = raw(remote)
    const lists = Array.from({ length: 50 }, (_, at) => ({ id: at + 1, method: "tools/list" }))
    say(initialize("2024-11-05"), initialized, ...lists)
    child.stdin.end()
    expect(await hear()).toMatchObject({ id: 0, result: { protocolVersion: "2024-11-05" } })
    for (const { id } of lists)
      expect(await hear()).toMatchObject({ id, result: { tools: expect.any(Array) } })
    expect(await hear()).toBeUndefined()
    expect(await exited).toEqual([0, null])
  })

  it.each<[string, readonly string[], Record<string, string>]>([
    ["a person", [], {}],
    ["a person who may only read", ["--read-only"], {}],
    ["a client of no tools", ["--toolsets", "admin"], {}],
    [
      "a client with bounds in its environment",
      [],
      { BLACKBOX5_READ_ONLY: "1", BLACKBOX5_TOOLSETS: "fleet,tasks" },
    ],
    [
      "an agent",
      [],
      {
        BLACKBOX5_AGENT_URL: "http://127.0.0.1:1",
        BLACKBOX5_AGENT_TOKEN: "x",
        BLACKBOX5_AGENT_NAME: "one",
      },
    ],
  ])(
    "list the same tools to %s before the server is loaded and after: the built list is that of the tools",
    async (_, args, env) => {
      const { say, hear, child, exited } = raw({ ...nowhere, ...env }, args)
      const list = { method: "tools/list", params: { _meta: { progressToken: 1 } } }
      say(initialize(), initialized, { id: 1, ...list })
      await hear()
      const before = await hear()
      // Only the loaded server knows what this is.
      say({ id: 2, method: "prompts/list" })
      expect(await hear()).toMatchObject({ id: 2, result: { prompts: expect.any(Array) } })
      say({ id: 1, ...list })
      expect(await hear()).toEqual(before)
      const readOnly = args.includes("--read-only") || "BLACKBOX5_READ_ONLY" in env
      const shown = args.includes("admin")
        ? []
        : tools.filter(({ hints }) => !readOnly || hints.readOnlyHint)
      expect(before).toMatchObject({
        id: 1,
        result: { tools: shown.map(({ name, description }) => ({ name, description })) },
      })
      child.stdin.end()
      expect(await exited).toEqual([0, null])
    },
  )

  it("need no libraries to list the tools: a process that may read none of them answers", async () => {
    // Without the chunks of the SDK and of zod there is only what the build knows.
    const copy = join(directory, "light")
    mkdirSync(copy)
    const built = dirname(main)
    for (const name of readdirSync(built).filter((one) =>
      /^(main|mcp|about|version|config|faults|view|parse-args|tool-list|rolldown)\b/.test(one),
    ))
      copyFileSync(join(built, name), join(copy, name))
    writeFileSync(join(copy, "package.json"), '{"type":"module"}')
    const child = spawn(process.execPath, [join(copy, "main.js"), "mcp"], {
      env: nowhere,
      stdio: ["pipe", "pipe", "ignore"],
    })
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
    for (const message of [initialize(), initialized, { id: 1, method: "tools/list" }])
      child.stdin.write(`${JSON.stringify({ jsonrpc: "2.0", ...message })}\n`)
    await lines.next()
    const { value } = await lines.next()
    expect(JSON.parse(value ?? "")).toMatchObject({
      id: 1,
      result: { tools: tools.map(({ name }) => ({ name })) },
    })
    child.kill("SIGKILL")
    await once(child, "exit")
  })

  it("that are no messages are told so, and the next one is read", async () => {
    const { say, hear, child, exited } = raw(remote)
    say("{broken")
    expect(await hear()).toMatchObject({ id: null, error: { code: -32700 } })
    say("[]")
    expect(await hear()).toMatchObject({ id: null, error: { code: -32600 } })
    say("x".repeat(9_000_000))
    expect(await hear()).toMatchObject({ id: null, error: { code: -32700 } })
    say("", initialize("1999-01-01"))
    expect(await hear()).toMatchObject({ id: 0, result: { protocolVersion: protocolVersions[0] } })
    say({ id: 1, method: "tools/list", params: [] }, { id: 2, method: "nothing" })
    expect(await hear()).toMatchObject({ id: 1, error: { code: -32600 } })
    expect(await hear()).toMatchObject({ id: 2, error: { code: -32601 } })
    child.stdin.end()
    expect(await exited).toEqual([0, null])
  })

  it("still get their answers after the input has ended; a signal ends it as well", async () => {
    const { say, hear, child, exited } = raw(remote)
    const answer = Promise.withResolvers<Record<string, unknown>>()
    const begun = Promise.withResolvers<void>()
    answering = () => {
      begun.resolve()
      return answer.promise
    }
    say(initialize(), initialized, {
      id: 1,
      method: "tools/call",
      params: { name: "list_instances", arguments: {} },
    })
    child.stdin.end()
    await begun.promise
    answer.resolve(nobody)
    expect(await hear()).toMatchObject({ id: 0 })
    expect(await hear()).toMatchObject({ id: 1, result: { structuredContent: nobody } })
    expect(await exited).toEqual([0, null])

    const other = raw(remote)
    other.say(initialize())
    await other.hear()
    other.child.kill("SIGTERM")
    expect(await other.exited).toEqual([0, null])
  })
})

describe("the real MCP client over stdio", () => {
  const connected = async (args: string[] = [], capabilities = {}) => {
    const client = new Client({ name: "test", version: "1" }, { capabilities })
    await client.connect(
      new StdioClientTransport({
        command: process.execPath,
        args: [main, "mcp", ...args],
        env: remote,
      }),
    )
    return Object.assign(client, { [Symbol.asyncDispose]: () => client.close() })
  }

  it("lists the tools, slim, with titles, hints and both schemas", async () => {
    await using client = await connected()
    expect(client.getInstructions()).toBe(instructionsFor(undefined))
    const { tools: listed } = await client.listTools()
    expect(listed.map(({ name }) => name)).toEqual(tools.map(({ name }) => name))
    for (const [at, tool] of listed.entries()) {
      expect(tool).toMatchObject({
        title: tools[at]?.title,
        annotations: { title: tools[at]?.title, ...tools[at]?.hints },
      })
      expect(tool.inputSchema).toMatchObject({ type: "object", additionalProperties: false })
      expect(tool.outputSchema).toMatchObject({ type: "object" })
    }
    const text = JSON.stringify(listed)
    expect(text).not.toMatch(/\$schema|9007199254740991|propertyNames|"additionalProperties":\{\}/)
  })

  it("reads resources, completes names, is prompted, and asks before what cannot be taken back", async () => {
    const one = {
      total: 1,
      instances: [{ name: "shop-1", project: "shop", phase: "Running", why: "It runs." }],
      next: "",
    }
    answering = async () => one
    await using client = await connected([], { elicitation: { form: {} } })
    expect(client.getServerVersion()?.icons?.[0]?.src).toMatch(/^data:image\/svg\+xml;base64,/)
    const { resources } = await client.listResources()
    expect(resources.map(({ uri }) => uri)).toEqual(["ralf://fleet", "ralf://instances/shop-1"])
    const { contents } = await client.readResource({ uri: "ralf://instances/shop-1/logs" })
    expect(calls.at(-1)).toMatchObject({ name: "read_logs", input: { name: "shop-1" } })
    expect(contents).toMatchObject([{ text: JSON.stringify(one) }])
    expect((await client.listResourceTemplates()).resourceTemplates).toHaveLength(3)
    const ref = { type: "ref/prompt" as const, name: "triage" }
    expect(await client.complete({ ref, argument: { name: "name", value: "sh" } })).toMatchObject({
      completion: { values: ["shop-1"] },
    })
    expect(
      (await client.getPrompt({ name: "triage", arguments: { name: "shop-1" } })).messages,
    ).toHaveLength(2)
    const asked: string[] = []
    client.setRequestHandler(ElicitRequestSchema, ({ params }) => {
      asked.push(params.message)
      return { action: "decline" }
    })
    const before = calls.filter(({ name }) => name === "stop_instances").length
    const result = await client.callTool({
      name: "stop_instances",
      arguments: { names: ["shop-1"], remove: true },
    })
    expect(result).toMatchObject({
      isError: true,
      content: [{ text: expect.stringMatching(/Nothing was changed/) }],
    })
    expect(asked).toEqual([expect.stringMatching(/Remove shop-1 for good/)])
    expect(calls.filter(({ name }) => name === "stop_instances")).toHaveLength(before)
  })

  it("gets results as structured content and text, progress, faults as errors", async () => {
    await using client = await connected()
    await client.listTools()
    const told: unknown[] = []
    answering = async ({ progress }) => {
      progress(1, "one")
      // The SDK's client forgets who wanted progress once it has the result, also when both came in
      // one piece.
      await eventually(() => told.length > 0, "progress")
      return nobody
    }
    const input = { project: "a", phases: ["Running"] }
    const result = await client.callTool({ name: "list_instances", arguments: input }, undefined, {
      onprogress: (one) => told.push(one),
    })
    expect(result).toMatchObject({
      structuredContent: nobody,
      content: [{ type: "text", text: expect.any(String) }],
    })
    expect(told).toEqual([{ progress: 1, message: "one" }])
    expect(calls.at(-1)).toMatchObject({ name: "list_instances", input })

    answering = () => Promise.reject(new Fault("Conflict", "It is so.", "Do that."))
    const failed = await client.callTool({ name: "fleet_status", arguments: {} })
    expect(failed).toEqual({
      isError: true,
      content: [{ type: "text", text: "It is so. Next: Do that." }],
    })
    await expect(client.callTool({ name: "nothing", arguments: {} })).rejects.toMatchObject({
      code: -32602,
    })
  })

  it("cancels a call as far as the control plane", async () => {
    await using client = await connected()
    const begun = Promise.withResolvers<void>()
    const aborted = Promise.withResolvers<void>()
    answering = async ({ signal }) => {
      begun.resolve()
      await once(signal, "abort")
      aborted.resolve()
      return nobody
    }
    const cancelling = new AbortController()
    const call = client.callTool({ name: "list_instances", arguments: {} }, undefined, {
      signal: cancelling.signal,
    })
    await begun.promise
    cancelling.abort()
    await expect(call).rejects.toThrow()
    await aborted.promise
  })

  it("sees and calls nothing that changes anything with --read-only", async () => {
    await using client = await connected(["--read-only"])
    const { tools: listed } = await client.listTools()
    expect(listed.map(({ name }) => name)).toEqual(
      tools.filter(({ hints }) => hints.readOnlyHint).map(({ name }) => name),
    )
    await expect(
      client.callTool({ name: "stop_instances", arguments: { all: true } }),
    ).rejects.toMatchObject({ code: -32602 })
  })
})

describe("what is said of itself", () => {
  it("names the SDK's versions of the protocol, tools that exist, and fits where clients cut", () => {
    expect(protocolVersions).toEqual(SUPPORTED_PROTOCOL_VERSIONS)
    for (const words of [instructionsFor(undefined), instructionsFor("a".repeat(53))]) {
      expect(Buffer.byteLength(words)).toBeLessThanOrEqual(2048)
      for (const [name] of words.matchAll(/\b[a-z]+_[a-z_]+\b/g))
        expect(tools.map((tool) => tool.name)).toContain(name)
    }
  })

  it("never offers tools of the set admin, and keeps a property that is named as a keyword", async () => {
    const tool = defineTool({
      name: "rotate_token",
      title: "Rotate",
      description: "For tests.",
      toolset: "admin",
      route: "POST /v1/token",
      verb: "administer",
      input: z.strictObject({}),
      output: z.strictObject({}),
      hints: {
        readOnlyHint: false,
        destructiveHint: true,
        idempotentHint: false,
        openWorldHint: false,
      },
      show: () => ({ text: "" }),
      handler: async () => ({}),
    })
    const odd = {
      ...tool,
      name: "odd",
      toolset: "fleet",
      input: z.strictObject({ propertyNames: z.int(), maximum: z.int().max(5) }),
    } as const
    const [here, there] = InMemoryTransport.createLinkedPair()
    const surface = createSurface({ tools: [tool, odd], invoke: async () => ({}), person: true })
    await createMcpServer({ surface, version: "0", instructions: "" }).connect(there)
    const client = new Client({ name: "test", version: "1" })
    await client.connect(here)
    const { tools: listed } = await client.listTools()
    expect(listed.map(({ name }) => name)).toEqual(["odd"])
    expect(listed[0]?.inputSchema.properties).toEqual({
      propertyNames: { type: "integer" },
      maximum: { type: "integer", maximum: 5 },
    })
    await expect(client.callTool({ name: "rotate_token", arguments: {} })).rejects.toMatchObject({
      code: -32602,
    })
    await client.close()
  })
})

describe("the command line", () => {
  const run = (args: string[], env = remote): Promise<{ code: number; out: string; err: string }> =>
    new Promise((resolve) => {
      const child = execFile(process.execPath, [main, ...args], { env }, (_, out, err) =>
        resolve({ code: child.exitCode ?? -1, out, err }),
      )
    })

  it("calls any tool, with flags and words, and prints a table or JSON", async () => {
    const rows = [{ name: "shop-1", project: "shop", phase: "Running", why: "It runs." }]
    answering = async () => ({ total: 1, instances: rows, next: "inspect_instance" })
    const table = await run([
      "list-instances",
      "shop-1",
      "--phases",
      "Running,Paused",
      "--limit",
      "5",
      "--detail",
    ])
    expect(table).toMatchObject({
      code: 0,
      err: "",
      out: expect.stringMatching(/shop-1 +.*Running/),
    })
    expect(calls.at(-1)?.input).toEqual({
      names: ["shop-1"],
      phases: ["Running", "Paused"],
      limit: 5,
      detail: true,
    })
    const json = await run([
      "list-instances",
      "--json",
      "--input",
      '{"limit":3,"project":"a"}',
      "--project",
      "b",
      "--no-detail",
    ])
    expect(JSON.parse(json.out)).toEqual({ total: 1, instances: rows, next: "inspect_instance" })
    expect(calls.at(-1)?.input).toEqual({ limit: 3, project: "b", detail: false })
  })

  it("ends with 1 for a fault and 2 for a wrong call, and says what to do", async () => {
    answering = () => Promise.reject(new Fault("NotFound", "There is none.", "Look elsewhere."))
    expect(await run(["fleet-status"])).toEqual({
      code: 1,
      out: "",
      err: "error: There is none.\nnext: Look elsewhere.\n",
    })
    expect(await run(["fleet-status"], nowhere)).toMatchObject({
      code: 1,
      err: expect.stringContaining("next: Set BLACKBOX5_STATE"),
    })
    expect(await run(["fleet-stats"])).toMatchObject({
      code: 2,
      out: "",
      err: expect.stringMatching(/next: .*main\.js fleet-status/),
    })
    for (const wrong of [["--strange"], ["word"], ["--input", "{"], ["--input", "[]"]])
      expect(await run(["fleet-status", ...wrong])).toMatchObject({
        code: 2,
        err: expect.stringMatching(/next: .*main\.js fleet-status --help/),
      })
    expect(await run(["mcp", "--strange"])).toMatchObject({ code: 2 })
  })

  it("lists all commands, and the flags of each", async () => {
    const { out } = await run(["help"])
    for (const { name } of tools) expect(out).toContain(name.replaceAll("_", "-"))
    for (const { name, input } of tools) {
      const help = await run([name.replaceAll("_", "-"), "--help"])
      expect(help.code).toBe(0)
      for (const field of Object.keys(input.shape))
        expect(help.out).toContain(
          `--${field.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`,
        )
    }
    expect(await run(["--version"])).toMatchObject({
      code: 0,
      out: expect.stringMatching(/^\d+\.\d+\.\d+\n$/),
    })
  })
})
