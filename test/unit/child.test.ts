import { describe, expect, it } from "vitest"
import type { Spec } from "../../src/core/instance.ts"
import { expectFault } from "../contract/expect-fault.ts"
import { agent, makeFleet, operator } from "./fleet.ts"

/** What an instance may give to one that it spawns, and change of it later. */

const children = { depth: 2, total: 3, running: 2 }
function setUp(spec: Partial<Spec> = {}) {
  const fleet = makeFleet()
  fleet.world.projects = ["shop", "blog"]
  const parent = fleet.running("parent", {
    ...{
      project: "shop",
      model: "m-1",
      priority: 5,
      children,
      budget: { usd: 10, iterations: 20 },
    },
    ...spec,
  })
  const call = fleet.call(agent(parent))
  const spawn = (input: object = {}) => call("spawn_instance", input)
  return { fleet, parent, call, spawn }
}

describe("a child", () => {
  it("has of its parent what it works on and with, and a part of its limits and budget", async () => {
    const schedule = { cron: "0 22 * * *", minutes: 60, timezone: "UTC" }
    const { fleet, parent, spawn } = setUp({
      schedule,
      repository: "acme/shop",
      codeRoot: "/code",
      loop: "builtin",
    })
    const made = await spawn({ name: "child", goal: "Help." })
    expect(fleet.specOf("parent--child")).toMatchObject({
      ...{
        project: "shop",
        repository: "acme/shop",
        codeRoot: "/code",
        loop: "builtin",
        model: "m-1",
        schedule,
        priority: 0,
      },
      ...{
        lineage: [parent.uid],
        children: { depth: 1, total: 3, running: 2 },
        budget: { usd: 5, iterations: 10 },
      },
    })
    expect(made.budget).toMatchObject({ usd: 5, from: expect.stringContaining("your own budget") })
    // Half of what is left then, of what was not set aside.
    await spawn({ name: "second" })
    expect(fleet.specOf("parent--second")?.budget).toEqual({ usd: 2.5, iterations: 5 })
  })

  it.each<[string, object, RegExp]>([
    ["another project", { project: "blog" }, /parent's project, shop, not blog/],
    ["a repository of another", { repository: "acme/tool" }, /parent's repository/],
    ["another loop", { loop: "builtin" }, /parent's loop/],
    ["another model", { model: "m-2" }, /parent's model, m-1, not m-2/],
    ["a higher priority", { priority: 6 }, /at most its parent's, 5/],
    ["a schedule of its own", { schedule: { cron: "* * * * *", minutes: 1 } }, /parent's windows/],
    ["more money than there is", { budget: { usd: 10.01 } }, /budget of \$10 has 10 left/],
    [
      "more iterations than there are",
      { budget: { iterations: 21 } },
      /budget of 20 iterations has 20 left/,
    ],
  ])("may not be given %s", async (_name, input, words) => {
    const { fleet, spawn } = setUp()
    await expectFault(spawn(input), "Forbidden", words)
    expect([...fleet.byName.keys()]).toEqual(["parent"])
    expect(fleet.audits).toMatchObject([{ tool: "spawn_instance", code: "Forbidden" }])
  })

  it("may have all that is left, and then there is no more; what was removed unused comes back, what was used does not", async () => {
    const { fleet, spawn, call } = setUp()
    await spawn({ name: "all", budget: { usd: 10, iterations: 1 } })
    await expectFault(spawn({}), "Forbidden", /has 0 left/)
    const all = fleet.byName.get("parent--all")
    if (!all) throw new Error("no child")
    fleet.use(all, { usd: 4 })
    await call("stop_instances", { names: ["parent--all"] })
    await spawn({ name: "again", budget: { usd: 6 } })
    await expectFault(spawn({ budget: { usd: 0.01 } }), "Forbidden", /has 0 left/)
  })

  it("is given once, however often its parent repeats the call", async () => {
    const { fleet, spawn } = setUp()
    const input = { idempotencyKey: "helper", budget: { usd: 8 } }
    const first = await spawn(input)
    expect(await spawn(input)).toMatchObject({ name: first.name, created: false })
    expect(fleet.byName.size).toBe(2)
  })

  it("is one of so many in a life, on so many levels", async () => {
    const { fleet, spawn, parent } = setUp()
    for (const name of ["a", "b", "c"]) await spawn({ name, budget: { usd: 1, iterations: 1 } })
    await expectFault(spawn({}), "Forbidden", /3 descendants in its life/)
    const a = fleet.byName.get("parent--a")
    if (!a) throw new Error("no child")
    await expectFault(
      fleet.call(agent(a))("spawn_instance", {}),
      "Forbidden",
      /parent may have 3 descendants/,
    )
    const deep = setUp({ children: { depth: 1, total: 9, running: 9 } })
    const child = await deep.spawn({ name: "child" })
    const made = deep.fleet.byName.get(String(child.name))
    if (!made) throw new Error("no child")
    await expectFault(
      deep.fleet.call(agent(made))("spawn_instance", {}),
      "Forbidden",
      /on 1 level,|on 0 levels/,
    )
    expect(parent.spec.children).toEqual(children)
  })

  it("is one of so many, and has of what is left, also when many are spawned at once", async () => {
    const { fleet, spawn, call, parent } = setUp()
    const ended = await Promise.allSettled(
      Array.from({ length: 50 }, () => spawn({ budget: { usd: 4, iterations: 1 } })),
    )
    expect(ended.filter(({ status }) => status === "fulfilled").length).toBe(2) // 4 and 4 of 10
    expect(fleet.byName.size).toBe(3)
    const cheap = await Promise.allSettled(
      Array.from({ length: 50 }, () => spawn({ budget: { usd: 0.01, iterations: 1 } })),
    )
    expect(cheap.filter(({ status }) => status === "fulfilled").length).toBe(1)
    expect(
      [...fleet.byName.values()].filter(({ spec }) => spec.lineage.includes(parent.uid)).length,
    ).toBe(3)
    // 1.99 are left: enough for one of the two.
    const first = [...fleet.byName.keys()].filter((name) => fleet.specOf(name)?.budget?.usd === 4)
    const raised = await Promise.allSettled(
      first.map((name) => call("update_instance", { name, budget: { usd: 5.5 } })),
    )
    expect(raised.map(({ status }) => status).toSorted()).toEqual(["fulfilled", "rejected"])
  })

  it("may not be given more later by its parent, nor by itself; a person may", async () => {
    const { fleet, spawn, call } = setUp()
    await spawn({ name: "child", budget: { usd: 4 } })
    const update = (input: object) => call("update_instance", { name: "parent--child", ...input })
    await expectFault(update({ budget: { usd: 10.5 } }), "Forbidden", /has 10 left/)
    await expectFault(update({ priority: 6 }), "Forbidden", /at most its parent's/)
    await expectFault(update({ schedule: null }), "Forbidden", /parent's windows/)
    await update({ budget: { usd: 9 }, children: { depth: 9, total: 99, running: 99 } })
    expect(fleet.specOf("parent--child")).toMatchObject({
      budget: { usd: 9 },
      children: { depth: 1, total: 3, running: 2 },
    })
    const child = fleet.byName.get("parent--child")
    if (!child) throw new Error("no child")
    await expectFault(
      fleet.call(agent(child))("update_instance", { name: "parent--child", budget: { usd: 1 } }),
      "Forbidden",
      /descendants/,
    )
    await fleet.call(operator)("update_instance", {
      name: "parent--child",
      budget: { usd: 50 },
      priority: 9,
    })
    expect(fleet.specOf("parent--child")).toMatchObject({ budget: { usd: 50 }, priority: 9 })
  })
})
