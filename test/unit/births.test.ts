import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { DatabaseSync } from "node:sqlite"
import { afterEach, beforeEach, describe, expect, it } from "vitest"
import { cronWindows } from "../../src/adapters/cron/windows.ts"
import { sqliteLedger } from "../../src/adapters/sqlite/ledger.ts"
import { migrations } from "../../src/adapters/sqlite/migrations.ts"
import { type Database, openDatabase } from "../../src/adapters/sqlite/open.ts"
import { sqliteReports } from "../../src/adapters/sqlite/reports.ts"
import { sqliteStore } from "../../src/adapters/sqlite/store.ts"
import { sqliteTimeline } from "../../src/adapters/sqlite/timeline.ts"
import { sqliteTurns } from "../../src/adapters/sqlite/turns.ts"
import { openingsMax, reconcileFleet } from "../../src/control/scheduler.ts"
import type { Defaults, Instance, Spec } from "../../src/core/instance.ts"
import { instanceLimits } from "../../src/core/limits.ts"
import { totalsBelow } from "../../src/core/spending.ts"
import { noUsage } from "../../src/core/usage.ts"
import { type ManualClock, manualClock, startMs, uid } from "../contract/harness.ts"

/** Whoever creates an instance, and however: its account follows from its being there. */

let directory: string
let database: Database
beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), "bb5-births-"))
  database = await openDatabase(join(directory, "db"))
})
afterEach(() => {
  database.close()
  rmSync(directory, { recursive: true })
})

/** As little as a spec may say. */
const minimal = (more: Partial<Spec> = {}): Spec => ({
  project: "shop",
  state: "Running",
  attempt: 1,
  orders: [],
  mode: "continuous",
  loop: "ralf",
  workspace: "auto",
  priority: 0,
  labels: {},
  lineage: [],
  ...more,
})

function setUp(first: Defaults = {}) {
  const clock: ManualClock = manualClock()
  const world = { defaults: first, instancesMax: 50 }
  const ports = {
    store: sqliteStore(database, clock),
    timeline: sqliteTimeline(database, clock),
    reports: sqliteReports(database, clock),
    turns: sqliteTurns(database),
    ledger: sqliteLedger(database, clock),
    clock,
    windows: cronWindows(),
    policy: () => ({ instancesMax: world.instancesMax, turnsMax: 4 }),
    defaults: () => world.defaults,
    async *policyChanged() {},
  }
  const pass = () => reconcileFleet(ports, 1)("fleet", new AbortController().signal)
  const create = async (name: string, spec: Partial<Spec> = {}): Promise<Instance> => {
    clock.advance(1)
    return ports.store.create(name, minimal(spec))
  }
  const childOf = (parent: Instance) => ({ lineage: [...parent.spec.lineage, parent.uid] })
  const limits = async ({ name }: Instance) => {
    const now = ports.store.replica.get(name)
    if (!now) throw new Error(`${name} is gone`)
    return instanceLimits(now, ports.ledger.accounts.snapshot())
  }
  const verdict = async ({ name }: Instance) => ports.store.replica.get(name)?.status.admission
  const spawned = async () =>
    (await ports.timeline.lastEvents({ kinds: ["Spawned"], limit: 500 })).events
  return { ...ports, clock, world, pass, create, childOf, limits, verdict, spawned }
}

const policy: Defaults = {
  budget: { usd: 8, iterations: 40 },
  children: { depth: 2, total: 3, running: 2 },
  model: "m-1",
}

describe("an instance that was created straight in the store", () => {
  it("has account, limits, event and verdict after one pass", async () => {
    const { pass, create, limits, verdict, spawned, ledger } = setUp(policy)
    const shop = await create("shop")
    await pass()
    expect(ledger.accounts.snapshot().get(shop.uid)?.birth).toEqual({
      name: "shop",
      lineage: [],
      bornAtMs: shop.createdAtMs,
      rank: 1,
      defaults: policy,
    })
    expect(await limits(shop)).toEqual(policy)
    expect((await verdict(shop))?.reason).toBe("Admitted")
    expect(await spawned()).toMatchObject([
      { id: "spawned", uid: shop.uid, message: "Created for project shop." },
    ])
  })

  it("keeps its defaults when the policy changes, and what its spec says counts before them", async () => {
    const { pass, create, limits, world, store } = setUp(policy)
    const before = await create("before")
    const own = await create("own", {
      budget: { usd: 1 },
      children: { total: 9 },
      model: "m-9",
    })
    const empty = await create("empty", { budget: {} })
    await pass()
    world.defaults = { budget: { usd: 99 }, children: { depth: 0, total: 0, running: 0 } }
    const after = await create("after")
    await pass()
    expect(await limits(before)).toEqual(policy)
    expect(await limits(empty)).toEqual(policy)
    expect(await limits(own)).toEqual({
      budget: { usd: 1 },
      children: { depth: 2, total: 9, running: 2 },
      model: "m-9",
    })
    expect(await limits(after)).toEqual({ ...world.defaults, model: undefined })
    const now = store.replica.get("own")
    if (!now) throw new Error("own is gone")
    await store.updateSpec(now, minimal())
    expect(await limits(own)).toEqual(policy)
  })

  it("rolls up to its ancestors, and is held when it is more than they may have", async () => {
    const { pass, create, childOf, ledger, verdict } = setUp(policy)
    const root = await create("root")
    const children = []
    for (const name of ["one", "two", "three", "four"])
      children.push(await create(name, { ...childOf(root), budget: { usd: 1 } }))
    await pass()
    const reasons = await Promise.all(children.map(async (one) => (await verdict(one))?.reason))
    expect(reasons).toEqual(["Admitted", "Admitted", "ChildrenFull", "ChildLimit"])
    const [one] = children
    if (!one) throw new Error("no child")
    expect((await verdict(children[3] ?? one))?.message).toBe(
      "root may have 3 descendants in its life, and had them.",
    )
    await ledger.record(one.uid, "p1", { ...noUsage, usd: 7 })
    await ledger.record(root.uid, "p1", { ...noUsage, usd: 0.5 })
    expect(totalsBelow(ledger.accounts.snapshot()).get(root.uid)?.usd).toBe(7.5)
    await ledger.record(one.uid, "p1", { ...noUsage, usd: 8 })
    await pass()
    expect((await verdict(root))?.reason).toBe("BudgetReached")
  })

  it("gets of its parent, not of the policy, what it was not given", async () => {
    const { pass, create, childOf, limits, ledger } = setUp({ ...policy, model: "m-1" })
    const root = await create("root", {
      budget: { usd: 4, tokens: 1001 },
      children: { depth: 2, total: 5, running: 1 },
      model: "m-2",
    })
    await pass()
    await ledger.record(root.uid, "p1", { ...noUsage, usd: 1 })
    // Created before its parent was, as after a restored backup.
    const child = await create("child", childOf(root))
    const grandchild = await create("grandchild", childOf(child))
    await pass()
    expect(await limits(child)).toEqual({
      budget: { usd: 1.5, tokens: 500 },
      children: { depth: 1, total: 5, running: 1 },
      model: "m-2",
    })
    expect(await limits(grandchild)).toEqual({
      budget: { usd: 0.75, tokens: 250 },
      children: { depth: 0, total: 5, running: 1 },
      model: "m-2",
    })
  })

  it("waits while its parent has nothing left for it, and says so", async () => {
    const { pass, create, childOf, verdict } = setUp(policy)
    const root = await create("root", { budget: { usd: 4 } })
    const first = await create("first", { ...childOf(root), budget: { usd: 4 } })
    const second = await create("second", childOf(root))
    await pass()
    expect((await verdict(first))?.reason).toBe("Admitted")
    expect(await verdict(second)).toMatchObject({
      reason: "BudgetReached",
      message: expect.stringContaining("Of its parent root, nothing is left for it"),
    })
  })

  it("is not admitted before its account is open, and keeps nobody waiting", async () => {
    const { pass, create, verdict, ledger, world, spawned } = setUp(policy)
    world.instancesMax = 1000
    const known = await create("known")
    await pass()
    const many: Instance[] = []
    for (let index = 0; index <= openingsMax; index++) many.push(await create(`many-${index}`))
    expect(await pass()).toEqual({ afterMs: 0 })
    const last = many.at(-1) ?? known
    expect(await verdict(last)).toBeUndefined()
    expect((await verdict(many[0] ?? last))?.reason).toBe("Admitted")
    expect(await pass()).toEqual({})
    expect((await verdict(last))?.reason).toBe("Admitted")
    const ranks = [...ledger.accounts.snapshot().values()].map(({ birth }) => birth?.rank)
    expect(new Set(ranks).size).toBe(openingsMax + 2)
    expect(await spawned()).toHaveLength(openingsMax + 2)
  })

  it("is not admitted while its account cannot be opened; the others go on", async () => {
    const { pass, create, verdict, ledger, reports, store } = setUp(policy)
    const known = await create("known")
    await pass()
    const failing = { ...ledger }
    const open = ledger.open
    Object.assign(ledger, {
      open: async () => {
        throw new Error("The ledger takes no write.")
      },
    })
    const late = await create("late")
    const seen = store.replica.get("known")
    if (!seen) throw new Error("known is gone")
    await store.updateSpec(seen, { ...seen.spec, state: "Stopped" })
    await expect(pass()).rejects.toThrow("takes no write")
    expect((await verdict(known))?.reason).toBe("NotWanted")
    expect(await verdict(late)).toBeUndefined()
    Object.assign(ledger, failing, { open })
    await pass()
    expect((await verdict(late))?.reason).toBe("Admitted")
    expect(reports.waits.snapshot().size).toBe(0)
  })
})

it("a file of before births had ranks keeps their order and what its instances may do", async () => {
  const path = join(directory, "old")
  const old = new DatabaseSync(path)
  for (const migration of migrations.slice(0, 6)) old.exec(migration)
  const insert = old.prepare("INSERT INTO birth (uid, name, lineage, at_ms) VALUES (?, ?, ?, ?)")
  for (const [name, lineage, atMs] of [
    ["root", "[]", startMs],
    ["younger", '["root"]', startMs + 2],
    ["older", '["root"]', startMs + 1],
  ] as const)
    insert.run(name, name, lineage, atMs)
  old.exec("PRAGMA user_version = 6")
  old.close()
  const opened = await openDatabase(path)
  const accounts = sqliteLedger(opened, manualClock()).accounts.snapshot()
  opened.close()
  const ranked = ["root", "older", "younger"].map((name) => accounts.get(uid(name))?.birth)
  expect(ranked.map((birth) => birth?.rank)).toEqual([1, 2, 3])
  expect(ranked.map((birth) => birth?.defaults)).toEqual([{}, {}, {}])
})
