import * as fc from "fast-check"
import { describe, expect, it } from "vitest"
import { aMail } from "../contract/harness.ts"
import { admin, agent, makeFleet, operator, type Result } from "./fleet.ts"

/** An answer is bounded whatever stands in it, and what was cut is reached by its cursor. */

/** With the fences around untrusted text. */
const bytesMax = 80_000
const bytesOf = (result: Result): number => Buffer.byteLength(JSON.stringify(result))
const texts = ["x", "é", "中", "😀", "👨‍👩‍👧‍👦", '"', "\\"].map((unit) =>
  unit.repeat(Math.floor(16_000 / Buffer.byteLength(unit))),
)

describe("list_instances", () => {
  it("with the goals of all is bounded, and its cursor reaches every one of them once", async () => {
    const fleet = makeFleet()
    for (let index = 0; index < 250; index++)
      fleet.running(`a-${index}`, { goal: texts[index % texts.length] ?? "" })
    const names: string[] = []
    for (let cursor: string | undefined; ; ) {
      const page = await fleet.call(operator)("list_instances", {
        detail: true,
        limit: 200,
        ...(cursor && { cursor }),
      })
      expect(bytesOf(page)).toBeLessThan(bytesMax)
      names.push(...page.instances.map(({ name }: { name: string }) => name))
      for (const { goal } of page.instances) expect(goal.untrusted.isWellFormed()).toBe(true)
      cursor = page.nextCursor
      if (cursor === undefined) break
      expect(page.next).toMatch(/more: call again with cursor/)
    }
    expect(names.length).toBe(250)
    expect(new Set(names).size).toBe(250)
  })

  it("says why at any length", async () => {
    const fleet = makeFleet()
    const why = {
      verdict: "Held" as const,
      reason: "BudgetReached" as const,
      message: "中".repeat(1000),
      term: 1,
    }
    for (let index = 0; index < 200; index++) fleet.add(`a-${index}`, {}, { admission: why })
    const page = await fleet.call(operator)("list_instances", { limit: 200 })
    expect(bytesOf(page)).toBeLessThan(bytesMax)
    expect(page.instances.length).toBeGreaterThan(0)
  })
})

describe("read_events", () => {
  const fill = async (fleet: ReturnType<typeof makeFleet>, count: number): Promise<void> => {
    for (let index = 0; index < count; index++)
      await fleet.memory.timeline.append({
        ...{
          id: `e-${index}`,
          kind: "Warning",
          message: (texts[index % texts.length] ?? "").slice(0, 3999),
          atMs: 1,
        },
      })
  }

  it("is bounded; of the newest the newest stay", async () => {
    const fleet = makeFleet()
    await fill(fleet, 600)
    const page = await fleet.call(operator)("read_events", { limit: 500 })
    expect(bytesOf(page)).toBeLessThan(bytesMax)
    expect(page.events.at(-1).cursor).toBe("600")
    expect(page.cursor).toBe("600")
    expect(page.next).toMatch(/older ones did not fit/)
  })

  it("behind a cursor gives each event once", async () => {
    const fleet = makeFleet()
    await fill(fleet, 600)
    const seen: string[] = []
    for (let after = ""; ; ) {
      const page = await fleet.call(operator)("read_events", { after, limit: 500 })
      expect(bytesOf(page)).toBeLessThan(bytesMax)
      if (page.events.length === 0) break
      seen.push(...page.events.map(({ cursor }: { cursor: string }) => cursor))
      after = page.cursor
    }
    expect(seen).toEqual(Array.from({ length: 600 }, (_, index) => String(index + 1)))
  })
})

describe("read_messages", () => {
  it("is bounded, marks only what it showed as read, and so comes to an end", async () => {
    const fleet = makeFleet()
    const writer = fleet.running("writer")
    for (let index = 0; index < 200; index++)
      await fleet.memory.mailboxes.send(
        "@operators",
        aMail(`m-${index}`, {
          from: "instance writer",
          atMs: fleet.clock.nowMs(),
          text: texts[index % texts.length] ?? "",
        }),
      )
    const seen = new Set<string>()
    for (let round = 0; round < 10 && seen.size < 200; round++) {
      const page = await fleet.call(operator)("read_messages", { limit: 200 })
      expect(bytesOf(page)).toBeLessThan(bytesMax)
      for (const { mail, state } of page.messages) if (state === "queued") seen.add(mail)
      if (seen.size < 200) expect(page.next).toMatch(/^Call it again/)
    }
    expect(seen.size).toBe(200)
    const sent = await fleet.call(agent(writer))("read_messages", { sent: true, limit: 200 })
    expect(sent.next).toMatch(/do not fit into one answer/)
  })
})

describe("a change of many", () => {
  it("lists as many as fit, and says how many there are", async () => {
    const fleet = makeFleet()
    const why = {
      verdict: "Held" as const,
      reason: "BudgetReached" as const,
      message: "中".repeat(1000),
      term: 1,
    }
    for (let index = 0; index < 150; index++) fleet.add(`a-${index}`, {}, { admission: why })
    const answer = await fleet.call(operator)("update_instance", { name: "a-0" })
    expect(answer.changed).toEqual([])
    const stopped = await fleet.call(operator)("resume_instances", { project: "shop" })
    expect(bytesOf(stopped)).toBeLessThan(bytesMax)
    expect(stopped.count).toBe(150)
  })
})

describe("what is not given", () => {
  it("may be sent as null, to every tool", async () => {
    const { tools } = await import("../../tools/index.ts")
    for (const tool of tools) {
      const optional = Object.entries(tool.input.shape)
        .filter(([, field]) => !field.safeParse(null).success && field.safeParse(undefined).success)
        .map(([name]) => name)
      const nulls = Object.fromEntries(optional.map((name) => [name, null]))
      const [plain, nulled] = await Promise.all(
        [{}, nulls].map((input) =>
          makeFleet()
            .call(admin)(tool.name, input)
            .then(JSON.stringify, (error) => String(error)),
        ),
      )
      expect([tool.name, nulled]).toEqual([tool.name, plain])
    }
  })
})

describe("what is said in a goal", () => {
  it("is stored and shown without half a pair, wherever it was cut before", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.string({ unit: "binary", minLength: 1, maxLength: 60 }),
        fc.nat(60),
        async (text, at) => {
          const fleet = makeFleet()
          const goal = `g${text.slice(0, at)}`
          const { name } = await fleet.call(operator)("spawn_instance", { goal })
          expect(fleet.specOf(name)?.goal).toBe(goal.toWellFormed())
          const shown = await fleet.call(operator)("inspect_instance", { name, sections: ["spec"] })
          expect(shown.spec.untrusted.goal.isWellFormed()).toBe(true)
        },
      ),
      { numRuns: 20 },
    )
  })
})
