import { describe, expect, it } from "vitest"
import { expectFault } from "../../contract/expect-fault.ts"
import { admin, agent, makeFleet, operator, type Result } from "../fleet.ts"
import { messagesOf, snapshot } from "./fleet-facts.ts"

describe("spawn_instance", () => {
  it("declares an instance with the lowest free name, and writes its spec alone", async () => {
    const fleet = makeFleet()
    fleet.add("shop-1")
    fleet.add("shop-3")
    const made = await fleet.call(operator)("spawn_instance", {
      goal: "Sell.",
      labels: { team: "web" },
    })
    expect(made).toMatchObject({
      name: "shop-2",
      created: true,
      phase: "Starting",
      budget: { usd: 10, iterations: 50, from: "policy default" },
    })
    expect(made.next).toContain('inspect_instance {"name":"shop-2"}')
    expect(fleet.specOf("shop-2")).toEqual({
      ...{
        project: "shop",
        state: "Running",
        attempt: 1,
        goal: "Sell.",
        orders: [],
        mode: "until-complete",
        loop: "ralf",
      },
      ...{
        workspace: "auto",
        priority: 0,
        labels: { team: "web" },
        lineage: [],
      },
      origin: { by: "operator ann", input: expect.stringMatching(/^[0-9a-f]{32}$/) },
    })
    // Its account, its defaults and its event are the scheduler's to make.
    expect(made.budget).toMatchObject({ usd: 10, iterations: 50, from: "policy default" })
    expect(fleet.spent.has(made.uid)).toBe(false)
    expect(messagesOf(fleet, "Spawned")).toEqual([])
  })

  it("makes a label of a project's name", async () => {
    const fleet = makeFleet()
    fleet.world.projects = ["My_Shop.v2", "...", `P${"x".repeat(62)}`]
    const spawn = async (project: string): Promise<string> =>
      (await fleet.call(operator)("spawn_instance", { project })).name
    expect(await spawn("My_Shop.v2")).toBe("my-shop-v2-1")
    expect(await spawn("...")).toBe("agent-1")
    expect(await spawn(`P${"x".repeat(62)}`)).toBe(`p${"x".repeat(45)}-1`)
  })

  it("asks which project, and leaves unknown ones to the code root", async () => {
    const fleet = makeFleet()
    fleet.world.projects = ["shop", "blog"]
    await expectFault(fleet.call(operator)("spawn_instance", {}), "Invalid", /Which project/)
    await expect(fleet.call(operator)("spawn_instance", {})).rejects.toMatchObject({
      next: "Give project, one of: shop, blog.",
    })
    await expectFault(
      fleet.call(operator)("spawn_instance", { project: "shoop" }),
      "NotFound",
      /shoop/,
    )
    fleet.world.projects = []
    await expectFault(fleet.call(operator)("spawn_instance", {}), "Invalid", /No project was found/)
    expect(fleet.byName.size).toBe(0)
  })

  it("says Queued where there is no place, before any scheduler has looked", async () => {
    const fleet = makeFleet()
    fleet.world.limits = { ...fleet.world.limits, instancesMax: 1 }
    fleet.running("shop-1")
    expect(await fleet.call(operator)("spawn_instance", {})).toMatchObject({
      phase: "Queued",
      why: expect.stringContaining("The only place of the fleet is taken."),
    })
  })

  it("takes the policy's default budget, without dollars that nobody is charged", async () => {
    const fleet = makeFleet()
    const spawn = async (budget?: object): Promise<Result> =>
      (await fleet.call(operator)("spawn_instance", { ...(budget && { budget }) })).budget
    expect(await spawn({ usd: 3 })).toEqual({ usd: 3, from: "call" })
    expect(await spawn({})).toEqual({ usd: 10, iterations: 50, from: "policy default" })
    fleet.world.limits = { ...fleet.world.limits, billing: "subscription" }
    expect(await spawn()).toEqual({ iterations: 50, from: "policy default" })
    expect(await spawn({ usd: 3 })).toEqual({ usd: 3, from: "call" })
  })

  it("gives the same instance for the same idempotencyKey, also when two calls race", async () => {
    const fleet = makeFleet()
    const spawn = fleet.call(operator)
    const both = await Promise.all([
      spawn("spawn_instance", { idempotencyKey: "issue-7" }),
      spawn("spawn_instance", { idempotencyKey: "issue-7" }),
    ])
    expect(
      both
        .map(({ name, created }) => ({ name, created }))
        .sort((a, b) => Number(b.created) - Number(a.created)),
    ).toEqual([
      { name: "shop-issue-7", created: true },
      { name: "shop-issue-7", created: false },
    ])
    const again = await spawn("spawn_instance", { idempotencyKey: "issue-7", goal: "Another." })
    expect(again).toMatchObject({
      created: false,
      uid: both[0].uid,
      why: expect.stringContaining("earlier call"),
    })
    expect(fleet.byName.size).toBe(1)
    fleet.world.projects = ["shop", "blog"]
    await expectFault(
      spawn("spawn_instance", { project: "blog", name: "shop", idempotencyKey: "issue-7" }),
      "Conflict",
      /shop-issue-7 is taken/,
    )
  })

  it("proposes a free name for one that is taken, and takes the next number when it loses a race", async () => {
    const fleet = makeFleet()
    fleet.add("web")
    await expect(fleet.call(operator)("spawn_instance", { name: "web" })).rejects.toMatchObject({
      code: "Conflict",
      message: "The name web is taken: made 0 s ago for this project.",
      next: expect.stringContaining('Give another name, e.g. "name":"web-1".'),
    })
    fleet.storeHooks.beforeWrite = () => {
      fleet.storeHooks.beforeWrite = undefined
      fleet.add("shop-1")
    }
    expect(await fleet.call(operator)("spawn_instance", {})).toMatchObject({
      name: "shop-2",
      created: true,
    })
  })

  it("says who made what has the name, when and for what", async () => {
    const fleet = makeFleet()
    fleet.world.projects = ["shop", "blog"]
    const asAnn = (input: object) =>
      fleet.call(operator)("spawn_instance", { project: "shop", ...input })
    await asAnn({ name: "web" })
    fleet.clock.advance(5000)
    await expect(asAnn({ name: "web" })).rejects.toMatchObject({
      code: "Conflict",
      message: "The name web is taken: made 5 s ago by you for this project.",
      next: expect.stringMatching(/inspect_instance \{"name":"web"\}.*"name":"web-1"/),
    })
    await expectFault(
      asAnn({ name: "web", project: "blog" }),
      "Conflict",
      /5 s ago by you for project shop\./,
    )
    await expectFault(
      fleet.call(admin)("spawn_instance", { project: "shop", name: "web" }),
      "Conflict",
      /by operator ann for/,
    )
    const web = fleet.byName.get("web")
    if (web) fleet.put({ ...web, deletedAtMs: fleet.clock.nowMs() })
    await expectFault(asAnn({ name: "web" }), "Conflict", /is being removed/)
  })

  it("makes two equal ones where two are asked for, and says of the second that it may be a repeat", async () => {
    const fleet = makeFleet()
    const spawn = (who = operator, input: object = {}) =>
      fleet.call(who)("spawn_instance", { goal: "Sell.", labels: { team: "web" }, ...input })
    expect((await spawn()).why).not.toContain("equal call")
    fleet.clock.advance(5000)
    const second = await spawn()
    expect(second).toMatchObject({
      name: "shop-2",
      created: true,
      why: expect.stringContaining("equal call of yours made shop-1 5 s ago"),
    })
    expect(second.next).toMatch(
      /^If this call only repeated that one: stop_instances \{"names":\["shop-2"\],"remove":true\}/,
    )
    // Another caller, another wish, or another time is no repeat.
    for (const made of [await spawn(admin), await spawn(operator, { goal: "Buy." })])
      expect(made.why).not.toContain("equal call")
    fleet.clock.advance(60_000)
    expect((await spawn()).why).not.toContain("equal call")
    const parent = fleet.running("parent")
    const child = () =>
      fleet.call(agent(parent))("spawn_instance", {
        goal: "Help.",
        budget: { usd: 1, iterations: 1 },
      })
    expect((await child()).why).not.toContain("equal call")
    expect((await child()).why).toContain("equal call of yours")
  })

  it("makes nothing for a caller who is gone, before or while it is made", async () => {
    const fleet = makeFleet()
    const gone = new AbortController()
    fleet.storeHooks.beforeWrite = () => gone.abort()
    const spawn = fleet.call(operator, gone.signal)
    await expectFault(spawn("spawn_instance", {}), "Unavailable", /cancelled; nothing was made/)
    expect(
      [...fleet.byName.values()].filter(({ deletedAtMs }) => deletedAtMs === undefined),
    ).toEqual([])
    expect(messagesOf(fleet, "Spawned")).toEqual([])
    const before = snapshot(fleet)
    await expectFault(spawn("spawn_instance", {}), "Unavailable", /cancelled; nothing was made/)
    expect(snapshot(fleet)).toBe(before)
  })

  it("changes nothing in a dry run, and foretells the same", async () => {
    const fleet = makeFleet()
    const before = snapshot(fleet)
    const foretold = await fleet.call(operator)("spawn_instance", { dryRun: true })
    expect(foretold).toMatchObject({
      name: "shop-1",
      created: false,
      phase: "Starting",
      next: expect.stringContaining("Nothing was made"),
    })
    expect(foretold).not.toHaveProperty("uid")
    expect(snapshot(fleet)).toBe(before)
    fleet.add("web")
    await expectFault(
      fleet.call(operator)("spawn_instance", { dryRun: true, name: "web" }),
      "Conflict",
      /taken/,
    )
  })

  it("refuses more instances than a fleet holds", async () => {
    const fleet = makeFleet()
    for (let count = 0; count < 10_000; count++)
      fleet.put({ ...fleet.add("x"), name: `x-${count}` })
    fleet.byName.delete("x")
    await expectFault(fleet.call(operator)("spawn_instance", {}), "TooLarge", /10000/)
  })
})
