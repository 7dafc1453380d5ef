import { describe, expect, it } from "vitest"
import { agent, makeFleet, operator } from "../fleet.ts"

describe("fleet_status", () => {
  it("sums up the fleet, who needs you first", async () => {
    const fleet = makeFleet()
    fleet.world.limits = {
      ...fleet.world.limits,
      billing: "subscription",
      refused: "line 3: turnsMax",
    }
    fleet.world.limits = {
      ...fleet.world.limits,
      isolation: { kind: "process tree", warning: "Daemons may escape." },
    }
    fleet.world.projects = ["shop", "blog"]
    fleet.world.today = { ...fleet.world.today, usd: 14.2 }
    fleet.running("a")
    fleet.running("b")
    fleet.running("p", { state: "Paused" })
    const crashing = fleet.ended("c", { restarts: 3 })
    fleet.memory.turns.set(crashing.uid, {
      uid: crashing.uid,
      id: "t",
      place: "p1",
      grantedAtMs: 0,
    })
    const status = await fleet.call(operator)("fleet_status")
    expect(status).toEqual({
      headline:
        "4 agents: 0 working, 2 between iterations, 1 needs you, 1 paused; $14.20 today (subscription, not charged)",
      needsYou: [
        {
          name: "c",
          why: expect.stringContaining("It was started 4 times"),
          do: expect.stringContaining('read_logs {"name":"c"}'),
        },
      ],
      ...{
        phases: { CrashLoop: 1, Running: 2, Paused: 1 },
        turns: { used: 1, max: 4 },
        instances: { running: 3, max: 10 },
      },
      ...{
        spend: { todayUsd: 14.2, billing: "subscription" },
        next: "Do what needsYou says, one by one.",
      },
      projects: [
        { name: "shop", instances: 4 },
        { name: "blog", instances: 0 },
      ],
      isolation: "process tree",
      warnings: [
        "Daemons may escape.",
        "A configuration file is invalid; its previous version is still in force.",
      ],
      untrusted: "<untrusted-nonce>\nline 3: turnsMax\n</untrusted-nonce>",
    })
    fleet.clock.advance(5 * 3_600_000)
    await fleet.call(operator)("fleet_status")
    expect(fleet.world.spentSinceMs).toBe(Date.UTC(2026, 0, 1))
    const blog = await fleet.call(operator)("fleet_status", { project: "blog" })
    expect(blog).toMatchObject({
      headline: expect.stringMatching(/^No agents; /),
      projects: [{ name: "blog", instances: 0 }],
      next: expect.stringContaining('spawn_instance {"project":"blog"'),
    })
  })

  it("shows an agent its own tree, and nobody's money", async () => {
    const fleet = makeFleet()
    const root = fleet.running("root")
    fleet.running("stranger")
    const status = await fleet.call(agent(root))("fleet_status")
    expect(status).toMatchObject({
      headline: "1 agent: 0 working, 1 between iterations",
      phases: { Running: 1 },
    })
    expect(status).not.toHaveProperty("spend")
  })
})
