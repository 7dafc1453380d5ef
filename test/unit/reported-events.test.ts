/**
 * What supervisors tell, at the gateway with a file behind it: an agent may hold its supervisor's
 * real credential.
 */
import { mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterEach, beforeEach, describe, expect, it } from "vitest"
import { sqliteLedger } from "../../src/adapters/sqlite/ledger.ts"
import { type Database, openDatabase } from "../../src/adapters/sqlite/open.ts"
import { sqliteStore } from "../../src/adapters/sqlite/store.ts"
import { createGateway, type Gateway } from "../../src/api/gateway.ts"
import type { EventKind } from "../../src/core/event.ts"
import { closeMalformed, type DownFrame } from "../../src/core/frames.ts"
import type { Instance } from "../../src/core/instance.ts"
import type { Instances, Ledger } from "../../src/core/ports.ts"
import {
  aBeat,
  aMail,
  aRun,
  aSpec,
  type ManualClock,
  manualClock,
  startMs,
} from "../contract/harness.ts"
import { sqlitePorts } from "../contract/sqlite-ports.ts"

const place = "20260101T000000000Z-aaaa"
let directory: string
let database: Database
let clock: ManualClock
let ports: ReturnType<typeof sqlitePorts>
let store: Instances
let ledger: Ledger
let gateway: Gateway
const reports: unknown[] = []

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "blackbox5-"))
  database = await openDatabase(join(directory, "blackbox5.db"))
  clock = manualClock()
  ports = sqlitePorts(database, clock)
  store = sqliteStore(database, clock)
  ledger = sqliteLedger(database, clock)
  const policy = () => ({ iterationMinutesMax: 240 })
  const report = (_: string, error: unknown): void => void reports.push(error)
  gateway = createGateway({
    store,
    ...ports,
    id: "g-1",
    ledger,
    clock,
    policy,
    policyChanged: async function* () {},
    report,
  })
})
afterEach(async () => {
  expect(reports.splice(0)).toEqual([])
  database.close()
  await rm(directory, { recursive: true })
})

const add = async (name: string): Promise<Instance> => {
  const created = await store.create(name, aSpec())
  return store.updateStatus(created, "run", aRun({ place }))
}
/** One supervisor's link: what it sends is handled before `send` resolves. */
function link({ name, uid }: Instance) {
  const acknowledged: number[] = []
  const closes: number[] = []
  let seq = 0
  let heard: (() => void) | undefined
  const connection = gateway.connect({
    ...{ name, uid, place },
    send(frame: DownFrame) {
      if (frame.type === "ack") acknowledged.push(frame.seq)
      heard?.()
    },
    close(code) {
      closes.push(code)
      heard?.()
    },
  })
  const sendRaw = async (frame: unknown): Promise<void> => {
    const answered = new Promise<void>((resolve) => {
      heard = resolve
    })
    connection.receive(JSON.stringify(frame))
    await answered
  }
  const event = (more: object): Promise<void> =>
    sendRaw({
      ...{ type: "event", seq: ++seq },
      event: {
        id: `e${seq}`,
        kind: "IterationStarted",
        message: `Iteration ${seq} began.`,
        atMs: clock.nowMs(),
        ...more,
      },
    })
  const receipt = (more: object): Promise<void> =>
    sendRaw({
      type: "receipt",
      seq: ++seq,
      receipt: { state: "Delivered", iteration: 1, hook: "Stop", ...more },
    })
  return {
    event,
    receipt,
    sendRaw,
    acknowledged,
    closes,
    closed: connection.closed,
    seq: () => seq,
  }
}
const eventsOf = async ({ uid }: Instance, kinds?: readonly EventKind[]) =>
  (
    await ports.timeline.lastEvents({ uids: [uid], limit: 1000, ...(kinds && { kinds }) })
  ).events.toReversed()

describe("a supervisor that tells without end", () => {
  it("pushes out nothing, by 102,000 events in the time that so many posts take", async () => {
    const [fox, hen] = [await add("fox"), await add("hen")]
    for (let count = 0; count < 50; count++)
      await ports.timeline.append({
        id: `h${count}`,
        uid: hen.uid,
        kind: "Exited",
        message: `End ${count}.`,
        atMs: startMs,
      })
    const flood = link(fox)
    for (let count = 0; count < 102_000; count++) {
      if (count % 100 === 0) clock.advance(1000)
      await flood.event({ message: `Event ${count} of a flood.` })
    }
    // All are acknowledged: what is left out must not come again.
    expect([flood.acknowledged.length, flood.closes]).toEqual([102_000, []])
    expect(await eventsOf(hen)).toHaveLength(50)
    const told = await eventsOf(fox)
    expect(told.length).toBeLessThan(700)
    const begin = told.filter(({ kind }) => kind === "Warning")
    expect(begin.map(({ message }) => message)).toEqual([
      expect.stringMatching(/^It reports more than 600 events in 10 minutes/),
    ])

    const leftOut = 102_000 - (told.length - 1)
    for (let minute = 0; minute < 6; minute++) {
      clock.advance(60_000)
      store.replica.get("fox")
    }
    const warnings = await eventsOf(fox, ["Warning"])
    expect(warnings.map(({ message }) => message).slice(1)).toEqual([
      expect.stringMatching(
        `^Its events are kept again. Since 2026-01-01T00:0\\d:\\d\\dZ, ${leftOut} events of it were left out.$`,
      ),
    ])
    await flood.event({ message: "Back to work." })
    expect((await eventsOf(fox)).at(-1)?.message).toBe("Back to work.")
  }, 120_000)

  it("is not one that works: two events in each short iteration, day and night", async () => {
    const fox = await add("fox")
    const worker = link(fox)
    for (let iteration = 0; iteration < 450; iteration++) {
      await worker.event({ message: `Iteration ${iteration} began.` })
      clock.advance(2000)
      await worker.event({ kind: "IterationEnded", message: `Iteration ${iteration} ended.` })
    }
    expect(await eventsOf(fox)).toHaveLength(900)
  }, 30_000)

  it("tells what is the same again once, until something else happened or another place tells it", async () => {
    const fox = await add("fox")
    const worker = link(fox)
    for (const message of [
      "claude is missing.",
      "claude is missing.",
      "Something else.",
      "claude is missing.",
    ])
      await worker.event({ kind: "Warning", message })
    expect((await eventsOf(fox)).map(({ message }) => message)).toEqual([
      "claude is missing.",
      "Something else.",
      "claude is missing.",
    ])
    expect(worker.acknowledged).toEqual([1, 2, 3, 4])
  })
})

describe("a forging supervisor", () => {
  it("speaks for itself alone, of now at most, and in the place of nothing that the control plane says of it", async () => {
    const [fox, hen] = [await add("fox"), await add("hen")]
    const forged = link(fox)
    await forged.event({
      id: `exit-${place}`,
      kind: "Warning",
      message: "Nothing.",
      atMs: startMs + 1e12,
    })
    await ports.timeline.append({
      id: `exit-${place}`,
      uid: fox.uid,
      kind: "Exited",
      message: "The loop ended.",
      atMs: startMs,
    })
    expect((await eventsOf(fox)).map(({ kind, atMs }) => [kind, atMs])).toEqual([
      ["Warning", startMs],
      ["Exited", startMs],
    ])
    for (const more of [
      { uid: hen.uid },
      { kind: "Exited" },
      { kind: "Audit" },
      { kind: "Removed" },
      { atMs: 8_640_000_000_000_001 },
      { atMs: -1 },
      { message: "x".repeat(4001) },
      { outcome: "Complete" },
    ]) {
      const one = link(fox)
      await one.event(more)
      expect([more, one.closes, one.acknowledged]).toEqual([more, [closeMalformed], []])
      expect(String(reports.splice(0))).toMatch(/^Error: .{1,600}$/s)
    }
    expect(await eventsOf(fox)).toHaveLength(2)
    expect(await eventsOf(hen)).toEqual([])
  })

  it("says of its own mail that it was delivered, and nothing of others' or of what went back", async () => {
    const [fox, hen] = [await add("fox"), await add("hen")]
    await ports.mailboxes.send(hen.uid, aMail("hens"))
    await ports.mailboxes.send(fox.uid, aMail("own"))
    await ports.mailboxes.send(fox.uid, aMail("late"))
    const forged = link(fox)
    const receiptOf = async (mail: string) =>
      (await ports.mailboxes.posted({ mails: [mail], limit: 1 }))[0]?.receipt.state
    for (const mail of ["hens", "nobodys", "own", "own"]) await forged.receipt({ mail })
    for (const state of ["Returned", "Answered", "Queued"])
      await forged.receipt({ mail: "late", state })
    expect([await receiptOf("hens"), await receiptOf("own"), await receiptOf("late")]).toEqual([
      "Queued",
      "Delivered",
      "Queued",
    ])
    await ports.mailboxes.returnAll(fox.uid)
    await forged.receipt({ mail: "late" })
    expect(await receiptOf("late")).toBe("Returned")
    expect((await eventsOf(fox)).map(({ kind, message }) => [kind, message])).toEqual([
      ["MailDelivered", "own was delivered to fox in iteration 1, by Stop."],
    ])
    expect(forged.acknowledged.length).toBe(forged.seq())
  })

  it("sends a beat for its own place alone, with moments and sums that can be shown and added up", async () => {
    const fox = await add("fox")
    const most = { usd: 1e9, tokens: 1e12, iterations: 1e12, ms: 1e12 }
    const beats = [
      aBeat({ place: "another", used: most }),
      aBeat({ place, used: most, atMs: startMs + 1e12 }),
      ...[{ usd: 1e300 }, { tokens: Number.MAX_SAFE_INTEGER }, { usd: -1 }].map((more) =>
        aBeat({ place, used: { ...most, ...more } }),
      ),
      aBeat({ place, turn: { id: "t", state: "Running", sinceMs: 8.7e15 } }),
      aBeat({ place, hold: { reason: "RateLimited", message: "x", untilMs: 8.7e15 } }),
    ]
    const closes: (readonly number[])[] = []
    for (const beat of beats) {
      const forged = link(fox)
      // A beat is not acknowledged: the event behind it is.
      void forged.sendRaw({ type: "beat", beat })
      await forged.event({ kind: "Warning", message: "x" })
      closes.push([...forged.closes])
    }
    expect(closes).toEqual([[], [], ...Array.from({ length: 5 }, () => [closeMalformed])])
    expect([...ports.reports.beats.snapshot()]).toMatchObject([[fox.uid, { place, atMs: startMs }]])
    expect(await ledger.spentSince(0)).toEqual(most)
    expect(reports.splice(0)).toHaveLength(5)
  })

  it("is told nothing about, once its instance is gone", async () => {
    const fox = await add("fox")
    const left = link(fox)
    await left.event({ message: "Alive." })
    const seen = store.replica.get("fox")
    if (!seen) throw new Error("gone")
    await store.delete(seen)
    const marked = store.replica.get("fox")
    if (marked) await store.release(marked)
    await left.event({ message: "Still here." })
    expect((await eventsOf(fox)).map(({ message }) => message)).toEqual(["Alive."])
    expect(left.acknowledged).toEqual([1, 2])
  })
})
