/** What must hold of every InstanceStore. */
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

export function describeInstanceStore(name: string, open: Open<Instances>): void {
  describe(`InstanceStore: ${name}`, () => {
    let clock: ManualClock
    let opened: Opened<Instances>
    let store: Instances
    let stop: AbortController
    const reopen = async (): Promise<void> => {
      opened = await opened.reopen()
      store = opened.port
    }

    beforeEach(async () => {
      clock = manualClock()
      opened = await open(clock)
      store = opened.port
      stop = new AbortController()
    })
    afterEach(async () => {
      stop.abort()
      await opened.close()
    })

    it("finds what was created, by name and in the list", async () => {
      const spec = aSpec({ goal: "Mend the shop", labels: { team: "web" }, budget: { usd: 5 } })
      const shop = await store.create("shop", spec)
      expect(shop).toMatchObject({ name: "shop", spec, status: {} })
      expect(shop.createdAtMs).toBe(clock.nowMs())
      expect(shop.deletedAtMs).toBeUndefined()
      expect(await store.get("shop")).toEqual(shop)
      expect(await store.list()).toEqual([shop])
      expect(await store.get("other")).toBeUndefined()
    })

    it("refuses a name that is taken", async () => {
      await store.create("shop", aSpec())
      await expectFault(store.create("shop", aSpec()), "Conflict", /shop is taken/)
    })

    it("lets one of many that want the same name have it", async () => {
      const outcomes = await Promise.allSettled(
        Array.from({ length: 10 }, () => store.create("shop", aSpec())),
      )
      expect(outcomes.filter(({ status }) => status === "fulfilled")).toHaveLength(1)
      expect(await store.list()).toHaveLength(1)
    })

    it("refuses what its schema does not allow, and keeps nothing of it", async () => {
      await expectFault(store.create("No Name", aSpec()), "Invalid")
      await expectFault(store.create("shop", aSpec({ project: "../etc" })), "Invalid")
      expect(await store.list()).toEqual([])
    })

    it("keeps everything over a restart", async () => {
      const shop = await store.create("shop", aSpec({ goal: "Mend" }))
      await store.updateStatus(
        shop,
        "run",
        running(1, {
          lastExit: { code: 3, atMs: 2 },
          problem: { reason: "NoRoom", message: "No." },
        }),
      )
      await store.delete(await store.create("gone", aSpec()))
      const before = await store.list()
      await reopen()
      expect(await store.list()).toEqual(before)
      expect((await store.get("gone"))?.deletedAtMs).toBe(clock.nowMs())
    })

    it("changes the spec, and what was read before stays as it was read", async () => {
      const shop = await store.create("shop", aSpec())
      const changed = await store.updateSpec(shop, aSpec({ priority: 5 }))
      expect(changed.spec.priority).toBe(5)
      expect(changed.version).not.toBe(shop.version)
      expect(shop.spec.priority).toBe(0)
      expect(await store.get("shop")).toEqual(changed)
    })

    it("is not changed by what its caller does with the spec afterwards", async () => {
      const spec = aSpec()
      await store.create("shop", spec)
      spec.labels.team = "web"
      expect((await store.get("shop"))?.spec.labels).toEqual({})
    })

    it("refuses a spec written over one that was not seen", async () => {
      const shop = await store.create("shop", aSpec())
      await store.updateSpec(shop, aSpec({ priority: 5 }))
      await expectFault(
        store.updateSpec(shop, aSpec({ priority: 6 })),
        "Conflict",
        /changed meanwhile/,
      )
      expect((await store.get("shop"))?.spec.priority).toBe(5)
    })

    it("lets one of many that saw the same spec write it", async () => {
      const shop = await store.create("shop", aSpec())
      const outcomes = await Promise.allSettled(
        [1, 2, 3, 4, 5].map((priority) => store.updateSpec(shop, aSpec({ priority }))),
      )
      expect(outcomes.filter(({ status }) => status === "fulfilled")).toHaveLength(1)
    })

    it("gives each section its own writer: one does not conflict with another", async () => {
      const seen = await store.create("shop", aSpec())
      await store.updateSpec(seen, aSpec({ priority: 5 }))
      await store.updateStatus(seen, "admission", admitted(1))
      const last = await store.updateStatus(seen, "run", running(1))
      expect(last).toMatchObject({
        spec: { priority: 5 },
        status: { admission: admitted(1), run: running(1) },
      })
      await expectFault(store.updateStatus(seen, "run", running(1, { restarts: 1 })), "Conflict")
      await expectFault(
        store.updateStatus(seen, "admission", admitted(1, { message: "Again." })),
        "Conflict",
      )
    })

    it("refuses a section from a leader that was followed by another", async () => {
      const shop = await store.create("shop", aSpec())
      const newer = await store.updateStatus(shop, "admission", admitted(7))
      await expectFault(
        store.updateStatus(newer, "admission", admitted(6, { message: "Late." })),
        "Conflict",
      )
      expect((await store.get("shop"))?.status.admission).toEqual(admitted(7))
      const other = await store.updateStatus(newer, "run", running(2))
      expect(other.status.run?.term).toBe(2)
    })

    it("writes and tells nothing when nothing changed", async () => {
      const names = stepping(store.watch(stop.signal))
      const shop = await store.create("shop", aSpec({ labels: { a: "1" } }))
      await store.updateStatus(shop, "admission", admitted(1))
      const before = await store.get("shop")
      expect(await names.next()).toBe("shop")
      expect((await store.updateSpec(shop, aSpec({ labels: { a: "1" } }))).version).toBe(
        before?.version,
      )
      const seen = (await store.get("shop")) ?? shop
      expect((await store.updateStatus(seen, "admission", admitted(1))).version).toBe(
        before?.version,
      )
      await store.create("next", aSpec())
      expect(await names.next()).toBe("next")
    })

    it("marks what is deleted, once, and keeps its name until it is released", async () => {
      const shop = await store.create("shop", aSpec())
      await store.delete(shop)
      const marked = await store.get("shop")
      expect(marked?.deletedAtMs).toBe(clock.nowMs())
      clock.advance(1000)
      await store.delete(shop)
      expect(await store.get("shop")).toEqual(marked)
      await expectFault(store.create("shop", aSpec()), "Conflict")
      await store.release(shop)
      expect(await store.get("shop")).toBeUndefined()
      await Promise.all([store.delete(shop), store.release(shop)])
    })

    it("does not delete what was changed since it was seen", async () => {
      const shop = await store.create("shop", aSpec())
      const stopped = await store.updateSpec(shop, aSpec({ state: "Stopped" }))
      await expectFault(store.delete(shop), "Conflict", /changed meanwhile/)
      expect((await store.get("shop"))?.deletedAtMs).toBeUndefined()
      await store.delete(stopped)
      expect((await store.get("shop"))?.deletedAtMs).toBe(clock.nowMs())
    })

    it("still takes the status of what is marked: its end is a fact to be written", async () => {
      const shop = await store.create("shop", aSpec())
      await store.delete(shop)
      const last = await store.updateStatus(shop, "run", running(1, { phase: "Exited" }))
      expect(last.status.run?.phase).toBe("Exited")
      expect(last.deletedAtMs).toBe(clock.nowMs())
    })

    it("does not release what nobody deleted", async () => {
      await store.release(await store.create("shop", aSpec()))
      expect(await store.get("shop")).toBeDefined()
    })

    it("gives a name used again a new identity that nothing meant for the old one touches", async () => {
      const old = await store.create("shop", aSpec())
      await store.delete(old)
      await store.release(old)
      const shop = await store.create("shop", aSpec())
      expect(shop.uid).not.toBe(old.uid)
      await store.delete(old)
      await store.release(old)
      await expectFault(store.updateSpec(old, aSpec({ priority: 9 })), "NotFound")
      await expectFault(store.updateStatus(old, "run", running(9)), "NotFound")
      expect(await store.get("shop")).toEqual(shop)
    })

    it("tells every name first, then each change of it, its release included", async () => {
      const shop = await store.create("shop", aSpec())
      await store.create("mill", aSpec())
      const names = stepping(store.watch(stop.signal))
      expect((await names.take(2)).toSorted()).toEqual(["mill", "shop"])
      const raised = await store.updateSpec(shop, aSpec({ priority: 1 }))
      expect(await names.next()).toBe("shop")
      await store.updateStatus(shop, "admission", admitted(1))
      expect(await names.next()).toBe("shop")
      await store.delete(raised)
      expect(await names.next()).toBe("shop")
      await store.release(shop)
      expect(await names.next()).toBe("shop")
      expect(await store.get("shop")).toBeUndefined()
      stop.abort()
      expect(await names.ended()).toBe(true)
    })

    it("has committed what it tells", async () => {
      const names = stepping(store.watch(stop.signal))
      const told = names.next()
      const created = store.create("shop", aSpec())
      expect(await store.get(await told)).toEqual(await created)
    })
  })
}
