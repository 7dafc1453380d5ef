/** What must hold of every Ledger. */
import { afterEach, beforeEach, describe, expect, it } from "vitest"
import type { Ledger } from "../../src/core/ports.ts"
import type { Usage } from "../../src/core/usage.ts"
import {
  aBirth,
  type ManualClock,
  manualClock,
  type Open,
  type Opened,
  startMs,
  uid,
} from "./harness.ts"

const used = (usd: number, more: Partial<Usage> = {}): Usage => ({
  usd,
  tokens: usd * 1000,
  iterations: usd,
  ms: usd * 60_000,
  ...more,
})
const hourMs = 3_600_000

export function describeLedger(
  name: string,
  open: Open<Ledger>,
  { handles }: { handles: "one" | "several" },
): void {
  describe(`Ledger: ${name}`, () => {
    let clock: ManualClock
    let opened: Opened<Ledger>
    let ledger: Ledger

    beforeEach(async () => {
      clock = manualClock()
      opened = await open(clock)
      ledger = opened.port
    })
    afterEach(() => opened.close())

    const of = (who: string): Usage | undefined => ledger.accounts.snapshot().get(uid(who))?.used

    it("keeps the maximum of each place, so that a repeat and a late report count once", async () => {
      await ledger.record(uid("a"), "p1", used(2))
      await ledger.record(uid("a"), "p1", used(2))
      await ledger.record(uid("a"), "p1", used(1))
      expect(of("a")).toEqual(used(2))
      await ledger.record(uid("a"), "p1", used(3))
      expect(of("a")).toEqual(used(3))
    })

    it("keeps the maximum of each number by itself", async () => {
      await ledger.record(uid("a"), "p1", { usd: 2, tokens: 10, iterations: 1, ms: 100 })
      await ledger.record(uid("a"), "p1", { usd: 1, tokens: 20, iterations: 0, ms: 200 })
      expect(of("a")).toEqual({ usd: 2, tokens: 20, iterations: 1, ms: 200 })
    })

    it("adds the places of an instance up, and no instance to another", async () => {
      await ledger.record(uid("a"), "p1", used(2))
      await ledger.record(uid("a"), "p2", used(3))
      await ledger.record(uid("b"), "p1", used(7))
      expect(of("a")).toEqual(used(5))
      expect(of("b")).toEqual(used(7))
    })

    it("knows the lineage of who was born, whether its usage or its birth came first", async () => {
      const root = aBirth("shop", { defaults: { budget: { usd: 5 }, model: "m-1" } })
      const child = aBirth("shop-1", { lineage: [uid("root")] })
      await ledger.open(uid("root"), root)
      await ledger.record(uid("child"), "p1", used(1))
      expect(ledger.accounts.snapshot().get(uid("child"))).toEqual({ used: used(1) })
      await ledger.open(uid("child"), child)
      await ledger.open(uid("child"), { ...child, lineage: [], defaults: { budget: { usd: 9 } } })
      const spent = ledger.accounts.snapshot()
      expect(spent.get(uid("root"))).toEqual({
        birth: { ...root, rank: expect.any(Number) },
        used: { usd: 0, tokens: 0, iterations: 0, ms: 0 },
      })
      expect(spent.get(uid("child"))).toEqual({
        birth: { ...child, rank: expect.any(Number) },
        used: used(1),
      })
    })

    it("ranks births in the order in which it learns of them, whatever their clocks said", async () => {
      const names = ["c", "a", "b"]
      for (const [index, name] of names.entries()) {
        await ledger.open(uid(name), aBirth(name, { bornAtMs: startMs - index, rank: 7 }))
        await ledger.open(uid(name), aBirth(name))
      }
      opened = await opened.reopen()
      ledger = opened.port
      await ledger.open(uid("d"), aBirth("d", { bornAtMs: 1 }))
      const ranked = [...ledger.accounts.snapshot()].map(
        ([who, { birth }]) => [birth?.rank ?? Number.NaN, who] as const,
      )
      expect(new Set(ranked.map(([rank]) => rank)).size).toBe(4)
      expect(ranked.toSorted(([a], [b]) => a - b).map(([, who]) => who)).toEqual([...names, "d"])
    })

    it("gives the same map while nothing changed, and never changes one that it gave", async () => {
      await ledger.record(uid("a"), "p1", used(2))
      const before = ledger.accounts.snapshot()
      await ledger.record(uid("a"), "p1", used(1))
      expect(ledger.accounts.snapshot()).toBe(before)
      await ledger.record(uid("a"), "p1", used(3))
      await ledger.open(uid("b"), aBirth("shop"))
      expect([...before].map(([who, one]) => [who, one.used.usd])).toEqual([["a", 2]])
      const after = ledger.accounts.snapshot()
      expect([after.get(uid("a"))?.used.usd, after.get(uid("b"))?.birth?.name]).toEqual([3, "shop"])
    })

    it("keeps everything over a restart", async () => {
      await ledger.open(uid("a"), aBirth("shop", { lineage: [uid("root")] }))
      await ledger.record(uid("a"), "p1", used(2))
      await ledger.record(uid("a"), "p2", used(3))
      const before = new Map(ledger.accounts.snapshot())
      opened = await opened.reopen()
      ledger = opened.port
      expect(new Map(ledger.accounts.snapshot())).toEqual(before)
      await ledger.record(uid("a"), "p1", used(2))
      expect(of("a")).toEqual(used(5))
      expect(await ledger.spentSince(startMs)).toEqual(used(5))
    })

    it("says what the fleet spent since an hour began", async () => {
      await ledger.record(uid("a"), "p1", used(2))
      clock.advance(hourMs)
      await ledger.record(uid("a"), "p1", used(5))
      await ledger.record(uid("a"), "p1", used(5))
      await ledger.record(uid("b"), "p1", used(1))
      expect(await ledger.spentSince(startMs)).toEqual(used(6))
      expect(await ledger.spentSince(startMs + hourMs)).toEqual(used(4))
      expect(await ledger.spentSince(startMs + 2 * hourMs)).toEqual(used(0))
    })

    it("gives what was read no part in what comes later", async () => {
      await ledger.record(uid("a"), "p1", used(1))
      const before = ledger.accounts.snapshot()
      await ledger.record(uid("a"), "p1", used(2))
      expect(before.get(uid("a"))?.used).toEqual(used(1))
    })

    if (handles === "several")
      describe("with two handles", () => {
        it("counts once what both record of one place, and gives each birth a rank of its own", async () => {
          const { port: other } = await opened.second()
          await Promise.all([
            ledger.record(uid("a"), "p1", used(2)),
            other.record(uid("a"), "p1", used(3)),
            ledger.open(uid("a"), aBirth("a")),
            other.open(uid("b"), aBirth("b")),
            other.open(uid("a"), aBirth("later")),
          ])
          await expect.poll(() => other.accounts.get(uid("a"))?.birth).toBeDefined()
          await expect.poll(() => ledger.accounts.get(uid("b"))?.birth).toBeDefined()
          expect([...ledger.accounts.snapshot()].toSorted()).toEqual(
            [...other.accounts.snapshot()].toSorted(),
          )
          expect(of("a")).toEqual(used(3))
          expect(ledger.accounts.get(uid("a"))?.birth?.name).toBe("a")
          const ranks = [...ledger.accounts.snapshot().values()].map(({ birth }) => birth?.rank)
          expect(new Set(ranks).size).toBe(2)
          expect(await ledger.spentSince(startMs)).toEqual(used(3))
        })

        it("counts an hour by the backend's clock", async () => {
          const { port: other } = await opened.second()
          await other.record(uid("a"), "p1", used(2))
          expect(await other.spentSince(startMs)).toEqual(used(2))
          expect(await other.spentSince(startMs + hourMs)).toEqual(used(0))
        })

        it("catches up with what was recorded while its feed was cut", async () => {
          const { port: other, wire, comeBack } = await opened.second()
          wire.cut()
          await expect.poll(() => other.accounts.staleSinceMs).toBeDefined()
          await ledger.record(uid("a"), "p1", used(2))
          expect(other.accounts.get(uid("a"))).toBeUndefined()
          await comeBack()
          expect(other.accounts.get(uid("a"))?.used).toEqual(used(2))
        })
      })
  })
}
