/** What must hold of every Turns. */
import { afterEach, beforeEach, describe, expect, it } from "vitest"
import type { Turn, Turns } from "../../src/core/ports.ts"
import { expectFault } from "./expect-fault.ts"
import { manualClock, type Open, type Opened, stepping, uid } from "./harness.ts"

const [a, b] = [uid("a"), uid("b")]
const aTurn = (of: Turn["uid"], id: string, more: Partial<Turn> = {}): Turn => ({
  uid: of,
  id,
  place: "p1",
  grantedAtMs: 1,
  ...more,
})

export function describeTurns(
  name: string,
  open: Open<Turns>,
  { handles }: { handles: "one" | "several" },
): void {
  describe(`Turns: ${name}`, () => {
    let opened: Opened<Turns>
    let turns: Turns
    let stop: AbortController
    const reopen = async (): Promise<void> => {
      opened = await opened.reopen()
      turns = opened.port
    }

    beforeEach(async () => {
      opened = await open(manualClock())
      turns = opened.port
      stop = new AbortController()
    })
    afterEach(async () => {
      stop.abort()
      await opened.close()
    })

    it("grants and ends, and keeps both over a restart", async () => {
      await turns.set(1, [aTurn(a, "t1"), aTurn(b, "t2")], [])
      expect(new Map(turns.replica.snapshot())).toEqual(
        new Map([
          [a, aTurn(a, "t1")],
          [b, aTurn(b, "t2")],
        ]),
      )
      await turns.set(1, [], [aTurn(a, "t1")])
      await reopen()
      expect(new Map(turns.replica.snapshot())).toEqual(new Map([[b, aTurn(b, "t2")]]))
    })

    it("does not end a turn that was granted since", async () => {
      await turns.set(1, [aTurn(a, "t1")], [])
      await turns.set(1, [aTurn(a, "t2")], [aTurn(a, "t1")])
      await turns.set(1, [], [aTurn(a, "t1"), aTurn(a, "t2", { place: "p0" })])
      expect(turns.replica.snapshot().get(a)?.id).toBe("t2")
    })

    it("refuses a leader that was followed by another, over a restart too, and then changes nothing", async () => {
      await turns.set(7, [aTurn(a, "t1")], [])
      await reopen()
      await expectFault(turns.set(6, [aTurn(b, "t2")], [aTurn(a, "t1")]), "Conflict")
      expect([...turns.replica.snapshot().keys()]).toEqual([a])
      await turns.set(7, [aTurn(b, "t2")], [])
      expect(turns.replica.snapshot().size).toBe(2)
    })

    it("remembers the newest leader even if that one changed nothing", async () => {
      await turns.set(7, [], [])
      await expectFault(turns.set(6, [aTurn(a, "t1")], []), "Conflict")
    })

    it("tells whose turn was granted or ended, and first everybody it knows", async () => {
      await turns.set(1, [aTurn(a, "t1"), aTurn(b, "t2")], [])
      const told = stepping(turns.replica.watch(stop.signal))
      expect((await told.take(2)).toSorted()).toEqual([a, b])
      await turns.set(1, [], [aTurn(a, "t1")])
      expect(await told.next()).toBe(a)
      await turns.set(1, [aTurn(b, "t3")], [])
      expect(await told.next()).toBe(b)
    })

    it("gives the same snapshot while nothing changes", async () => {
      await turns.set(1, [aTurn(a, "t1")], [])
      const before = turns.replica.snapshot()
      expect(turns.replica.snapshot()).toBe(before)
      await turns.set(1, [], [aTurn(a, "t1")])
      expect([before.size, turns.replica.snapshot().size]).toEqual([1, 0])
    })

    if (handles === "several")
      describe("with two handles", () => {
        it("shows the other what the leader set, also after its feed was cut", async () => {
          const { port: other, wire, comeBack } = await opened.second()
          await turns.set(1, [aTurn(a, "t1")], [])
          await expect.poll(() => other.replica.get(a)?.id).toBe("t1")
          wire.cut()
          await expect.poll(() => other.replica.staleSinceMs).toBeDefined()
          await turns.set(1, [aTurn(b, "t2")], [aTurn(a, "t1")])
          expect(other.replica.get(a)?.id).toBe("t1")
          await comeBack()
          await expect.poll(() => [...other.replica.snapshot().keys()]).toEqual([b])
        })

        it("refuses the leader that the other has followed", async () => {
          const { port: other } = await opened.second()
          await turns.set(3, [aTurn(a, "t1")], [])
          await other.set(4, [], [])
          await expectFault(turns.set(3, [aTurn(b, "t2")], [aTurn(a, "t1")]), "Conflict")
          expect([...other.replica.snapshot().keys()]).toEqual([a])
        })
      })
  })
}
