import { describe, expect, it } from "vitest"
import { expectFault } from "../../contract/expect-fault.ts"
import { agent, makeFleet, operator } from "../fleet.ts"
import { namesOf } from "./fleet-facts.ts"

describe("resume_instances", () => {
  it("goes on, or starts afresh what has ended, and leaves alone what runs", async () => {
    const fleet = makeFleet()
    fleet.running("runs")
    fleet.running("elapsed", { state: "Paused", pause: { when: "now", untilMs: 1 } })
    fleet.running("paused", { state: "Paused", pause: { when: "now" } })
    fleet.add("stopped", { state: "Stopped" })
    fleet.ended("complete", { lastExit: { code: 0, atMs: 0, outcome: "Complete" } })
    fleet.ended("failed", { lastExit: { code: 1, atMs: 0, outcome: "Failed" } })
    fleet.ended("crashing", { restarts: 3 })
    fleet.ended("crashing-paused", { restarts: 3 }, { state: "Paused" })
    const { instances } = await fleet.call(operator)("resume_instances", { all: true, expect: 8 })
    const rows = instances.map(
      ({ name, changed, phase }: { name: string; changed: boolean; phase: string }) => [
        ...[name, changed, phase, fleet.specOf(name)?.attempt],
      ],
    )
    expect(rows).toEqual([
      ["runs", false, "Running", 1],
      ["elapsed", false, "Running", 1],
      ["paused", true, "Running", 1],
      ["stopped", true, "Starting", 2],
      ["complete", true, "Starting", 2],
      ["failed", true, "Starting", 2],
      ["crashing", true, "Starting", 2],
      ["crashing-paused", true, "Starting", 2],
    ])
    expect(instances[0].why).toMatch(/^It is not paused\. Has not run claude yet/)
    expect(
      (await fleet.call(operator)("resume_instances", { names: ["paused", "stopped"] })).changed,
    ).toBe(0)
  })

  it("never lets an agent lift or change the pause of a person or an ancestor, also not by stopping first", async () => {
    const fleet = makeFleet()
    const root = fleet.running("root")
    const middle = fleet.running("middle", { lineage: [root.uid] })
    fleet.running("leaf", { lineage: [root.uid, middle.uid] })
    const stands = {
      changed: 0,
      instances: [{ why: expect.stringMatching(/^It was paused by (operator ann|root) /) }],
    }
    for (const pauser of [operator, agent(root)]) {
      await fleet.call(pauser)("pause_instances", { names: ["leaf"] })
      const as = fleet.call(agent(middle))
      expect(await as("resume_instances", { names: ["leaf"] })).toMatchObject(stands)
      expect(await as("pause_instances", { names: ["leaf"], until: "1m" })).toMatchObject(stands)
      expect(await as("stop_instances", { names: ["leaf"] })).toMatchObject({ changed: 1 })
      expect(await as("resume_instances", { names: ["leaf"] })).toMatchObject(stands)
      expect(await fleet.call(operator)("resume_instances", { names: ["leaf"] })).toMatchObject({
        changed: 1,
      })
    }
    await fleet.call(agent(middle))("pause_instances", { names: ["leaf"] })
    expect(await fleet.call(agent(middle))("resume_instances", { names: ["leaf"] })).toMatchObject({
      changed: 1,
    })
    await fleet.call(agent(middle))("pause_instances", { names: ["leaf"] })
    expect(await fleet.call(agent(root))("resume_instances", { names: ["leaf"] })).toMatchObject({
      changed: 1,
    })
  })

  it("means by all those that the caller operates", async () => {
    const fleet = makeFleet()
    const root = fleet.running("root", { state: "Paused" })
    fleet.running("leaf", { lineage: [root.uid] })
    fleet.running("stranger")
    expect(
      namesOf(await fleet.call(agent(root))("pause_instances", { all: true, expect: 1 })),
    ).toEqual(["leaf"])
    await expectFault(fleet.call(agent(root))("resume_instances", { names: ["root"] }), "Forbidden")
  })
})
