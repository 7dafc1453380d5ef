/** What must hold of every Bus. The bounds differ: each adapter names its own inbox's. */
import { afterEach, beforeEach, describe, expect, it } from "vitest"
import type { Turn } from "../../src/core/ports.ts"
import { operators } from "../../src/core/ports.ts"
import type { Wait } from "../../src/core/waits.ts"
import { expectFault } from "./expect-fault.ts"
import {
  aBeat,
  aMail,
  type ManualClock,
  manualClock,
  type Open,
  type Opened,
  startMs,
  stepping,
  uid,
} from "./harness.ts"
import type { Bus } from "./sqlite-bus.ts"

const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))
const [a, b] = [uid("a"), uid("b")]
const aTurn = (of: Turn["uid"], id: string, more: Partial<Turn> = {}): Turn => ({
  uid: of,
  id,
  place: "p1",
  grantedAtMs: 1,
  ...more,
})
const anEvent = (id: string, more: Partial<Parameters<Bus["append"]>[0]> = {}) => ({
  id,
  kind: "Warning" as const,
  message: `message of ${id}`,
  atMs: startMs,
  ...more,
})

export function describeBus(
  name: string,
  open: Open<Bus>,
  { inboxMax }: { inboxMax: number },
): void {
  describe(`Bus: ${name}`, () => {
    let clock: ManualClock
    let opened: Opened<Bus>
    let bus: Bus
    let stop: AbortController
    const reopen = async (): Promise<void> => {
      opened = await opened.reopen()
      bus = opened.port
    }

    beforeEach(async () => {
      clock = manualClock()
      opened = await open(clock)
      bus = opened.port
      stop = new AbortController()
    })
    afterEach(async () => {
      stop.abort()
      await opened.close()
    })

    const inbox = (of = a, signal = stop.signal) => stepping(bus.inbox(of, signal))
    const stateOf = async (mail: string) =>
      (await bus.posted({ mails: [mail], limit: 1 }))[0]?.receipt
    const ids = async (query: Omit<Parameters<Bus["posted"]>[0], "limit">, limit = 100) =>
      (await bus.posted({ ...query, limit })).map(({ mail }) => mail.id)

    describe("mail", () => {
      it("yields what waits, oldest first, then what comes", async () => {
        for (const id of ["1", "2", "3"]) await bus.send(a, aMail(id))
        const reader = inbox()
        expect(await reader.take(3)).toEqual(["1", "2", "3"].map((id) => aMail(id)))
        const coming = reader.next()
        await bus.send(a, aMail("4"))
        expect((await coming).id).toBe("4")
      })

      it("yields a mail once in one call, however often it is sent, and again to the next call until it is delivered", async () => {
        await bus.send(a, aMail("1"))
        const reader = inbox()
        expect((await reader.next()).id).toBe("1")
        expect(await bus.send(a, aMail("1"))).toBe("Duplicate")
        expect(await bus.send(a, aMail("2"))).toBe("Accepted")
        expect((await reader.next()).id).toBe("2")
        await bus.receipt(a, { mail: "1", state: "Delivered" })
        expect((await inbox().next()).id).toBe("2")
      })

      it("reaches every reader, and no other address", async () => {
        const readers = [inbox(), inbox()]
        await bus.send(b, aMail("other"))
        await bus.send(a, aMail("1"))
        expect(await Promise.all(readers.map(async (reader) => (await reader.next()).id))).toEqual([
          "1",
          "1",
        ])
      })

      it("ends with its signal, also while nothing comes", async () => {
        const reader = inbox()
        await bus.send(a, aMail("1"))
        await reader.next()
        const ended = reader.ended()
        stop.abort()
        expect(await ended).toBe(true)
        expect(await inbox().ended()).toBe(true)
      })

      it("does not hand out what was returned while a reader was busy", async () => {
        for (const id of ["1", "2"]) await bus.send(a, aMail(id))
        const reader = inbox()
        await reader.next()
        expect(await bus.returnAll(a)).toBe(2)
        await bus.send(a, aMail("3"))
        expect((await reader.next()).id).toBe("3")
      })

      it("refuses at the bound, keeps what waits, and takes mail again when some was delivered", async () => {
        for (let count = 0; count < inboxMax; count++) await bus.send(a, aMail(`m${count}`))
        await expectFault(bus.send(a, aMail("over")), "RateLimited")
        expect(await bus.send(a, aMail("m0"))).toBe("Duplicate")
        expect(await bus.send(b, aMail("other"))).toBe("Accepted")
        expect(await ids({ to: a, waiting: true }, 1000)).toHaveLength(inboxMax)
        await bus.receipt(a, { mail: "m0", state: "Delivered" })
        expect(await bus.send(a, aMail("over"))).toBe("Accepted")
      })

      it("keeps mail and receipts over a restart", async () => {
        for (const id of ["1", "2"]) await bus.send(a, aMail(id))
        await bus.receipt(a, { mail: "1", state: "Delivered", iteration: 4, hook: "Stop" })
        const before = await bus.posted({ to: a, limit: 10 })
        await reopen()
        expect(await bus.posted({ to: a, limit: 10 })).toEqual(before)
        expect(await inbox().next()).toEqual(aMail("2"))
        expect(await bus.send(a, aMail("1"))).toBe("Duplicate")
      })

      it.each([
        ["Queued", "Delivered", "Delivered"],
        ["Queued", "Returned", "Returned"],
        ["Delivered", "Queued", "Delivered"],
        ["Delivered", "Returned", "Delivered"],
        ["Returned", "Delivered", "Returned"],
        ["Delivered", "Answered", "Answered"],
        ["Answered", "Delivered", "Answered"],
        ["Answered", "Returned", "Answered"],
      ] as const)("a receipt never goes back: %s, then %s is %s", async (first, second, last) => {
        await bus.send(a, aMail("1"))
        await bus.receipt(a, { mail: "1", state: first })
        await bus.receipt(a, { mail: "1", state: second })
        expect((await stateOf("1"))?.state).toBe(last)
      })

      it("keeps where a mail was delivered when it is answered", async () => {
        await bus.send(a, aMail("1"))
        expect(await stateOf("1")).toEqual({ mail: "1", state: "Queued" })
        await bus.receipt(a, { mail: "1", state: "Delivered", iteration: 4, hook: "PostToolUse" })
        await bus.send(operators, aMail("2", { replyTo: "1" }))
        expect(await stateOf("1")).toEqual({
          mail: "1",
          state: "Answered",
          iteration: 4,
          hook: "PostToolUse",
        })
        expect(await stateOf("2")).toEqual({ mail: "2", state: "Queued" })
      })

      it("takes a receipt for a mail it does not know any more", async () => {
        await bus.receipt(a, { mail: "unknown", state: "Delivered" })
        expect(await stateOf("unknown")).toBeUndefined()
      })

      it("returns all that waits, and nothing that was delivered", async () => {
        for (const id of ["1", "2", "3"]) await bus.send(a, aMail(id))
        await bus.send(b, aMail("other"))
        await bus.receipt(a, { mail: "1", state: "Delivered" })
        expect(await bus.returnAll(a)).toBe(2)
        expect(await bus.returnAll(a)).toBe(0)
        expect(
          (await bus.posted({ to: a, limit: 10 })).map(({ receipt }) => receipt.state),
        ).toEqual(["Returned", "Returned", "Delivered"])
        expect((await stateOf("other"))?.state).toBe("Queued")
      })

      it("lists what was posted, newest first, by address, sender, id and whether it waits", async () => {
        await bus.send(a, aMail("1", { from: "operator root" }))
        await bus.send(operators, aMail("2", { from: "instance shop" }))
        await bus.send(a, aMail("3", { from: "instance shop" }))
        await bus.receipt(a, { mail: "1", state: "Delivered" })
        expect(await ids({})).toEqual(["3", "2", "1"])
        expect(await ids({ to: a })).toEqual(["3", "1"])
        expect(await ids({ to: operators })).toEqual(["2"])
        expect(await ids({ from: "instance shop" })).toEqual(["3", "2"])
        expect(await ids({ from: "instance shop", to: a })).toEqual(["3"])
        expect(await ids({ mails: ["1", "2", "unknown"] })).toEqual(["2", "1"])
        expect(await ids({ mails: [] })).toEqual([])
        expect(await ids({ waiting: true })).toEqual(["3", "2"])
        expect(await ids({ to: a, waiting: true })).toEqual(["3"])
        expect(await ids({}, 2)).toEqual(["3", "2"])
        expect((await bus.posted({ to: operators, limit: 1 }))[0]).toMatchObject({
          to: operators,
          receipt: { mail: "2", state: "Queued" },
        })
      })
    })

    describe("events", () => {
      const read = async (
        query: Partial<Parameters<Bus["events"]>[0]> = {},
        signal?: AbortSignal,
      ) =>
        (await bus.events({ after: "", limit: 100, waitMs: 0, ...query }, signal)).events.map(
          ({ id }) => id,
        )

      it("gives them in order, with cursors to go on from", async () => {
        for (const id of ["1", "2", "3"]) await bus.append(anEvent(id, { uid: a }))
        const {
          events: [first, ...rest],
          cursor,
        } = await bus.events({ after: "", limit: 100, waitMs: 0 })
        expect(cursor).toBe(rest.at(-1)?.cursor)
        expect(first).toEqual({ ...anEvent("1", { uid: a }), cursor: expect.any(String) })
        expect(rest.map(({ id }) => id)).toEqual(["2", "3"])
        expect(await read({ after: first?.cursor ?? "" })).toEqual(["2", "3"])
        expect(await read({ limit: 2 })).toEqual(["1", "2"])
        expect(await read({ after: "$" })).toEqual([])
        await reopen()
        expect(await read({ after: first?.cursor ?? "" })).toEqual(["2", "3"])
      })

      it("counts a repeat once, also over a restart", async () => {
        await bus.append(anEvent("1", { uid: a }))
        await bus.append(anEvent("1", { uid: a }))
        await reopen()
        await bus.append(anEvent("1", { uid: a }))
        expect(await read()).toEqual(["1"])
      })

      it("lets no instance swallow another's event by its id", async () => {
        for (const of of [{ uid: a }, { uid: b }, {}]) await bus.append(anEvent("1", of))
        expect(await read()).toEqual(["1", "1", "1"])
      })

      it("tells those of one instance, and those of the fleet without a uid", async () => {
        await bus.append(anEvent("1", { uid: a }))
        await bus.append(anEvent("2", { uid: b }))
        await bus.append(anEvent("3"))
        expect(await read({ uids: [a] })).toEqual(["1"])
        expect(
          (await bus.events({ after: "", limit: 9, waitMs: 0 })).events.map((event) => event.uid),
        ).toEqual([a, b, undefined])
      })

      it("tells those of several instances, and of some kinds", async () => {
        const c = uid("c")
        await bus.append(anEvent("1", { uid: a }))
        await bus.append(anEvent("2", { uid: b, kind: "Exited", outcome: "Failed" }))
        await bus.append(anEvent("3", { uid: c, kind: "Exited" }))
        await bus.append(anEvent("4", { kind: "Changed" }))
        expect(await read({ uids: [a, c] })).toEqual(["1", "3"])
        expect(await read({ kinds: ["Exited", "Changed"] })).toEqual(["2", "3", "4"])
        expect(await read({ uids: [a, b], kinds: ["Exited"] })).toEqual(["2"])
        expect(await read({ uids: [] })).toEqual([])
        const { events } = await bus.events({ after: "", kinds: ["Exited"], limit: 1, waitMs: 0 })
        expect(events).toEqual([
          {
            ...anEvent("2", { uid: b, kind: "Exited", outcome: "Failed" }),
            cursor: expect.any(String),
          },
        ])
      })

      it("gives a cursor to go on from also where nothing is found, and then misses nothing", async () => {
        await bus.append(anEvent("1", { uid: a }))
        const ends = [
          await bus.events({ after: "$", limit: 9, waitMs: 0 }),
          await bus.events({ after: "", uids: [b], limit: 9, waitMs: 0 }),
          await bus.events({ after: "", kinds: ["Changed"], limit: 9, waitMs: 0 }),
        ]
        const waited = bus.events({ after: "$", limit: 9, waitMs: 60_000 })
        await settled() // whatever it does before it waits is done
        clock.advance(60_000)
        const aborted = bus.events({ after: "$", limit: 9, waitMs: 60_000 }, stop.signal)
        stop.abort()
        for (const end of [...ends, await waited, await aborted]) expect(end.events).toEqual([])
        await bus.append(anEvent("2", { uid: b }))
        for (const { cursor } of [...ends, await waited, await aborted])
          expect(await read({ after: cursor })).toEqual(["2"])
      })

      it("tells the last ones, newest first, by instance, kind and time, and those before a cursor", async () => {
        const last = async (query: Partial<Parameters<Bus["lastEvents"]>[0]> = {}) =>
          (await bus.lastEvents({ limit: 100, ...query })).events.map(({ id }) => id)
        expect(await last()).toEqual([])
        for (const [index, of] of [a, b, a, b].entries())
          await bus.append(
            anEvent(`${index + 1}`, {
              uid: of,
              kind: index < 2 ? "Warning" : "Exited",
              atMs: startMs + index,
            }),
          )
        await bus.append(anEvent("5", { kind: "Changed", atMs: startMs + 4 }))
        expect(await last()).toEqual(["5", "4", "3", "2", "1"])
        expect(await last({ limit: 2 })).toEqual(["5", "4"])
        expect(await last({ uids: [a] })).toEqual(["3", "1"])
        expect(await last({ uids: [b], kinds: ["Exited"] })).toEqual(["4"])
        expect(await last({ kinds: ["Warning", "Changed"] })).toEqual(["5", "2", "1"])
        expect(await last({ sinceMs: startMs + 3 })).toEqual(["5", "4"])
        const {
          events: [, fourth],
          cursor,
        } = await bus.lastEvents({ limit: 2 })
        expect(await read({ after: cursor })).toEqual([])
        expect(await last({ before: fourth?.cursor ?? "" })).toEqual(["3", "2", "1"])
        await expectFault(bus.lastEvents({ before: "x", limit: 1 }), "Invalid", /Invalid cursor/)
        await reopen()
        expect(await last({ kinds: ["Exited"] })).toEqual(["4", "3"])
      })

      it("waits for the first that fits, and no longer", async () => {
        const waiting = read({ after: "$", uids: [a], waitMs: 60_000 })
        await bus.append(anEvent("other", { uid: b }))
        await bus.append(anEvent("1", { uid: a }))
        expect(await waiting).toEqual(["1"])
      })

      it("gives up when the time is over", async () => {
        const waiting = read({ after: "$", waitMs: 60_000 })
        await settled() // whatever it does before it waits is done
        clock.advance(60_000)
        expect(await waiting).toEqual([])
      })

      it("gives up with its signal", async () => {
        const waiting = read({ after: "$", waitMs: 60_000 }, stop.signal)
        stop.abort()
        expect(await waiting).toEqual([])
        expect(await read({ after: "$", waitMs: 60_000 }, stop.signal)).toEqual([])
      })

      it("refuses what is no cursor", async () => {
        for (const after of ["x", "-1", "1 OR 1"])
          await expectFault(bus.events({ after, limit: 1, waitMs: 0 }), "Invalid", /Invalid cursor/)
      })
    })

    describe("turns and beats", () => {
      it("grants and ends, and keeps both over a restart", async () => {
        await bus.setTurns(1, [aTurn(a, "t1"), aTurn(b, "t2")], [])
        expect(new Map(await bus.turns())).toEqual(
          new Map([
            [a, aTurn(a, "t1")],
            [b, aTurn(b, "t2")],
          ]),
        )
        await bus.setTurns(1, [], [aTurn(a, "t1")])
        await reopen()
        expect(new Map(await bus.turns())).toEqual(new Map([[b, aTurn(b, "t2")]]))
      })

      it("does not end a turn that was granted since", async () => {
        await bus.setTurns(1, [aTurn(a, "t1")], [])
        await bus.setTurns(1, [aTurn(a, "t2")], [aTurn(a, "t1")])
        await bus.setTurns(1, [], [aTurn(a, "t1"), aTurn(a, "t2", { place: "p0" })])
        expect((await bus.turns()).get(a)?.id).toBe("t2")
      })

      it("refuses a leader that was followed by another, over a restart too, and then changes nothing", async () => {
        await bus.setTurns(7, [aTurn(a, "t1")], [])
        await reopen()
        await expectFault(bus.setTurns(6, [aTurn(b, "t2")], [aTurn(a, "t1")]), "Conflict")
        expect([...(await bus.turns()).keys()]).toEqual([a])
        await bus.setTurns(7, [aTurn(b, "t2")], [])
        expect((await bus.turns()).size).toBe(2)
      })

      it("remembers the newest leader even if that one changed nothing", async () => {
        await bus.setTurns(7, [], [])
        await expectFault(bus.setTurns(6, [aTurn(a, "t1")], []), "Conflict")
      })

      it("keeps the latest beat of each", async () => {
        await bus.beat(a, aBeat())
        await bus.beat(a, aBeat({ frozen: true }))
        await bus.beat(b, aBeat())
        const beats = await bus.beats()
        expect(new Map(beats)).toEqual(
          new Map([
            [a, aBeat({ frozen: true })],
            [b, aBeat()],
          ]),
        )
        await bus.beat(b, aBeat({ frozen: true }))
        expect(beats.get(b)?.frozen).toBe(false)
      })

      const usage = { usd: 0, tokens: 0, iterations: 0, ms: 0 }
      it.each([
        ["a turn", { turn: { id: "t", state: "Wanted" as const, sinceMs: 1 } }],
        ["frozen", { frozen: true }],
        ["a hold", { hold: { reason: "RateLimited" as const, message: "Limit.", untilMs: 5 } }],
        ["dollars", { used: { ...usage, usd: 0.01 } }],
        ["tokens", { used: { ...usage, tokens: 1 } }],
        ["iterations", { used: { ...usage, iterations: 1 } }],
        ["the place", { place: "p2" }],
        ["news", { news: "mail" as const }],
        [
          "the end of an iteration",
          { last: { turn: "t", iteration: 1, outcome: "NONE" as const, text: "", atMs: 1 } },
        ],
      ])("tells whose beat changed: %s", async (_what, change) => {
        await bus.beat(a, aBeat())
        const told = stepping(bus.watch(stop.signal))
        expect(await told.next()).toBe(a)
        await bus.beat(a, aBeat(change))
        expect(await told.next()).toBe(a)
      })

      it("keeps the last wait of each kind, over a restart, until its time is over", async () => {
        const answer: Wait = {
          kind: "answer",
          mail: "m-1",
          text: "Which?",
          turn: "t1",
          sinceMs: startMs,
          untilMs: startMs + 1000,
        }
        const parked: Wait = {
          kind: "instances",
          targets: [{ uid: b, name: "b" }],
          ...{
            until: "finished",
            mode: "all",
            turn: "t1",
            sinceMs: startMs,
            untilMs: startMs + 5000,
          },
        }
        await bus.wait(a, answer)
        await bus.wait(a, parked)
        await bus.wait(a, { ...answer, mail: "m-2" })
        await reopen()
        expect((await bus.waits()).get(a)?.toSorted((x, y) => x.untilMs - y.untilMs)).toEqual([
          { ...answer, mail: "m-2" },
          parked,
        ])
        clock.advance(1000)
        expect((await bus.waits()).get(a)).toEqual([parked])
        clock.advance(4000)
        expect((await bus.waits()).get(a) ?? []).toEqual([])
      })

      it("tells who waits", async () => {
        const told = stepping(bus.watch(stop.signal))
        await bus.beat(b, aBeat())
        expect(await told.next()).toBe(b)
        await bus.wait(a, {
          kind: "answer",
          mail: "m",
          text: "?",
          turn: "t",
          sinceMs: startMs,
          untilMs: startMs + 1000,
        })
        expect(await told.next()).toBe(a)
      })

      it("tells nothing of what only passes", async () => {
        const told = stepping(bus.watch(stop.signal))
        await bus.beat(a, aBeat())
        expect(await told.next()).toBe(a)
        clock.advance(5000)
        await bus.beat(
          a,
          aBeat({
            atMs: startMs + 5000,
            used: { ...usage, ms: 5000 },
            activity: { tool: "Bash", summary: "ls", sinceMs: 1 },
          }),
        )
        await bus.beat(b, aBeat())
        expect(await told.next()).toBe(b)
      })

      it("tells who came back after a silence", async () => {
        const told = stepping(bus.watch(stop.signal))
        await bus.beat(a, aBeat())
        expect(await told.next()).toBe(a)
        await bus.beat(a, aBeat({ atMs: startMs + 15_001 }))
        expect(await told.next()).toBe(a)
      })

      it("tells whose turn was granted or ended, and first everybody it knows", async () => {
        await bus.setTurns(1, [aTurn(a, "t1")], [])
        await bus.beat(b, aBeat())
        const told = stepping(bus.watch(stop.signal))
        expect((await told.take(2)).toSorted()).toEqual([a, b])
        await bus.setTurns(1, [], [aTurn(a, "t1")])
        expect(await told.next()).toBe(a)
        await bus.setTurns(1, [aTurn(b, "t2")], [])
        expect(await told.next()).toBe(b)
      })
    })
  })
}
