/** What must hold of every replica, whatever feed it is made from. */
import { afterEach, beforeEach, describe, expect, it } from "vitest"
import { derive } from "../../src/core/derived.ts"
import { type FedReplica, type Replica, retryMsMax } from "../../src/core/replica.ts"
import { type ManualClock, manualClock, stepping } from "./harness.ts"

/** A keyed set of texts that others write, and one replica of it. */
export interface ReplicaWorld {
  readonly replica: Pick<FedReplica<string, string>, "put" | "gone"> & Replica<string, string>
  /** Writes to the truth, as another process does; gives the revision of that write. */
  put(key: string, value: string): number
  gone(key: string): number
  /** Breaks the feed; it stays away until `resume`. */
  cut(): void
  resume(): void
  /** Resolves when the feed has told all that was written so far, and was not cut. */
  settled(): Promise<void>
}
export type OpenReplica = (clock: ManualClock, signal: AbortSignal) => ReplicaWorld

export function describeReplica(name: string, open: OpenReplica): void {
  describe(`Replica: ${name}`, () => {
    let clock: ManualClock
    let stop: AbortController
    let world: ReplicaWorld

    beforeEach(() => {
      clock = manualClock()
      stop = new AbortController()
      world = open(clock, stop.signal)
    })
    afterEach(() => stop.abort())

    const content = (): Record<string, string> => Object.fromEntries(world.replica.snapshot())
    const comeBack = async (): Promise<void> => {
      world.resume()
      clock.advance(retryMsMax)
      await world.settled()
    }

    it("is ready when the first list is in, and was stale until then", async () => {
      world = open(clock, stop.signal)
      world.put("a", "1")
      expect(world.replica.staleSinceMs).toBe(clock.nowMs())
      await world.replica.ready(stop.signal)
      expect(world.replica.staleSinceMs).toBeUndefined()
      expect(content()).toEqual({ a: "1" })
      expect(world.replica.get("a")).toBe("1")
    })

    it("waits for its first list no longer than its caller", async () => {
      world.cut()
      const caller = new AbortController()
      const ready = world.replica.ready(caller.signal)
      caller.abort(new Error("enough"))
      await expect(ready).rejects.toThrow("enough")
      await expect(world.replica.ready(caller.signal)).rejects.toThrow("enough")
    })

    it("shows what others write, change and take out", async () => {
      await world.settled()
      world.put("a", "1")
      world.put("b", "1")
      world.put("a", "2")
      world.gone("b")
      await world.settled()
      expect(content()).toEqual({ a: "2" })
      expect(world.replica.get("b")).toBeUndefined()
    })

    it("gives the same snapshot while nothing changes, and never changes one", async () => {
      world.put("a", "1")
      await world.settled()
      const before = world.replica.snapshot()
      expect(world.replica.snapshot()).toBe(before)
      world.put("a", "2")
      await world.settled()
      const after = world.replica.snapshot()
      expect(after.version).toBeGreaterThan(before.version)
      expect([before.get("a"), after.get("a")]).toEqual(["1", "2"])
    })

    it("tells of a change when it shows it, first of all that is known", async () => {
      world.put("a", "1")
      await world.settled()
      const keys = stepping(world.replica.watch(stop.signal))
      expect(await keys.next()).toBe("a")
      const next = keys.next()
      world.put("b", "1")
      expect(await next).toBe("b")
      expect(world.replica.get("b")).toBe("1")
      world.gone("a")
      expect(await keys.next()).toBe("a")
      expect(world.replica.get("a")).toBeUndefined()
    })

    it("holds no more for a slow reader than the keys that there are", async () => {
      await world.settled()
      const keys = stepping(world.replica.watch(stop.signal))
      const first = keys.next()
      world.put("a", "0")
      expect(await first).toBe("a")
      for (let count = 1; count <= 100; count++) {
        world.put("a", String(count))
        world.put("b", String(count))
      }
      await world.settled()
      expect((await keys.take(2)).toSorted()).toEqual(["a", "b"])
      world.put("c", "1")
      expect(await keys.next()).toBe("c")
      expect(content()).toEqual({ a: "100", b: "100", c: "1" })
    })

    it("keeps what it knew while the feed is down, says since when, and catches up", async () => {
      world.put("stays", "1")
      world.put("changes", "1")
      world.put("goes", "1")
      await world.settled()
      const keys = stepping(world.replica.watch(stop.signal))
      await keys.take(3)
      clock.advance(5000)
      const cutAtMs = clock.nowMs()
      world.cut()
      await expect.poll(() => world.replica.staleSinceMs).toBe(cutAtMs)
      world.put("changes", "2")
      world.gone("goes")
      world.put("comes", "1")
      clock.advance(5000)
      expect(content()).toEqual({ stays: "1", changes: "1", goes: "1" })
      expect(world.replica.staleSinceMs).toBe(cutAtMs)
      await comeBack()
      expect(world.replica.staleSinceMs).toBeUndefined()
      expect(content()).toEqual({ stays: "1", changes: "2", comes: "1" })
      expect(new Set(await keys.take(4))).toEqual(new Set(["stays", "changes", "goes", "comes"]))
    })

    it("shows its own write at once, and lets nothing older over it", async () => {
      world.put("a", "1")
      await world.settled()
      const revision = world.put("a", "2")
      world.put("a", "3")
      world.replica.put("a", "2", revision)
      expect(world.replica.get("a")).toBe("2")
      await world.settled()
      expect(world.replica.get("a")).toBe("3")
      world.replica.put("a", "2", revision)
      expect(world.replica.get("a")).toBe("3")
    })

    it("does not bring back what it took out itself", async () => {
      world.put("a", "1")
      await world.settled()
      world.put("a", "2")
      const revision = world.gone("a")
      world.replica.gone("a", revision)
      const version = world.replica.snapshot().version
      await world.settled()
      expect(content()).toEqual({})
      expect(world.replica.snapshot().version).toBe(version)
    })

    it("keeps what it wrote while the feed was down, until the feed tells of it", async () => {
      await world.settled()
      world.cut()
      await expect.poll(() => world.replica.staleSinceMs).toBeDefined()
      world.replica.put("mine", "1", world.put("mine", "1"))
      expect(world.replica.get("mine")).toBe("1")
      world.gone("mine")
      await comeBack()
      expect(content()).toEqual({})
    })

    it("carries what is derived of it from change to change", async () => {
      let whole = 0
      const total = derive<string, string, number>({
        all(entries) {
          whole++
          return [...entries.values()].reduce((sum, text) => sum + Number(text), 0)
        },
        after: (sum, differences) =>
          differences.reduce(
            (now, { before, now: text }) => now + Number(text ?? 0) - Number(before ?? 0),
            sum,
          ),
      })
      world.put("a", "1")
      world.put("b", "2")
      await world.settled()
      const first = world.replica.snapshot()
      expect(total(first)).toBe(3)
      world.put("a", "10")
      world.gone("b")
      world.put("c", "5")
      await world.settled()
      expect(total(world.replica.snapshot())).toBe(15)
      expect(total(first)).toBe(3)
      expect(whole).toBe(1)
      expect(total(new Map([["a", "7"]]))).toBe(7)
    })
  })
}
