import fc from "fast-check"
import { describe, expect, it } from "vitest"
import { desiredState, type Instance, type Spec } from "../../src/core/instance.ts"
import type { Principal } from "../../src/core/principal.ts"
import { refusalToLift } from "../../src/core/stops.ts"
import { startMs, uid } from "../contract/harness.ts"
import { admin, agent, type Fleet, makeFleet, operator, type Result } from "./fleet.ts"

/** What somebody stopped or paused, nobody below them starts. */

const family = () => {
  const fleet = makeFleet()
  const root = fleet.running("root")
  const parent = fleet.running("parent", { lineage: [root.uid] })
  const child = fleet.running("child", { lineage: [root.uid, parent.uid] })
  const as = { person: operator, root: agent(root), parent: agent(parent), child: agent(child) }
  const call = (who: keyof typeof as, tool: string, more: object = {}): Promise<Result> =>
    fleet.call(as[who])(tool, { names: ["child"], ...more })
  return { fleet, root, parent, child, as, call }
}
const rowOf = ({ instances: [row] }: Result): Result => row
const asksOperators = 'ask with message_instances {"to":["@operators"],"text":"…"}.'

describe("a person's stop", () => {
  it("is not undone by a parent, by whatever call, and says who made it and when", async () => {
    const { fleet, call } = family()
    await call("person", "stop_instances")
    fleet.clock.advance(300_000)
    const before = fleet.byName.get("child")
    const why = `It was stopped by operator ann 5 min ago: ${asksOperators}`
    const tries: readonly (readonly [tool: string, more: object, why: string])[] = [
      ["resume_instances", {}, why],
      ["resume_instances", { dryRun: true }, why],
      ["stop_instances", { remove: true }, why],
      ["stop_instances", {}, "It was already told to stop by operator ann 5 min ago."],
      ["pause_instances", { until: "1s" }, "It is stopped, so there is nothing to pause."],
    ]
    for (const who of ["parent", "root"] as const)
      for (const [tool, more, words] of tries) {
        const answer = await call(who, tool, more)
        expect([who, tool, answer.changed, rowOf(answer).why]).toEqual([who, tool, 0, words])
      }
    expect(
      (await fleet.call(agentOf(fleet, "parent"))("resume_instances", { project: "shop" })).changed,
    ).toBe(0)
    expect(fleet.byName.get("child")).toEqual(before)
    expect(rowOf(await fleet.call(operator)("list_instances", { names: ["child"] }))).toMatchObject(
      {
        why: expect.stringMatching(
          /^It was (stopped by operator ann at 2026-01-01 00:00 UTC|told to stop; its processes are ending)\.$/,
        ),
      },
    )
    expect(await call("person", "resume_instances")).toMatchObject({ changed: 1 })
    expect(fleet.specOf("child")).toMatchObject({ state: "Running", attempt: 2 })
    expect(fleet.specOf("child")).not.toHaveProperty("stop")
  })

  it("stands over a parent's stop and pause, made before or after", async () => {
    const stop = ["stop_instances", {}] as const
    const pause = ["pause_instances", { until: "1m" }] as const
    for (const orders of [
      [[stop], [stop]],
      [[pause], [stop]],
      [[pause, stop], [stop]],
      [[], [stop], [stop]],
    ] as const) {
      const { fleet, call } = family()
      const [first, second, third = []] = orders
      for (const [tool, more] of first) await call("parent", tool, more)
      for (const [tool, more] of second) expect((await call("person", tool, more)).changed).toBe(1)
      for (const [tool, more] of third) await call("parent", tool, more)
      fleet.clock.advance(120_000)
      expect((await call("parent", "resume_instances")).changed).toBe(0)
      expect(fleet.specOf("child")).toMatchObject({
        state: "Stopped",
        stop: { by: { id: "ann", role: "operator" } },
      })
    }
  })

  it("of a child whose loop had ended by itself leaves it as complete, and nobody below starts it afresh", async () => {
    const fleet = makeFleet()
    const root = fleet.running("root")
    const run = { lastExit: { code: 0, atMs: 0, outcome: "Complete" as const } }
    fleet.ended("child", run, { lineage: [root.uid] })
    expect(await fleet.call(operator)("stop_instances", { names: ["child"] })).toMatchObject({
      changed: 1,
      instances: [{ phase: "Completed" }],
    })
    expect(await fleet.call(operator)("stop_instances", { names: ["child"] })).toMatchObject({
      changed: 0,
    })
    for (const more of [{ tool: "resume_instances" }, { tool: "stop_instances", remove: true }]) {
      const { tool, ...input } = more
      expect(
        rowOf(await fleet.call(agent(root))(tool, { names: ["child"], ...input })),
      ).toMatchObject({
        changed: false,
        why: expect.stringContaining("It was stopped by operator ann"),
      })
    }
    expect((await fleet.call(operator)("resume_instances", { names: ["child"] })).changed).toBe(1)
  })

  it("counts also where it comes between a parent's look and its write", async () => {
    for (const [tool, more] of [
      ["resume_instances", {}],
      ["stop_instances", { remove: true }],
      ["pause_instances", { until: "1m" }],
    ] as const) {
      const { fleet, call, parent } = family()
      await call("parent", "pause_instances")
      let once = true
      fleet.storeHooks.beforeWrite = () => {
        const now = fleet.byName.get("child")
        if (!once || !now) return
        once = false
        fleet.put({
          ...now,
          spec: {
            ...now.spec,
            state: "Stopped",
            stop: { by: { id: "ann", role: "operator" }, atMs: startMs },
          },
        })
      }
      const answer = await fleet.call(agent(parent))(tool, { names: ["child"], ...more })
      expect([tool, answer.changed]).toEqual([tool, 0])
      expect(fleet.byName.get("child")).toMatchObject({ spec: { state: "Stopped" } })
      expect(fleet.byName.get("child")?.deletedAtMs).toBeUndefined()
    }
  })
})

describe("a person's pause", () => {
  it("replaces a parent's, with nothing of its end or note, and no parent lengthens, shortens or lifts it", async () => {
    const { fleet, call } = family()
    await call("parent", "pause_instances", { until: "1m", note: "mine" })
    const { batch } = await call("person", "pause_instances", { when: "iteration-end" })
    const pause = {
      when: "now",
      batch,
      by: { id: "ann", role: "operator" },
      atMs: fleet.clock.nowMs(),
    }
    expect(fleet.specOf("child")?.pause).toEqual(pause)
    fleet.clock.advance(120_000)
    for (const [tool, more] of [
      ["pause_instances", { until: "1s" }],
      ["pause_instances", { until: "30d", note: "mine" }],
      ["resume_instances", {}],
      ["stop_instances", { remove: true }],
    ] as const)
      expect([tool, rowOf(await call("parent", tool, more))]).toEqual([
        tool,
        expect.objectContaining({
          changed: false,
          why: `It was paused by operator ann 2 min ago: ${asksOperators}`,
        }),
      ])
    const { changed } = await fleet.call(agentOf(fleet, "root"))("resume_instances", { batch })
    expect([changed, fleet.specOf("child")?.pause]).toEqual([0, pause])
    expect(await fleet.call(operator)("resume_instances", { batch })).toMatchObject({ changed: 1 })
  })

  it("is kept by a parent's stop, which is then not the parent's to lift; when it is over, it is", async () => {
    const { fleet, call } = family()
    await call("person", "pause_instances", { until: "1h" })
    expect((await call("parent", "stop_instances")).changed).toBe(1)
    expect((await call("parent", "resume_instances")).changed).toBe(0)
    fleet.clock.advance(3_600_000)
    expect((await call("parent", "resume_instances")).changed).toBe(1)
    expect(fleet.specOf("child")).not.toHaveProperty("pause")
  })
})

describe("an ancestor's stop", () => {
  it("is lifted by itself, by those above it and by a person, and tells those below whom to ask", async () => {
    for (const who of ["root", "person"] as const) {
      const { call } = family()
      await call("root", "stop_instances")
      expect(rowOf(await call("parent", "resume_instances")).why).toBe(
        'It was stopped by root 0 s ago: ask with message_instances {"to":["root"],"text":"…"}.',
      )
      expect((await call(who, "resume_instances")).changed).toBe(1)
    }
    const { call } = family()
    await call("parent", "stop_instances")
    expect((await call("root", "resume_instances")).changed).toBe(1)
  })

  it("stands when that ancestor was removed", async () => {
    const { fleet, call, root } = family()
    await call("root", "stop_instances")
    fleet.byName.delete(root.name)
    expect((await call("parent", "resume_instances")).changed).toBe(0)
    expect((await call("person", "resume_instances")).changed).toBe(1)
  })

  it("of a person's kind keeps the stopped one from being resumed by a child of it, or by itself", async () => {
    const { fleet, as } = family()
    await fleet.call(admin)("stop_instances", { names: ["parent"] })
    for (const who of ["child", "parent"] as const)
      await expect(
        fleet.call(as[who])("resume_instances", { names: ["parent"] }),
      ).rejects.toMatchObject({ code: "Forbidden" })
    expect(
      rowOf(await fleet.call(as.root)("resume_instances", { names: ["parent"] })).why,
    ).toContain("by admin root")
  })
})

describe("what an older version wrote, or somebody by hand", () => {
  const lineage = [
    uid("3f9b2a10-0000-4000-8000-000000000001"),
    uid("3f9b2a10-0000-4000-8000-000000000002"),
  ] as const
  const [above, below] = lineage.map((one, index): Principal => {
    return { kind: "instance", id: `a-${index}`, uid: one, lineage: lineage.slice(0, index) }
  }) as [Principal, Principal] // one for each of two
  const spec = (more: Partial<Spec>): Spec => ({
    ...makeFleet().add("x", more).spec,
    lineage: [...lineage],
  })
  const lifts = (more: Partial<Spec>) =>
    [above, below, operator].map((who) => refusalToLift(who, spec(more), startMs) === undefined)

  it.each<[string, Partial<Spec>, boolean[]]>([
    [
      "a pause of the upper one, by its batch",
      { state: "Paused", pause: { when: "now", batch: `b-1.${lineage[0]}` } },
      [true, false, true],
    ],
    [
      "a pause of the lower one, by its batch",
      { state: "Paused", pause: { when: "now", batch: `b-1.${lineage[1]}` } },
      [true, true, true],
    ],
    [
      "a pause of nobody in its lineage",
      { state: "Paused", pause: { when: "now", batch: "b-1.other" } },
      [false, false, true],
    ],
    [
      "a person's pause",
      { state: "Paused", pause: { when: "now", batch: "b-1" } },
      [false, false, true],
    ],
    [
      "a batch that ends in a dot",
      { state: "Paused", pause: { when: "now", batch: "b-1." } },
      [false, false, true],
    ],
    ["a pause without any word", { state: "Paused" }, [false, false, true]],
    ["a stop", { state: "Stopped" }, [false, false, true]],
    [
      "a pause that is over",
      { state: "Paused", pause: { when: "now", untilMs: startMs } },
      [true, true, true],
    ],
    ["nothing", {}, [true, true, true]],
  ])("%s", (_, more, expected) => {
    expect(lifts(more)).toEqual(expected)
  })
})

const agentOf = (fleet: Fleet, name: string): Principal => {
  const instance = fleet.byName.get(name)
  if (!instance) throw new Error(`There is no ${name}.`)
  return agent(instance)
}

describe("in any tree, whatever its members and people do in any order", () => {
  const sizeMax = 6
  /** Index of each one's parent, of those before it; the first has none. */
  const trees = fc.array(fc.nat(), { minLength: 1, maxLength: sizeMax - 1 })
  const acts = fc.array(
    fc.record({
      /** -1: a person. */
      by: fc.integer({ min: -1, max: sizeMax - 1 }),
      on: fc.nat({ max: sizeMax - 1 }),
      tool: fc.constantFrom(
        "pause_instances",
        "resume_instances",
        "stop_instances",
        "remove",
        "resume_batch",
      ),
      until: fc.constantFrom(undefined, "10s", "1h"),
      passesMs: fc.constantFrom(0, 5000, 60_000),
    }),
    { minLength: 2, maxLength: 12 },
  )

  it("nobody starts or removes what somebody above them stopped or paused", async () => {
    await fc.assert(
      fc.asyncProperty(trees, acts, async (parents, steps) => {
        const fleet = makeFleet()
        const all: Instance[] = [fleet.running("i-0")]
        for (const [index, parent] of parents.entries()) {
          const above = all[parent % all.length]
          if (above)
            all.push(
              fleet.running(`i-${index + 1}`, { lineage: [...above.spec.lineage, above.uid] }),
            )
        }
        /** Who stands how high above an instance: a person highest. */
        const levelOf = (who: number, of: Instance): number =>
          who < 0 ? -1 : of.spec.lineage.indexOf(all[who]?.uid ?? uid("none"))
        /** What stands, as this test remembers it: by whom, and until when. */
        let stands: { on: string; by: number; tool: string; untilMs: number }[] = []
        const batches: string[] = []
        for (const { by, on, tool, until, passesMs } of steps) {
          fleet.clock.advance(passesMs)
          const target = all[on % all.length]
          const caller = by < 0 ? undefined : all[by % all.length]
          if (!target || (caller && !target.spec.lineage.includes(caller.uid))) continue
          const level = levelOf(caller ? all.indexOf(caller) : -1, target)
          const call = fleet.call(caller ? agent(caller) : operator)
          const nowMs = fleet.clock.nowMs()
          const before = fleet.byName.get(target.name)
          if (before?.deletedAtMs !== undefined) continue
          if (tool === "resume_batch")
            await call("resume_instances", { batch: batches.at(-1) ?? "b-none" })
          else {
            const answer = await call(tool === "remove" ? "stop_instances" : tool, {
              names: [target.name],
              ...(tool === "remove" && { remove: true }),
              ...(tool === "pause_instances" && until !== undefined && { until }),
            })
            if (answer.batch) batches.push(answer.batch)
            // Who may pause it anew, as whoever paused it may, also says anew until when.
            if (answer.changed === 1 && tool === "pause_instances")
              stands = stands.filter((act) => act.on !== target.name || act.tool !== tool)
            if (answer.changed === 1 && (tool === "pause_instances" || tool === "stop_instances"))
              stands.push({
                tool,
                on: target.name,
                by: level,
                untilMs:
                  fleet.specOf(target.name)?.state === "Paused"
                    ? (fleet.specOf(target.name)?.pause?.untilMs ?? Infinity)
                    : Infinity,
              })
          }
          for (const one of all) {
            const now = fleet.byName.get(one.name)
            const upon = stands.filter((act) => act.on === one.name && act.untilMs > nowMs)
            const reach = levelOf(caller ? all.indexOf(caller) : -1, one)
            const isAbove = upon.some((act) => act.by < reach)
            const goesOn =
              now?.deletedAtMs !== undefined || (now && desiredState(now.spec, nowMs) === "Running")
            if (caller && isAbove) expect([one.name, tool, goesOn]).toEqual([one.name, tool, false])
            // Lifted, by somebody who may.
            if (goesOn) for (const act of upon) stands.splice(stands.indexOf(act), 1)
          }
        }
      }),
      { numRuns: 300 },
    )
  })
})
