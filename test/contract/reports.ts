/** What must hold of every Reports. */
import { afterEach, beforeEach, describe, expect, it } from "vitest"
import type { Linked } from "../../src/core/link.ts"
import type { Reports } from "../../src/core/ports.ts"
import { currentWaits, type Wait } from "../../src/core/waits.ts"
import {
  aBeat,
  type ManualClock,
  manualClock,
  type Open,
  type Opened,
  startMs,
  stepping,
  uid,
} from "./harness.ts"

const [a, b] = [uid("a"), uid("b")]
const usage = { usd: 0, tokens: 0, iterations: 0, ms: 0 }
const aLink = (more: Partial<Linked> = {}): Linked => ({
  gateway: "g-1",
  place: "p1",
  sinceMs: startMs,
  ...more,
})

export function describeReports(
  name: string,
  open: Open<Reports>,
  { handles }: { handles: "one" | "several" },
): void {
  describe(`Reports: ${name}`, () => {
    let clock: ManualClock
    let opened: Opened<Reports>
    let reports: Reports
    let stop: AbortController
    const reopen = async (): Promise<void> => {
      opened = await opened.reopen()
      reports = opened.port
    }

    beforeEach(async () => {
      clock = manualClock()
      opened = await open(clock)
      reports = opened.port
      stop = new AbortController()
    })
    afterEach(async () => {
      stop.abort()
      await opened.close()
    })

    it("keeps the latest beat of each", async () => {
      await reports.beat(a, aBeat())
      await reports.beat(a, aBeat({ frozen: true }))
      await reports.beat(b, aBeat())
      const beats = reports.beats.snapshot()
      expect(new Map(beats)).toEqual(
        new Map([
          [a, aBeat({ frozen: true })],
          [b, aBeat()],
        ]),
      )
      await reports.beat(b, aBeat({ frozen: true }))
      expect(beats.get(b)?.frozen).toBe(false)
    })

    it("drops a beat that an older link brings after a later one of the same place", async () => {
      const later = aBeat({ frozen: true, sentAtSteadyMs: 20 })
      await reports.beat(a, later)
      await reports.beat(a, aBeat({ sentAtSteadyMs: 10 }))
      expect(reports.beats.get(a)).toEqual(later)
      const elsewhere = aBeat({ place: "p2", sentAtSteadyMs: 10 })
      await reports.beat(a, elsewhere)
      expect(reports.beats.get(a)).toEqual(elsewhere)
    })

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
      await reports.beat(a, aBeat())
      const told = stepping(reports.beats.watch(stop.signal))
      expect(await told.next()).toBe(a)
      await reports.beat(a, aBeat(change))
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
      await reports.wait(a, answer)
      await reports.wait(a, parked)
      await reports.wait(a, { ...answer, mail: "m-2" })
      await reopen()
      expect(
        currentWaits(reports.waits.snapshot(), clock.nowMs())
          .get(a)
          ?.toSorted((x, y) => x.untilMs - y.untilMs),
      ).toEqual([{ ...answer, mail: "m-2" }, parked])
      clock.advance(1000)
      expect(currentWaits(reports.waits.snapshot(), clock.nowMs()).get(a)).toEqual([parked])
      clock.advance(4000)
      expect(currentWaits(reports.waits.snapshot(), clock.nowMs()).get(a) ?? []).toEqual([])
    })

    it("tells nothing of what only passes", async () => {
      const told = stepping(reports.beats.watch(stop.signal))
      await reports.beat(a, aBeat())
      expect(await told.next()).toBe(a)
      clock.advance(5000)
      await reports.beat(
        a,
        aBeat({
          atMs: startMs + 5000,
          used: { ...usage, ms: 5000 },
          activity: { tool: "Bash", summary: "ls", sinceMs: 1 },
        }),
      )
      await reports.beat(b, aBeat())
      expect(await told.next()).toBe(b)
    })

    it("tells who came back after a silence", async () => {
      const told = stepping(reports.beats.watch(stop.signal))
      await reports.beat(a, aBeat())
      expect(await told.next()).toBe(a)
      await reports.beat(a, aBeat({ atMs: startMs + 15_001 }))
      expect(await told.next()).toBe(a)
    })

    it("tells who waits", async () => {
      const told = stepping(reports.waits.watch(stop.signal))
      const next = told.next()
      await reports.wait(a, {
        kind: "answer",
        mail: "m",
        text: "?",
        turn: "t",
        sinceMs: startMs,
        untilMs: startMs + 1000,
      })
      expect(await next).toBe(a)
    })

    it("gives the same snapshot while nobody beats", async () => {
      await reports.beat(a, aBeat())
      const before = reports.beats.snapshot()
      expect(reports.beats.snapshot()).toBe(before)
      await reports.beat(a, aBeat({ frozen: true }))
      expect(reports.beats.snapshot().version).toBeGreaterThan(before.version)
    })

    it("knows who is linked until that very link is taken out", async () => {
      const [first, second] = [aLink(), aLink({ place: "p2", sinceMs: startMs + 1 })]
      await reports.linked(a, first)
      await reports.linked(b, first)
      expect(reports.links.get(a)).toEqual(first)
      await reports.linked(a, second)
      await reports.unlinked(a, first)
      expect(reports.links.get(a)).toEqual(second)
      await reports.unlinked(a, second)
      expect(new Map(reports.links.snapshot())).toEqual(new Map([[b, first]]))
    })

    it("keeps no link over a restart: it ended with its process", async () => {
      await reports.linked(a, aLink())
      await reopen()
      expect(reports.links.get(a)).toBeUndefined()
    })

    if (handles === "several")
      describe("with two handles", () => {
        it("shows the other what is reported here, also after its feed was cut", async () => {
          const { port: other, wire, comeBack } = await opened.second()
          await reports.beat(a, aBeat())
          await expect.poll(() => other.beats.get(a)).toEqual(aBeat())
          wire.cut()
          await expect.poll(() => other.beats.staleSinceMs).toBeDefined()
          await reports.beat(a, aBeat({ frozen: true }))
          await reports.beat(b, aBeat())
          expect([other.beats.get(a)?.frozen, other.beats.get(b)]).toEqual([false, undefined])
          await comeBack()
          await expect
            .poll(() => [other.beats.get(a)?.frozen, other.beats.get(b)])
            .toEqual([true, aBeat()])
        })

        it("tells the other only the news", async () => {
          const { port: other } = await opened.second()
          await reports.beat(a, aBeat())
          const told = stepping(other.beats.watch(stop.signal))
          expect(await told.next()).toBe(a)
          await reports.beat(a, aBeat({ atMs: startMs + 5000, used: { ...usage, ms: 5000 } }))
          await reports.beat(b, aBeat())
          expect(await told.next()).toBe(b)
          expect(other.beats.get(a)?.atMs).toBe(startMs + 5000)
        })

        it("loses the links of a gateway that is gone, and keeps those that went elsewhere", async () => {
          const { port: other, close } = await opened.second()
          await other.linked(a, aLink({ gateway: "g-2" }))
          await other.linked(b, aLink({ gateway: "g-2" }))
          await expect.poll(() => reports.links.get(b)?.gateway).toBe("g-2")
          await reports.linked(a, aLink())
          close()
          await expect.poll(() => reports.links.get(b)).toBeUndefined()
          expect(reports.links.get(a)?.gateway).toBe("g-1")
        })

        it("keeps the waits that either wrote of one instance", async () => {
          const { port: other } = await opened.second()
          const wait = { turn: "t1", sinceMs: startMs, untilMs: startMs + 1000 }
          await reports.wait(a, { kind: "answer", mail: "m-1", text: "Which?", ...wait })
          await other.wait(a, {
            kind: "instances",
            targets: [{ uid: b, name: "b" }],
            until: "finished",
            mode: "all",
            ...wait,
          })
          const kinds = () => reports.waits.get(a)?.map(({ kind }) => kind)
          await expect.poll(kinds).toEqual(["answer", "instances"])
        })
      })
  })
}
