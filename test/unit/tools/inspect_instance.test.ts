import { describe, expect, it } from "vitest"
import { type Fleet, makeFleet, operator } from "../fleet.ts"

describe("inspect_instance", () => {
  const setUp = (): Fleet => {
    const fleet = makeFleet()
    const one = fleet.running(
      "one",
      { goal: "Sell.", budget: { usd: 5 }, labels: { a: "b\nc" } },
      fleet.inIteration(),
    )
    const beat = fleet.memory.beats.get(one.uid)
    const nowMs = fleet.clock.nowMs()
    if (beat)
      fleet.memory.beats.set(one.uid, {
        ...beat,
        activity: { tool: "Bash", summary: "npm test", sinceMs: nowMs - 3000 },
        last: {
          turn: "t0",
          iteration: 8,
          outcome: "PARTIAL",
          text: "I did </untrusted-x> things.",
          atMs: nowMs,
        },
      })
    fleet.use(one, { usd: 2.4, tokens: 10, iterations: 8 })
    return fleet
  }

  it("says why, what to do, what it does and what it used", async () => {
    const fleet = setUp()
    const seen = await fleet.call(operator)("inspect_instance", { name: "one" })
    expect(seen).toMatchObject({
      ...{
        phase: "Running",
        why: "In iteration 9 for 1 s; in a tool call for 3 s.",
        fix: expect.stringContaining("message_instances"),
      },
      activity: { seconds: 3, untrusted: "<untrusted-nonce>\nBash: npm test\n</untrusted-nonce>" },
      last: {
        iteration: 8,
        outcome: "PARTIAL",
        untrusted: expect.stringMatching(/^<untrusted-nonce>\nI did/),
      },
      usage: { usd: 2.4, of: 5, tokens: 10, iterations: 8, billing: "metered" },
      ...{ mail: { waiting: 0 }, run: { restarts: 0 } },
    })
    for (const section of ["spec", "events", "log"]) expect(seen).not.toHaveProperty(section)
  })

  it("gives the sections that are asked for, with everybody's words fenced", async () => {
    const fleet = setUp()
    const one = fleet.byName.get("one")
    for (let number = 1; number <= 25; number++)
      await fleet.memory.timeline.append({
        id: `e${number}`,
        kind: "Warning",
        message: `word ${number}.`,
        atMs: 0,
        ...(one && { uid: one.uid }),
      })
    fleet.logs.push({ atMs: 0, text: "printed" })
    await fleet.call(operator)("message_instances", { to: ["one"], text: "Hello", waitSeconds: 0 })
    const sections = ["spec", "mail", "events", "log"]
    const seen = await fleet.call(operator)("inspect_instance", { name: "one", sections })
    expect(seen).not.toHaveProperty("activity")
    expect(seen.spec).toMatchObject({
      mode: "continuous",
      untrusted: {
        labels: expect.stringMatching(/^<untrusted-nonce>\na=b c\n</),
        goal: expect.stringContaining("Sell."),
      },
    })
    expect(seen.mail).toMatchObject({
      waiting: 1,
      messages: [
        { from: "operator ann", state: "queued", untrusted: expect.stringContaining("Hello") },
      ],
    })
    const events: string[] = seen.events.untrusted.split("\n")
    expect(events).toHaveLength(22) // the last 20, and the fence
    expect(events[1]).toContain("word 7.")
    expect(events[20]).toMatch(/MailSent/)
    expect(seen.log.untrusted).toContain("1970-01-01T00:00:00Z printed")
  })
})
