/**
 * The whole control plane over the memory adapter, with pods that are not there: the second
 * composition, which needs nothing of the machine's. It is called over HTTP, as people do.
 */
import { once } from "node:events"
import type { Server } from "node:http"
import type { AddressInfo } from "node:net"
import { createAdaptorServer } from "@hono/node-server"
import { Client } from "@modelcontextprotocol/sdk/client/index.js"
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js"
import { pino } from "pino"
import { afterEach, expect, it } from "vitest"
import { WebSocket } from "ws"
import { z } from "zod"
import { cronWindows } from "../../src/adapters/cron/windows.ts"
import { createMemoryBackend } from "../../src/adapters/memory/backend.ts"
import { connectMemory } from "../../src/adapters/memory/connect.ts"
import { through } from "../../src/api/app.ts"
import { assemble, type PlaneSettings, type Ports } from "../../src/assemble/assemble.ts"
import type { Authenticate } from "../../src/core/authenticate-port.ts"
import type { Directive } from "../../src/core/directive.ts"
import { Fault } from "../../src/core/faults.ts"
import { type DownFrame, downFrameSchema, type UpFrame } from "../../src/core/frames.ts"
import { uidSchema } from "../../src/core/instance.ts"
import type { Projects, Workload } from "../../src/core/ports.ts"
import type { Principal } from "../../src/core/principal.ts"
import type { Source } from "../../src/core/source.ts"
import { noUsage } from "../../src/core/usage.ts"
import { systemClock } from "../../src/host/clock.ts"
import { createMcpHttp } from "../../src/mcp/http.ts"
import { mountMcp } from "../../src/roles/mount-mcp.ts"
import { policySchema } from "../../src/settings/policy.ts"
import { tools } from "../../tools/index.ts"
import { type FakeProcess, fakeRuntime } from "../contract/fake-runtime.ts"

const admin: Principal = { kind: "human", id: "Ann", role: "admin" }
const bearer = "the-admin's-token"

/** Who a fake supervisor is, as its own bearer. */
const bearerFor = ({ name, uid }: Workload, place: string): string =>
  Buffer.from(JSON.stringify({ name, uid, place })).toString("base64url")
const holderSchema = z.object({ name: z.string(), uid: uidSchema, place: z.string() })

const authenticate: Authenticate = async (given) => {
  if (given === bearer) return { who: admin }
  const { name, uid, place } = holderSchema.parse(
    JSON.parse(Buffer.from(given, "base64url").toString()),
  )
  return { who: { kind: "instance", id: name, uid, lineage: [] }, place }
}

/** A supervisor that does as it is told at once, linked as a real one is. */
function fakeSupervisor(url: string, workload: Workload, place: string): FakeProcess {
  let directive: Directive | undefined
  let seq = 0
  const say = (frame: UpFrame): void => socket.send(JSON.stringify(frame))
  const beat = (): void =>
    say({
      type: "beat",
      beat: {
        place,
        frozen: directive?.freeze !== undefined,
        used: noUsage,
        atMs: Date.now(),
        ...(directive?.turn === undefined && {
          turn: { id: `t-${place}`.slice(0, 64), state: "Wanted", sinceMs: 1 },
        }),
      },
    })
  const take = (frame: DownFrame): void => {
    if (frame.type === "directive") {
      directive = frame.directive
      beat()
    }
    if (frame.type === "mail")
      say({
        type: "receipt",
        seq: ++seq,
        receipt: { mail: frame.mail.id, state: "Delivered", iteration: 1, hook: "Stop" },
      })
  }
  const socket = new WebSocket(`${url.replace("http", "ws")}/v1/link`, {
    headers: { authorization: `Bearer ${bearerFor(workload, place)}` },
  })
  socket.on("message", (data) => take(downFrameSchema.parse(JSON.parse(String(data)))))
  socket.on("error", () => {}) // the server may close while it connects
  return { stop: () => socket.close() }
}

const noProjects: Projects = {
  list: async () => ["shop"],
  shared: async () => new Map(),
  async named(root) {
    throw new Fault("NotFound", `No code root ${root} is known here.`, "Give none.")
  },
  async rootOf(_, callers) {
    if (callers !== undefined) throw new Error(`no caller named ${callers}`)
    return undefined
  },
  foresee: async () => ({ loop: "built-in", sharedWith: [], at: () => ({}) }),
}

const stopping: (() => Promise<void>)[] = []
afterEach(async () => {
  for (const stop of stopping.splice(0)) await stop()
})

async function startPlane() {
  const ended = new AbortController()
  const failures: unknown[] = []
  const report = (error: unknown): void => void failures.push(error)
  const policy = policySchema.parse({})
  const memory = connectMemory(createMemoryBackend(systemClock), { clock: systemClock, report })
  await memory.ready()
  let url = ""
  const runtime = fakeRuntime((workload, place) => fakeSupervisor(url, workload, place))
  const wider = { codeRoot: "/not/the/callers" }
  const ports: Ports = {
    ...memory,
    // A composition may keep more in it; a handler's context has a field of this name.
    ...wider,
    store: memory.instances,
    runtime,
    authenticate,
    logs: async () => ({ lines: [], cursor: "", lost: false, more: false }),
    projects: noProjects,
    keptTrees: { list: async () => [], remove: async () => ({}) },
    windows: cronWindows(),
    clock: systemClock,
  }
  const settings: PlaneSettings = {
    version: "0.0.0",
    offer: { readOnly: false },
    log: pino({ level: "silent" }),
    report: () => (_, error) => {
      if (!(error instanceof Fault && error.code === "Conflict")) report(error)
    },
    policy: () => policy,
    async *policyChanged() {},
    limits: () => ({
      instancesMax: policy.instancesMax,
      turnsMax: policy.turnsMax,
      loops: ["ralf"],
      defaultLoop: "ralf",
      budget: policy.budget,
      children: policy.children,
      isolation: { kind: "pod" },
      billing: "metered",
    }),
    secretPrefixes: () => [],
    serversOfProject: () => ({ servers: [], left: [] }),
  }
  const plane = assemble(ports, settings, ended.signal)
  const { invokeAs } = plane
  const mcp = createMcpHttp({ tools, version: "0.0.0", invokeAs, nowMs: systemClock.nowMs })
  mountMcp(plane.app, mcp)
  // Plain HTTP is the default.
  const server = createAdaptorServer({ fetch: through(plane.app, "tcp") }) as Server
  server.listen(0, "127.0.0.1")
  await once(server, "listening")
  plane.acceptLinks(server)
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}` // TCP, so no path
  const running = plane.run()
  stopping.push(async () => {
    ended.abort()
    await mcp.close()
    await new Promise((resolve) => server.close(resolve).closeAllConnections())
    await running
    memory.close()
    expect(failures).toEqual([])
  })
  const call = async (method: string, path: string, body?: unknown) => {
    const response = await fetch(url + path, {
      method,
      headers: { authorization: `Bearer ${bearer}`, "content-type": "application/json" },
      ...(body !== undefined && { body: JSON.stringify(body) }),
    })
    return { status: response.status, json: await response.json() }
  }
  return { url, call, runtime, memory }
}

/** Waits until it is so; looks again at each change that the source tells of. */
async function until(source: Source, isSo: () => Promise<boolean>): Promise<void> {
  const ended = new AbortController()
  try {
    for await (const _ of source(ended.signal)) if (await isSo()) return
  } finally {
    ended.abort()
  }
}

it("composes over any ports: an agent is spawned, told, paused, resumed and stopped over HTTP", async () => {
  const { url, call, runtime, memory } = await startPlane()
  const runNow = async () => memory.instances.replica.get("shop-1")?.status.run
  const reachesPhase = (phase: string, number: number) =>
    until(memory.instances.replica.watch, async () => {
      const run = await runNow()
      return run?.phase === phase && run.number === number
    })
  const turnsFrozen = (isFrozen: boolean) =>
    until(memory.reports.beats.watch, async () => {
      const beats = [...memory.reports.beats.snapshot().values()]
      return beats.some(({ frozen }) => frozen === isFrozen)
    })
  const steer = (verb: string) => call("POST", `/v1/instances:${verb}`, { names: ["shop-1"] })

  const spawned = await call("POST", "/v1/instances", { project: "shop", goal: "Sell tea." })
  expect(spawned).toMatchObject({ status: 200, json: { name: "shop-1" } })
  await reachesPhase("Running", 1)
  expect(await call("GET", "/v1/instances")).toMatchObject({
    status: 200,
    json: { instances: [{ name: "shop-1", project: "shop" }] },
  })

  // MCP finds what REST made: both faces stand before the same control plane.
  const client = new Client({ name: "assemble", version: "1" })
  const headers = { authorization: `Bearer ${bearer}` }
  await client.connect(
    new StreamableHTTPClientTransport(new URL(`${url}/mcp`), { requestInit: { headers } }),
  )
  expect(await client.callTool({ name: "list_instances", arguments: {} })).toMatchObject({
    structuredContent: { instances: [{ name: "shop-1" }] },
  })
  await client.close()

  await call("POST", "/v1/messages", { to: ["shop-1"], text: "Sell coffee too." })
  const delivered = await call("GET", "/v1/events?kinds=MailDelivered&after=&waitSeconds=20")
  expect(delivered).toMatchObject({ status: 200, json: { events: [{ kind: "MailDelivered" }] } })

  await turnsFrozen(false)
  expect(await steer("pause")).toMatchObject({ status: 200 })
  await turnsFrozen(true)
  expect(await steer("resume")).toMatchObject({ status: 200 })
  await turnsFrozen(false)
  expect(await steer("stop")).toMatchObject({ status: 200 })
  await reachesPhase("Exited", 1)
  expect(runtime.lives("shop-1")).toBe(false)

  // Started afresh, it is the same instance in another run.
  const { place } = (await runNow()) ?? {}
  expect(await steer("resume")).toMatchObject({ status: 200 })
  await reachesPhase("Running", 2)
  expect((await runNow())?.place).not.toBe(place)
})
