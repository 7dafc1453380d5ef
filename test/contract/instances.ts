/** What must hold of every Instances. */
import { afterEach, beforeEach, describe, expect, it } from "vitest"
import type { Admission, Run } from "../../src/core/instance.ts"
import type { Instances } from "../../src/core/ports.ts"
import { expectFault } from "./expect-fault.ts"
import {
  aSpec,
  type ManualClock,
  manualClock,
  type Open,
  type Opened,
  stepping,
} from "./harness.ts"

const admitted = (term: number, more: Partial<Admission> = {}): Admission => ({
  verdict: "Admitted",
  reason: "Admitted",
  message: "Admitted.",
  term,
  ...more,
})
const running = (term: number, more: Partial<Run> = {}): Run => ({
  phase: "Running",
  revision: "1-0",
  place: "p1",
  startedAtMs: 1,
  restarts: 0,
  term,
  ...more,
})

export function describeInstances(
  name: string,
  open: Open<Instances>,
  { handles }: { handles: "one" | "several" },
): void {
  describe(`Instances: ${name}`, () => {
    let clock: ManualClock
    let opened: Opened<Instances>
    let instances: Instances
    let stop: AbortController
    const reopen = async (): Promise<void> => {
      opened = await opened.reopen()
      instances = opened.port
    }

    beforeEach(async () => {
      clock = manualClock()
      opened = await open(clock)
      instances = opened.port
      stop = new AbortController()
    })
    afterEach(async () => {
      stop.abort()
      await opened.close()
    })

    const list = () => [...instances.replica.snapshot().values()]

    it("finds what was created, by name and in the list", async () => {
      const spec = aSpec({ goal: "Mend the shop", labels: { team: "web" }, budget: { usd: 5 } })
      const shop = await instances.create("shop", spec)
      expect(shop).toMatchObject({ name: "shop", spec, status: {} })
      expect(shop.createdAtMs).toBe(clock.nowMs())
      expect(shop.deletedAtMs).toBeUndefined()
      expect(instances.replica.get("shop")).toEqual(shop)
      expect(list()).toEqual([shop])
      expect(instances.replica.get("other")).toBeUndefined()
    })

    it("refuses a name that is taken", async () => {
      await instances.create("shop", aSpec())
      await expectFault(instances.create("shop", aSpec()), "Conflict", /shop is taken/)
    })

    it("lets one of many that want the same name have it", async () => {
      const outcomes = await Promise.allSettled(
        Array.from({ length: 10 }, () => instances.create("shop", aSpec())),
      )
      expect(outcomes.filter(({ status }) => status === "fulfilled")).toHaveLength(1)
      expect(list()).toHaveLength(1)
    })

    it("refuses what its schema does not allow, and keeps nothing of it", async () => {
      await expectFault(instances.create("No Name", aSpec()), "Invalid")
      await expectFault(instances.create("shop", aSpec({ project: "../etc" })), "Invalid")
      expect(list()).toEqual([])
    })

    it("keeps everything over a restart", async () => {
      const shop = await instances.create("shop", aSpec({ goal: "Mend" }))
      await instances.updateStatus(
        shop,
        "run",
        running(1, {
          lastExit: { code: 3, atMs: 2 },
          problem: { reason: "NoRoom", message: "No." },
        }),
      )
      await instances.delete(await instances.create("gone", aSpec()))
      const before = list()
      await reopen()
      expect(list()).toEqual(before)
      expect(instances.replica.get("gone")?.deletedAtMs).toBe(clock.nowMs())
    })

    it("changes the spec, and what was read before stays as it was read", async () => {
      const shop = await instances.create("shop", aSpec())
      const changed = await instances.updateSpec(shop, aSpec({ priority: 5 }))
      expect(changed.spec.priority).toBe(5)
      expect(changed.version).not.toBe(shop.version)
      expect(shop.spec.priority).toBe(0)
      expect(instances.replica.get("shop")).toEqual(changed)
    })

    it("is not changed by what its caller does with the spec afterwards", async () => {
      const spec = aSpec()
      await instances.create("shop", spec)
      spec.labels.team = "web"
      expect(instances.replica.get("shop")?.spec.labels).toEqual({})
    })

    it("refuses a spec written over one that was not seen", async () => {
      const shop = await instances.create("shop", aSpec())
      await instances.updateSpec(shop, aSpec({ priority: 5 }))
      await expectFault(
        instances.updateSpec(shop, aSpec({ priority: 6 })),
        "Conflict",
        /changed meanwhile/,
      )
      expect(instances.replica.get("shop")?.spec.priority).toBe(5)
    })

    it("lets one of many that saw the same spec write it", async () => {
      const shop = await instances.create("shop", aSpec())
      const outcomes = await Promise.allSettled(
        [1, 2, 3, 4, 5].map((priority) => instances.updateSpec(shop, aSpec({ priority }))),
      )
      expect(outcomes.filter(({ status }) => status === "fulfilled")).toHaveLength(1)
    })

    it("gives each section its own writer: one does not conflict with another", async () => {
      const seen = await instances.create("shop", aSpec())
      await instances.updateSpec(seen, aSpec({ priority: 5 }))
      await instances.updateStatus(seen, "admission", admitted(1))
      const last = await instances.updateStatus(seen, "run", running(1))
      expect(last).toMatchObject({
        spec: { priority: 5 },
        status: { admission: admitted(1), run: running(1) },
      })
      await expectFault(
        instances.updateStatus(seen, "run", running(1, { restarts: 1 })),
        "Conflict",
      )
      await expectFault(
        instances.updateStatus(seen, "admission", admitted(1, { message: "Again." })),
        "Conflict",
      )
    })

    it("refuses a section from a leader that was followed by another", async () => {
      const shop = await instances.create("shop", aSpec())
      const newer = await instances.updateStatus(shop, "admission", admitted(7))
      await expectFault(
        instances.updateStatus(newer, "admission", admitted(6, { message: "Late." })),
        "Conflict",
      )
      expect(instances.replica.get("shop")?.status.admission).toEqual(admitted(7))
      const other = await instances.updateStatus(newer, "run", running(2))
      expect(other.status.run?.term).toBe(2)
    })

    it("writes and tells nothing when nothing changed", async () => {
      const names = stepping(instances.replica.watch(stop.signal))
      const shop = await instances.create("shop", aSpec({ labels: { a: "1" } }))
      await instances.updateStatus(shop, "admission", admitted(1))
      const before = instances.replica.get("shop")
      expect(await names.next()).toBe("shop")
      expect((await instances.updateSpec(shop, aSpec({ labels: { a: "1" } }))).version).toBe(
        before?.version,
      )
      const seen = instances.replica.get("shop") ?? shop
      expect((await instances.updateStatus(seen, "admission", admitted(1))).version).toBe(
        before?.version,
      )
      await instances.create("next", aSpec())
      expect(await names.next()).toBe("next")
    })

    it("marks what is deleted, once, and keeps its name until it is released", async () => {
      const shop = await instances.create("shop", aSpec())
      await instances.delete(shop)
      const marked = instances.replica.get("shop")
      expect(marked?.deletedAtMs).toBe(clock.nowMs())
      clock.advance(1000)
      await instances.delete(shop)
      expect(instances.replica.get("shop")).toEqual(marked)
      await expectFault(instances.create("shop", aSpec()), "Conflict")
      await instances.release(shop)
      expect(instances.replica.get("shop")).toBeUndefined()
      await Promise.all([instances.delete(shop), instances.release(shop)])
    })

    it("does not delete what was changed since it was seen", async () => {
      const shop = await instances.create("shop", aSpec())
      const stopped = await instances.updateSpec(shop, aSpec({ state: "Stopped" }))
      await expectFault(instances.delete(shop), "Conflict", /changed meanwhile/)
      expect(instances.replica.get("shop")?.deletedAtMs).toBeUndefined()
      await instances.delete(stopped)
      expect(instances.replica.get("shop")?.deletedAtMs).toBe(clock.nowMs())
    })

    it("still takes the status of what is marked: its end is a fact to be written", async () => {
      const shop = await instances.create("shop", aSpec())
      await instances.delete(shop)
      const last = await instances.updateStatus(shop, "run", running(1, { phase: "Exited" }))
      expect(last.status.run?.phase).toBe("Exited")
      expect(last.deletedAtMs).toBe(clock.nowMs())
    })

    it("does not release what nobody deleted", async () => {
      await instances.release(await instances.create("shop", aSpec()))
      expect(instances.replica.get("shop")).toBeDefined()
    })

    it("gives a name used again a new identity that nothing meant for the old one touches", async () => {
      const old = await instances.create("shop", aSpec())
      await instances.delete(old)
      await instances.release(old)
      const shop = await instances.create("shop", aSpec())
      expect(shop.uid).not.toBe(old.uid)
      await instances.delete(old)
      await instances.release(old)
      await expectFault(instances.updateSpec(old, aSpec({ priority: 9 })), "NotFound")
      await expectFault(instances.updateStatus(old, "run", running(9)), "NotFound")
      expect(instances.replica.get("shop")).toEqual(shop)
    })

    it("tells every name first, then each change of it, its release included", async () => {
      const shop = await instances.create("shop", aSpec())
      await instances.create("mill", aSpec())
      const names = stepping(instances.replica.watch(stop.signal))
      expect((await names.take(2)).toSorted()).toEqual(["mill", "shop"])
      const raised = await instances.updateSpec(shop, aSpec({ priority: 1 }))
      expect(await names.next()).toBe("shop")
      await instances.updateStatus(shop, "admission", admitted(1))
      expect(await names.next()).toBe("shop")
      await instances.delete(raised)
      expect(await names.next()).toBe("shop")
      await instances.release(shop)
      expect(await names.next()).toBe("shop")
      expect(instances.replica.get("shop")).toBeUndefined()
      stop.abort()
      expect(await names.ended()).toBe(true)
    })

    it("has committed what it tells", async () => {
      const names = stepping(instances.replica.watch(stop.signal))
      const told = names.next()
      const created = instances.create("shop", aSpec())
      expect(instances.replica.get(await told)).toEqual(await created)
    })

    it("gives the same snapshot while nothing changes", async () => {
      const shop = await instances.create("shop", aSpec())
      const before = instances.replica.snapshot()
      await instances.updateSpec(shop, aSpec())
      expect(instances.replica.snapshot()).toBe(before)
      await instances.updateSpec(shop, aSpec({ priority: 1 }))
      const after = instances.replica.snapshot()
      expect(after.version).toBeGreaterThan(before.version)
      expect([before.get("shop")?.spec.priority, after.get("shop")?.spec.priority]).toEqual([0, 1])
    })

    it("reads from the truth what is there, and nothing else", async () => {
      const shop = await instances.create("shop", aSpec())
      expect(await instances.read("shop")).toEqual(shop)
      expect(await instances.read("other")).toBeUndefined()
    })

    if (handles === "several")
      describe("with two handles", () => {
        it("shows each what the other writes, and who wrote it at once", async () => {
          const { port: other } = await opened.second()
          const shop = await instances.create("shop", aSpec())
          expect(instances.replica.get("shop")).toEqual(shop)
          await expect.poll(() => other.replica.get("shop")).toEqual(shop)
          const raised = await other.updateSpec(shop, aSpec({ priority: 3 }))
          expect(other.replica.get("shop")).toEqual(raised)
          await expect.poll(() => instances.replica.get("shop")).toEqual(raised)
          await other.delete(raised)
          await other.release(raised)
          expect(other.replica.get("shop")).toBeUndefined()
          await expect.poll(() => instances.replica.get("shop")).toBeUndefined()
        })

        it("lets one of both have a name, and one of both write what both saw", async () => {
          const { port: other } = await opened.second()
          const both = [instances, other]
          const made = await Promise.allSettled(both.map((one) => one.create("shop", aSpec())))
          expect(made.filter(({ status }) => status === "fulfilled")).toHaveLength(1)
          const shop = await instances.read("shop")
          if (!shop) throw new Error("It was not created.")
          const written = await Promise.allSettled(
            both.map((one, index) => one.updateSpec(shop, aSpec({ priority: index + 1 }))),
          )
          expect(written.filter(({ status }) => status === "fulfilled")).toHaveLength(1)
        })

        it("keeps the sections of two writers apart, and refuses the older leader", async () => {
          const { port: other } = await opened.second()
          const shop = await instances.create("shop", aSpec())
          await Promise.all([
            instances.updateStatus(shop, "admission", admitted(2)),
            other.updateStatus(shop, "run", running(2)),
          ])
          const seen = await other.read("shop")
          if (!seen) throw new Error("It is gone.")
          expect(seen.status).toEqual({ admission: admitted(2), run: running(2) })
          await expectFault(
            other.updateStatus(seen, "admission", admitted(1, { message: "Late." })),
            "Conflict",
          )
        })

        it("knows by the backend's clock when something was made or marked", async () => {
          const { port: other } = await opened.second()
          const shop = await other.create("shop", aSpec())
          expect(shop.createdAtMs).toBe(clock.nowMs())
          await other.delete(shop)
          expect((await other.read("shop"))?.deletedAtMs).toBe(clock.nowMs())
        })

        it("is stale while its feed is cut, still writes nothing that it has not seen, and catches up", async () => {
          const { port: other, wire, comeBack } = await opened.second()
          const shop = await instances.create("shop", aSpec())
          const mill = await instances.create("mill", aSpec())
          await expect.poll(() => other.replica.snapshot().size).toBe(2)
          wire.cut()
          await expect.poll(() => other.replica.staleSinceMs).toBeDefined()
          const raised = await instances.updateSpec(shop, aSpec({ priority: 1 }))
          await instances.delete(mill)
          await instances.release(mill)
          await instances.create("forge", aSpec())
          const stale = other.replica.get("shop")
          expect(stale?.spec.priority).toBe(0)
          expect(await other.read("shop")).toEqual(raised)
          await expectFault(other.updateSpec(stale ?? shop, aSpec({ priority: 9 })), "Conflict")
          await expectFault(other.create("forge", aSpec()), "Conflict")
          const own = await other.create("own", aSpec())
          expect(other.replica.get("own")).toEqual(own)
          await comeBack()
          expect([...other.replica.snapshot().keys()].toSorted()).toEqual(["forge", "own", "shop"])
          expect(other.replica.get("shop")).toEqual(raised)
          expect(other.replica.staleSinceMs).toBeUndefined()
        })
      })
  })
}
