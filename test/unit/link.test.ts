import { once } from "node:events"
import { createServer, type Server } from "node:http"
import { type AddressInfo, connect as connectTcp, type Socket } from "node:net"
import { afterEach, beforeEach, describe, expect, it } from "vitest"
import { WebSocket } from "ws"
import { createMemoryBackend } from "../../src/adapters/memory/backend.ts"
import { connectMemory, type MemoryPorts } from "../../src/adapters/memory/connect.ts"
import { connectLink } from "../../src/agent/connection.ts"
import { createSpool } from "../../src/agent/spool.ts"
import { type CredentialWatch, watchCredentials } from "../../src/api/credential-watch.ts"
import { RunEnded } from "../../src/api/credentials.ts"
import { createGateway } from "../../src/api/gateway.ts"
import { acceptLinks, type LinkParts } from "../../src/api/link.ts"
import type { Authenticate, Authenticated } from "../../src/core/authenticate-port.ts"
import { Fault } from "../../src/core/faults.ts"
import { closeReplaced, closeUnauthenticated } from "../../src/core/frames.ts"
import type { Instance } from "../../src/core/instance.ts"
import { aRun, aSpec, manualClock } from "../contract/harness.ts"

/** The link over real WebSockets and the real gateway; who may come in is the test's to say. */

const ended = { controller: new AbortController() }
let server: Server
let url: string
let ports: MemoryPorts
let one: Instance
const reports: unknown[] = []
const ends: (() => void)[] = []

/** By bearer; a bearer that is not there is refused. */
const answers = new Map<string, () => Promise<Authenticated>>()
const asked: string[] = []
const authenticate: Authenticate = async (bearer) => {
  asked.push(bearer)
  return answers.get(bearer)?.()
}
const as = (instance: Instance, more: Partial<Authenticated> = {}): Authenticated => ({
  who: { kind: "instance", id: instance.name, uid: instance.uid, lineage: [] },
  place: "p1",
  ...more,
})
const know = (bearer: string, more: Partial<Authenticated> = {}): void =>
  void answers.set(bearer, async () => as(one, more))

async function open(more: Partial<LinkParts> = {}): Promise<void> {
  const { signal } = ended.controller
  const clock = manualClock()
  ports = connectMemory(createMemoryBackend(clock), { clock })
  await ports.ready()
  const created = await ports.instances.create("one", aSpec())
  one = await ports.instances.updateStatus(created, "run", aRun({ place: "p1" }))
  const gateway = createGateway({
    ...ports,
    id: "g-1",
    store: ports.instances,
    clock,
    policy: () => ({ iterationMinutesMax: 240 }),
    policyChanged: async function* () {},
    report: (_, error) => void reports.push(error),
  })
  void gateway.run(signal)
  const watch: CredentialWatch = watchCredentials(authenticate, async function* () {}, signal)
  const report = (error: unknown): void => void reports.push(error)
  acceptLinks(server, { gateway, authenticate, watch, report, ...more }, signal)
}
beforeEach(async () => {
  ended.controller = new AbortController()
  server = createServer()
  server.listen(0, "127.0.0.1")
  await once(server, "listening")
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}` // TCP, so no path
})
afterEach(async () => {
  ended.controller.abort()
  for (const end of ends.splice(0)) end()
  ports.close()
  answers.clear()
  asked.length = 0
  await new Promise((resolve) => server.close(resolve).closeAllConnections())
  expect(reports.splice(0)).toEqual([])
})

/** The first thing that becomes of an upgrade: a status, a code of closing, or the first frame. */
const upgrade = (bearer: string | undefined, headers: Record<string, string> = {}) =>
  new Promise<number | string>((resolve) => {
    const socket = new WebSocket(`${url.replace("http", "ws")}/v1/link`, {
      headers: { ...(bearer !== undefined && { authorization: `Bearer ${bearer}` }), ...headers },
    })
    ends.push(() => socket.terminate())
    socket.on("unexpected-response", (_, { statusCode = 0 }) => resolve(statusCode))
    socket.on("message", (data) => resolve(JSON.parse(String(data)).type))
    socket.on("close", (code) => resolve(code))
    socket.on("error", () => {})
  })

describe("an upgrade", () => {
  it("is for an instance at its place, and nobody else", async () => {
    await open()
    know("good")
    answers.set("person", async () => ({ who: { kind: "human", id: "ann", role: "admin" } }))
    answers.set("no-place", async () => ({ who: as(one).who }))
    answers.set("refused", async () => {
      throw new Fault("Unauthenticated", "It is revoked.", "Get another.")
    })
    answers.set("unknown", async () => {
      throw new Fault("Unavailable", "The issuer hangs.", "Wait.")
    })
    expect(await upgrade("good")).toBe("directive")
    for (const bearer of [undefined, "stranger", "person", "no-place", "refused"])
      expect([bearer, await upgrade(bearer)]).toEqual([bearer, 401])
    expect(await upgrade("good", { origin: "http://localhost" })).toBe(401)
    expect(await upgrade("unknown")).toBe(503)
  })

  it("of a run that has ended is let in to be told so", async () => {
    await open()
    answers.set("former", async () => {
      throw new RunEnded()
    })
    expect(await upgrade("former")).toBe(closeReplaced)
  })

  it("that fails for no fault of its own is tried again later, and told to people", async () => {
    await open()
    answers.set("broken", async () => {
      throw new Error("the token review failed")
    })
    expect(await upgrade("broken")).toBe(503)
    expect(reports.splice(0)).toMatchObject([{ message: "the token review failed" }])
  })

  it("whose authentication hangs is refused after its time, and delays nobody", async () => {
    await open({ bounds: { waitingMax: 10, waitMs: 500 } })
    know("good")
    answers.set("hanging", () => new Promise(() => {}))
    const hanging = upgrade("hanging")
    expect(await upgrade("good")).toBe("directive")
    expect(await hanging).toBe(503)
  })

  it("finds room again after those that waited, or that went away while they did", async () => {
    await open({ bounds: { waitingMax: 3, waitMs: 60_000 } })
    know("good")
    const release = Promise.withResolvers<Authenticated>()
    answers.set("hanging", () => release.promise)
    const waiting = [1, 2].map(() => upgrade("hanging"))
    const gone: Socket = connectTcp(Number(new URL(url).port), "127.0.0.1")
    gone.write(
      "GET /v1/link HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nAuthorization: Bearer hanging\r\n\r\n",
    )
    while (asked.length < 3) await new Promise((resolve) => setImmediate(resolve))
    expect(await upgrade("good")).toBe(503)
    expect(asked).toHaveLength(3) // nobody was asked
    gone.resetAndDestroy()
    let answer: number | string = 503
    while (answer === 503) answer = await upgrade("good")
    expect(answer).toBe("directive")
    release.resolve(as(one))
    expect(await Promise.race(waiting)).toBe("directive")
    expect(await upgrade("good")).toBe("directive")
  })
})

describe("a link", () => {
  it("authenticates again before its credential ends, and goes on with a later end", async () => {
    await open()
    const untilMs = [Date.now() + 500, Date.now() + 60_000]
    const again = Promise.withResolvers<void>()
    answers.set("renewed", async () => {
      const until = untilMs.shift()
      if (untilMs.length === 0) again.resolve()
      return as(one, { untilMs: until ?? Date.now() + 60_000 })
    })
    const socket = new WebSocket(`${url.replace("http", "ws")}/v1/link`, {
      headers: { authorization: "Bearer renewed" },
    })
    await once(socket, "message")
    await again.promise
    socket.send(JSON.stringify({ type: "event", seq: 1, event: anEvent }))
    const [ack] = await once(socket, "message")
    expect(JSON.parse(String(ack))).toEqual({ type: "ack", seq: 1 })
    socket.terminate()
  })

  it.each<[string, () => Promise<Authenticated>]>([
    ["is refused then", () => Promise.reject(new Fault("Unauthenticated", "Revoked.", "Go."))],
    ["has no later end then", async () => as(one, { untilMs: 0 })],
    ["cannot be checked then", () => Promise.reject(new Fault("Unavailable", "Away.", "Wait."))],
  ])("is closed when its credential %s; its supervisor comes with another", async (_, then) => {
    await open()
    answers.set("first", async () => {
      answers.set("first", then)
      return as(one, { untilMs: Date.now() + 500 })
    })
    know("second")
    const bearers = ["first", "second"]
    const heard: string[] = []
    const again = Promise.withResolvers<void>()
    const link = connectLink({
      endpoint: { url, credential: async () => bearers.shift() ?? "none" },
      spool: createSpool({ left: [], keep: () => {}, dropped: () => {} }),
      directive: () => {
        if (heard.push("directive") === 2) again.resolve()
      },
      mail: () => {},
      replaced: () => void heard.push("replaced"),
      away: () => void heard.push("away"),
      connected: () => {},
    })
    ends.push(link.close)
    link.send({ type: "event", event: anEvent })
    await again.promise
    expect(heard).toEqual(["directive", "directive"])
    await link.flushed(new AbortController().signal)
    expect(bearers).toEqual([])
  })

  it("tells why it closes, with a code that an older supervisor takes for any other", async () => {
    await open()
    answers.set("short", async () => {
      answers.delete("short")
      return as(one, { untilMs: Date.now() + 300 })
    })
    const socket = new WebSocket(`${url.replace("http", "ws")}/v1/link`, {
      headers: { authorization: "Bearer short" },
    })
    const [code] = await once(socket, "close")
    expect(code).toBe(closeUnauthenticated)
    expect([1001, closeReplaced]).not.toContain(code)
  })
})

const anEvent = {
  id: "e1",
  kind: "IterationStarted",
  message: "Iteration 1 began.",
  atMs: Date.UTC(2026, 0, 1),
} as const
