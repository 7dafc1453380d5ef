import { describe, expect, it } from "vitest"
import { expectFault } from "../../contract/expect-fault.ts"
import { makeFleet, operator } from "../fleet.ts"
import { messagesOf, namesOf } from "./fleet-facts.ts"

describe("stop_instances", () => {
  it("stops, and removes where that is asked, stopped ones too", async () => {
    const fleet = makeFleet()
    fleet.running("a")
    fleet.add("b", { state: "Stopped" })
    fleet.ended("c", { lastExit: { code: 0, atMs: 0, outcome: "Complete" } })
    const { instances } = await fleet.call(operator)("stop_instances", { all: true, expect: 3 })
    expect(instances).toEqual([
      {
        name: "a",
        changed: true,
        phase: "Stopping",
        why: "It was told to stop; its processes are ending.",
      },
      { name: "b", changed: false, phase: "Stopped", why: "It was already told to stop." },
      {
        name: "c",
        changed: false,
        phase: "Completed",
        why: "Its loop has already finished.",
      },
    ])
    expect(messagesOf(fleet, "Changed")).toEqual(["Stopped by operator ann."])
    const removed = await fleet.call(operator)("stop_instances", {
      names: ["a", "b", "c"],
      remove: true,
    })
    expect(removed).toMatchObject({ changed: 3, next: expect.stringContaining("free again") })
    expect([...fleet.byName.values()].every(({ deletedAtMs }) => deletedAtMs !== undefined)).toBe(
      true,
    )
    expect(messagesOf(fleet, "Removed")).toHaveLength(3)
    expect(
      await fleet.call(operator)("stop_instances", { names: ["a"], remove: true }),
    ).toMatchObject({ changed: 0 })
  })

  it("deals with what runs before what does not", async () => {
    const fleet = makeFleet()
    for (const name of ["a", "b", "c"]) fleet.add(name, { state: "Stopped" })
    fleet.running("d")
    const removed = await fleet.call(operator)("stop_instances", {
      names: ["a", "b", "c", "d"],
      remove: true,
    })
    expect(namesOf(removed)).toEqual(["d", "a", "b", "c"])
  })

  it("removes what is only described where the count is as expected", async () => {
    const fleet = makeFleet()
    fleet.running("a")
    fleet.running("b")
    await expectFault(
      fleet.call(operator)("stop_instances", { project: "shop", remove: true }),
      "Invalid",
      /2 instances now/,
    )
    await expectFault(
      fleet.call(operator)("stop_instances", { project: "shop", remove: true, expect: 1 }),
      "Conflict",
      /not 1/,
    )
    expect([...fleet.byName.values()].map(({ deletedAtMs }) => deletedAtMs)).toEqual([
      undefined,
      undefined,
    ])
    expect(
      await fleet.call(operator)("stop_instances", { project: "shop", remove: true, expect: 2 }),
    ).toMatchObject({
      changed: 2,
    })
  })
})
