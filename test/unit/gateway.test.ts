import { afterEach, beforeEach, describe, expect, it } from "vitest"
import { createMemoryBackend, type MemoryBackend } from "../../src/adapters/memory/backend.ts"
import { connectMemory, type MemoryPorts } from "../../src/adapters/memory/connect.ts"
import { backlogMax } from "../../src/api/frame-queue.ts"
import { createGateway, type Gateway, type GatewayPorts } from "../../src/api/gateway.ts"
import { DiskFull } from "../../src/core/faults.ts"
import {
  closeAgain,
  closeMalformed,
  closeReplaced,
  closeUnavailable,
  type DownFrame,
} from "../../src/core/frames.ts"
import type { Instance } from "../../src/core/instance.ts"
import type { Timeline } from "../../src/core/ports.ts"
import { aBeat, aMail, aRun, aSpec, type ManualClock, manualClock } from "../contract/harness.ts"

/** The gateway's side of links, over memory ports; another process writes to the same fleet. */

let clock: ManualClock
let backend: MemoryBackend
let here: MemoryPorts
let there: MemoryPorts
let stop: AbortController
let gateway: Gateway
let running: Promise<void>
const reports: unknown[] = []

function start(more: Partial<GatewayPorts> = {}): void {
  const parts: GatewayPorts = {
    ...here,
    id: "gateway-1",
    store: here.instances,
    clock,
    policy: () => ({ iterationMinutesMax: 240 }),
    policyChanged: async function* () {},
    report: (_, error) => void reports.push(error),
    ...more,
  }
  gateway = createGateway(parts)
  running = gateway.run(stop.signal)
}
beforeEach(async () => {
  clock = manualClock()
  backend = createMemoryBackend(clock)
  here = connectMemory(backend, { clock })
  there = connectMemory(backend, { clock })
  await Promise.all([here.ready(), there.ready()])
  stop = new AbortController()
})
afterEach(async () => {
  stop.abort()
  await running
  here.close()
  there.close()
  expect(reports.splice(0)).toEqual([])
})

const add = async (name: string, place = "p1"): Promise<Instance> => {
  const created = await there.instances.create(name, aSpec())
  return there.instances.updateStatus(created, "run", aRun({ place }))
}
const isShown = async (holds: () => boolean): Promise<void> => {
  while (!holds()) await new Promise((resolve) => setImmediate(resolve))
}
/** A supervisor's link, of which frames are awaited one by one. */
function link({ name, uid }: Instance, place = "p1") {
  const frames: DownFrame[] = []
  const closes: number[] = []
  let wake: (() => void) | undefined
  const { receive, closed } = gateway.connect({
    name,
    uid,
    place,
    send(frame) {
      frames.push(frame)
      wake?.()
    },
    close(code) {
      closes.push(code)
      wake?.()
    },
  })
  return {
    closes,
    closed,
    receive,
    say: (frame: object) => receive(JSON.stringify(frame)),
    async next(): Promise<DownFrame> {
      while (frames.length === 0)
        await new Promise<void>((resolve) => {
          wake = resolve
        })
      const [frame] = frames.splice(0, 1)
      if (!frame) throw new Error("no frame")
      return frame
    },
    async closeCode(): Promise<number | undefined> {
      while (closes.length === 0)
        await new Promise<void>((resolve) => {
          wake = resolve
        })
      return closes[0]
    },
  }
}
const anEvent = (seq: number) => ({
  type: "event",
  seq,
  event: { id: `e${seq}`, kind: "Warning", message: `warning ${seq}`, atMs: clock.nowMs() },
})

describe("directives", () => {
  it("come at the connect, and again when what they say has changed", async () => {
    start()
    const one = await add("one")
    const supervisor = link(one)
    expect(await supervisor.next()).toMatchObject({ type: "directive", directive: { orders: [] } })
    const spec = { ...one.spec, orders: [{ id: "o1", text: "Test first." }] }
    const ordered = await there.instances.updateSpec(one, { ...one.spec, priority: 7 })
    await there.instances.updateSpec(ordered, spec)
    expect(await supervisor.next()).toMatchObject({ directive: { orders: spec.orders } })
  })

  it("carry a turn only to the place that it was granted for", async () => {
    start()
    const [one, two] = [await add("one"), await add("two")]
    const links = [link(one), link(two)]
    for (const supervisor of links) await supervisor.next()
    const turn = { id: "t1", grantedAtMs: clock.nowMs() }
    await there.turns.set(
      1,
      [
        { ...turn, uid: one.uid, place: "p1" },
        { ...turn, uid: two.uid, place: "elsewhere" },
      ],
      [],
    )
    expect(await links[0]?.next()).toMatchObject({ directive: { turn: { id: "t1" } } })
    const paused = { when: "now" } as const
    await there.instances.updateSpec(two, { ...two.spec, state: "Paused", pause: paused })
    expect(await links[1]?.next()).not.toHaveProperty("directive.turn")
  })
})

describe("a link", () => {
  it("is closed when the store has another run, and told that its own was replaced", async () => {
    start()
    const one = await add("one")
    const supervisor = link(one)
    await supervisor.next()
    await there.instances.updateStatus(one, "run", aRun({ place: "p2" }))
    expect(await supervisor.closeCode()).toBe(closeReplaced)
  })

  it("that the replica does not know yet waits for it, and ends nothing", async () => {
    start()
    const one = await add("one")
    await isShown(() => here.instances.replica.get("one")?.status.run !== undefined)
    here.wire.cut()
    await there.instances.updateStatus(one, "run", aRun({ place: "p2" }))
    const supervisor = link(one, "p2")
    here.wire.resume()
    // The clock stands still: the feed comes back with its next attempt.
    const turning = setInterval(() => clock.advance(1000), 5)
    expect(await supervisor.next()).toMatchObject({ type: "directive" })
    clearInterval(turning)
    expect(supervisor.closes).toEqual([])
  })

  it("makes way for the next of the same supervisor, whose place it does not take with it", async () => {
    start()
    const one = await add("one")
    const former = link(one)
    const present = link(one)
    expect(await former.closeCode()).toBe(closeAgain)
    former.closed()
    await present.next()
    await there.instances.updateSpec(one, { ...one.spec, orders: [{ id: "o1", text: "Go." }] })
    expect(await present.next()).toMatchObject({ directive: { orders: [{ id: "o1" }] } })
  })

  it("is registered with its gateway until it ends", async () => {
    start()
    const one = await add("one")
    const supervisor = link(one)
    await isShown(() => there.reports.links.get(one.uid) !== undefined)
    expect(there.reports.links.get(one.uid)).toMatchObject({ gateway: "gateway-1", place: "p1" })
    supervisor.closed()
    await isShown(() => there.reports.links.get(one.uid) === undefined)
  })
})

describe("frames", () => {
  it("bring mail down and its delivery up, which is told once", async () => {
    start()
    const [one, two] = [await add("one"), await add("two")]
    await there.mailboxes.send(one.uid, aMail("m1"))
    await there.mailboxes.send(two.uid, aMail("m2"))
    const supervisor = link(one)
    const first = [await supervisor.next(), await supervisor.next()]
    expect(first).toContainEqual({ type: "mail", mail: expect.objectContaining({ id: "m1" }) })
    const receipt = { state: "Delivered", iteration: 3, hook: "Stop" }
    for (const [at, mail] of ["m1", "m1", "m2"].entries())
      supervisor.say({ type: "receipt", seq: at + 1, receipt: { ...receipt, mail } })
    for (const seq of [1, 2, 3]) expect(await supervisor.next()).toEqual({ type: "ack", seq })
    const { events } = await there.timeline.lastEvents({ kinds: ["MailDelivered"], limit: 10 })
    expect(events.map(({ message }) => message)).toEqual([
      "m1 was delivered to one in iteration 3, by Stop.",
    ])
  })

  it("keep their order, and are acknowledged when they are stored", async () => {
    start()
    const one = await add("one")
    const supervisor = link(one)
    await supervisor.next()
    for (let seq = 1; seq <= 50; seq++) supervisor.say(anEvent(seq))
    for (let seq = 1; seq <= 50; seq++)
      expect(await supervisor.next()).toEqual({ type: "ack", seq })
    const { events } = await there.timeline.lastEvents({ kinds: ["Warning"], limit: 100 })
    expect(events.map(({ message }) => message).toReversed()).toEqual(
      Array.from({ length: 50 }, (_, at) => `warning ${at + 1}`),
    )
  })

  it("that are none close the link", async () => {
    start()
    const one = await add("one")
    for (const text of ["", "{", "null", '{"type":"beat"}', '{"type":"order","seq":1}']) {
      const supervisor = link(one)
      supervisor.receive(text)
      expect(await supervisor.closeCode()).toBe(closeMalformed)
      supervisor.closed()
    }
    expect(reports.splice(0)).toHaveLength(5)
  })

  it("of another place than the link's say nothing", async () => {
    start()
    const one = await add("one")
    const supervisor = link(one)
    await supervisor.next()
    supervisor.say({ type: "beat", beat: aBeat({ place: "p9" }) })
    supervisor.say(anEvent(1))
    expect(await supervisor.next()).toEqual({ type: "ack", seq: 1 })
    expect(here.reports.beats.get(one.uid)).toBeUndefined()
  })

  it("may wait up to a bound, beyond which the link is cut", async () => {
    const never = Promise.withResolvers<void>()
    const timeline: Timeline = { ...here.timeline, append: () => never.promise }
    start({ timeline })
    const one = await add("one")
    const supervisor = link(one)
    await supervisor.next()
    for (let seq = 1; seq <= backlogMax; seq++) supervisor.say(anEvent(seq))
    expect(supervisor.closes).toEqual([])
    supervisor.say(anEvent(backlogMax + 1))
    expect(supervisor.closes).toEqual([closeUnavailable])
    never.resolve()
  })

  it("wait while the disk is full, and let beats pass", async () => {
    let isFull = true
    const timeline: Timeline = {
      ...here.timeline,
      async append(event) {
        if (isFull) throw new DiskFull("/state")
        await here.timeline.append(event)
      },
    }
    start({ timeline })
    const one = await add("one")
    const supervisor = link(one)
    await supervisor.next()
    supervisor.say(anEvent(1))
    await isShown(() => reports.length === 1)
    supervisor.say({ type: "beat", beat: aBeat() })
    await isShown(() => here.reports.beats.get(one.uid) !== undefined)
    isFull = false
    clock.advance(1000)
    expect(await supervisor.next()).toEqual({ type: "ack", seq: 1 })
    expect(supervisor.closes).toEqual([])
    expect(reports.splice(0)).toMatchObject([{ code: "Unavailable" }])
  })

  it("that cannot be stored for another reason close the link, and come again with the next", async () => {
    let isBroken = true
    const timeline: Timeline = {
      ...here.timeline,
      async append(event) {
        if (isBroken) throw new Error("the database is broken")
        await here.timeline.append(event)
      },
    }
    start({ timeline })
    const one = await add("one")
    const former = link(one)
    await former.next()
    former.say(anEvent(1))
    expect(await former.closeCode()).toBe(closeUnavailable)
    former.closed()
    isBroken = false
    const present = link(one)
    await present.next()
    present.say(anEvent(1))
    expect(await present.next()).toEqual({ type: "ack", seq: 1 })
    expect(reports.splice(0)).toHaveLength(1)
  })
})
