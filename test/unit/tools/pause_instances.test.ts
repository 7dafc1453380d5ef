import { describe, expect, it } from "vitest"
import { Fault } from "../../../src/core/faults.ts"
import { tools } from "../../../tools/index.ts"
import { expectFault } from "../../contract/expect-fault.ts"
import { makeFleet, operator, type Result } from "../fleet.ts"
import { messagesOf, namesOf, snapshot } from "./fleet-facts.ts"

describe("pause_instances", () => {
  it("pauses, tells the timeline, and gives one batch that resumes exactly those", async () => {
    const fleet = makeFleet()
    for (const name of ["a", "b", "c"]) fleet.running(name)
    await fleet.call(operator)("pause_instances", { names: ["c"], note: "broken" })
    const night = await fleet.call(operator)("pause_instances", {
      all: true,
      expect: 3,
      when: "iteration-end",
    })
    expect(night).toMatchObject({
      count: 3,
      changed: 2,
      next: `resume_instances {"batch":"${night.batch}"} resumes them.`,
    })
    expect(night.instances.find(({ name }: { name: string }) => name === "c")).toMatchObject({
      changed: false,
      why: expect.stringContaining("already paused, in batch"),
    })
    expect(fleet.specOf("a")).toMatchObject({
      state: "Paused",
      pause: { when: "iteration-end", batch: night.batch },
    })
    expect(fleet.specOf("c")?.pause).toMatchObject({ when: "now", note: "broken" })
    const morning = await fleet.call(operator)("resume_instances", { batch: night.batch })
    expect(namesOf(morning).sort()).toEqual(["a", "b"])
    expect(["a", "b", "c"].map((name) => fleet.specOf(name)?.state)).toEqual([
      "Running",
      "Running",
      "Paused",
    ])
    expect(fleet.specOf("a")).toMatchObject({ attempt: 1 })
    expect(fleet.specOf("a")).not.toHaveProperty("pause")
    expect(messagesOf(fleet, "Changed").at(-1)).toBe("Resumed by operator ann.")
    expect(fleet.audits.at(-1)?.targets.toSorted()).toEqual(["a", "b"])
    expect((await fleet.call(operator)("resume_instances", { batch: night.batch })).next).toContain(
      "No instance is paused in this batch",
    )
  })

  it("changes what is paused already only where the call says otherwise, and wakes nothing by it", async () => {
    const fleet = makeFleet()
    fleet.running("a")
    const pause = async (more: object): Promise<Result> =>
      fleet.call(operator)("pause_instances", { names: ["a"], ...more })
    const first = (await pause({ when: "iteration-end", until: "8h", note: "x" })).batch
    const by = { by: { id: "ann", role: "operator" }, atMs: fleet.clock.nowMs() }
    expect(fleet.specOf("a")?.pause).toEqual({
      ...by,
      when: "iteration-end",
      note: "x",
      batch: first,
      untilMs: fleet.clock.nowMs() + 8 * 3_600_000,
    })
    expect(await pause({ when: "iteration-end", note: "x" })).toMatchObject({
      changed: 0,
      next: expect.stringContaining("Nothing had to be changed"),
    })
    expect(await pause({ when: "now" })).toMatchObject({ changed: 1 })
    expect(await pause({ when: "iteration-end" })).toMatchObject({ changed: 0 })
    const second = (await pause({ until: "2026-01-02T07:00:00Z" })).batch
    expect(fleet.specOf("a")?.pause).toEqual({
      ...by,
      when: "now",
      note: "x",
      batch: second,
      untilMs: Date.UTC(2026, 0, 2, 7),
    })
    expect(second).not.toBe(first)
    expect(fleet.memory.events).toHaveLength(3)
  })

  it("leaves alone what has nothing to pause", async () => {
    const fleet = makeFleet()
    fleet.add("stopped", { state: "Stopped" })
    fleet.ended("done", { lastExit: { code: 0, atMs: 0, outcome: "Complete" } })
    fleet.put({ ...fleet.add("leaving"), deletedAtMs: 1 })
    const { changed, instances } = await fleet.call(operator)("pause_instances", {
      project: "shop",
    })
    expect(changed).toBe(0)
    expect(instances.map(({ why }: { why: string }) => why)).toEqual([
      "It is stopped, so there is nothing to pause.",
      "Its loop has finished, so there is nothing to pause.",
      "It is being removed.",
    ])
  })

  it.each(["pause_instances", "resume_instances", "stop_instances"])(
    "%s refuses another number than expected",
    async (tool) => {
      const fleet = makeFleet()
      fleet.running("a")
      fleet.add("b", { state: "Paused" })
      const before = snapshot(fleet)
      if (tool !== "pause_instances")
        await expectFault(fleet.call(operator)(tool, { all: true }), "Invalid", /2 instances now/)
      await expectFault(
        fleet.call(operator)(tool, { all: true, expect: 3 }),
        "Conflict",
        /^2 instances match now, not 3/,
      )
      await expectFault(
        fleet.call(operator)(tool, { project: "shop", expect: 1 }),
        "Conflict",
        /not 1/,
      )
      const dry = await fleet.call(operator)(tool, { all: true, dryRun: true })
      expect(dry).toMatchObject({ count: 2, next: expect.stringContaining('"expect":2') })
      expect(dry.changed).toBeGreaterThan(0)
      expect(dry).toMatchObject({ dryRun: true })
      expect(tools.find(({ name }) => name === tool)?.show(dry).text).toMatch(
        /^\d of 2 instances would be (paused|resumed|stopped)\./,
      )
      expect(dry).not.toHaveProperty("batch")
      expect(snapshot(fleet)).toBe(before)
      await fleet.call(operator)(tool, { all: true, expect: 2 })
      expect(snapshot(fleet)).not.toBe(before)
    },
  )

  it("pauses everything at once without a count: it is the emergency brake", async () => {
    const fleet = makeFleet()
    for (const name of ["a", "b", "c"]) fleet.running(name)
    const { changed, batch } = await fleet.call(operator)("pause_instances", { all: true })
    expect(changed).toBe(3)
    expect([...fleet.byName.values()].map(({ spec }) => spec.state)).toEqual([
      "Paused",
      "Paused",
      "Paused",
    ])
    // What it did is undone by its batch, without a count either.
    expect(await fleet.call(operator)("resume_instances", { batch })).toMatchObject({ changed: 3 })
  })

  it("reads again and repeats at a conflict, deciding anew each time, five times at most", async () => {
    const fleet = makeFleet()
    fleet.running("a")
    const meddle = (times: number, change: () => void): void => {
      fleet.storeHooks.beforeWrite = () => {
        if (times-- > 0) change()
      }
    }
    const touch = (): void => {
      const now = fleet.byName.get("a")
      if (now) fleet.put({ ...now, spec: { ...now.spec, priority: now.spec.priority + 1 } })
    }
    meddle(5, touch)
    expect(await fleet.call(operator)("pause_instances", { names: ["a"] })).toMatchObject({
      changed: 1,
    })
    expect(fleet.specOf("a")).toMatchObject({ state: "Paused", priority: 5 })
    meddle(6, touch)
    await expectFault(
      fleet.call(operator)("resume_instances", { names: ["a"] }),
      "Conflict",
      /changed meanwhile/,
    )
    expect(fleet.specOf("a")).toMatchObject({ state: "Paused", priority: 11 })
    meddle(1, () => {
      const now = fleet.byName.get("a")
      if (now) fleet.put({ ...now, spec: { ...now.spec, state: "Stopped" } })
    })
    expect((await fleet.call(operator)("stop_instances", { names: ["a"] })).instances).toEqual([
      { name: "a", changed: false, phase: "Stopping", why: "It was already told to stop." },
    ])
    fleet.running("b")
    meddle(1, () => fleet.byName.set("b", fleet.add("b2")))
    expect((await fleet.call(operator)("pause_instances", { names: ["b"] })).instances[0].why).toBe(
      "It was removed meanwhile.",
    )
  })

  it("goes on with the others when one cannot be changed, and fails when none can", async () => {
    const fleet = makeFleet()
    for (const name of ["a", "b"]) fleet.running(name)
    const failing = new Fault("Unavailable", "The store is away.", "Try again.")
    fleet.storeHooks.failWrite = (name) => (name === "a" ? failing : undefined)
    const { changed, instances } = await fleet.call(operator)("pause_instances", {
      all: true,
      expect: 2,
    })
    expect([changed, instances[0]]).toEqual([
      1,
      {
        name: "a",
        changed: false,
        phase: "Running",
        why: "Not changed: The store is away. Try again.",
      },
    ])
    await expectFault(fleet.call(operator)("pause_instances", { names: ["a"] }), "Unavailable")
  })

  it("stands although the timeline cannot be told", async () => {
    const fleet = makeFleet()
    fleet.running("a")
    fleet.memory.hooks.silent = true
    expect(await fleet.call(operator)("pause_instances", { names: ["a"] })).toMatchObject({
      changed: 1,
    })
    expect(fleet.audits.at(-1)).toEqual({
      ...{ who: "operator ann", tool: "pause_instances", targets: ["a"], code: undefined },
      made: [expect.stringMatching(/^b-\d+$/)],
    })
    const sent = await fleet.call(operator)("message_instances", {
      to: ["a"],
      text: "x",
      waitSeconds: 0,
    })
    expect(sent.receipts).toMatchObject([{ to: "a", state: "queued" }])
  })

  it("resumes by batch only what is still paused", async () => {
    const fleet = makeFleet()
    for (const name of ["a", "b"]) fleet.running(name)
    const { batch } = await fleet.call(operator)("pause_instances", { names: ["a", "b"] })
    await fleet.call(operator)("stop_instances", { names: ["a"] })
    expect(namesOf(await fleet.call(operator)("resume_instances", { batch }))).toEqual(["b"])
    expect(fleet.specOf("a")?.state).toBe("Stopped")
  })

  it("reports 200 of many, and stops when the caller is gone", async () => {
    const fleet = makeFleet()
    for (let count = 0; count < 201; count++) fleet.add(`a-${count}`)
    const all = await fleet.call(operator)("pause_instances", { all: true, expect: 201 })
    expect([all.count, all.changed, all.instances.length]).toEqual([201, 201, 200])
    expect(all.next).toContain("first 200 of 201")
    expect(fleet.progress.at(-1)).toBe("201 of 201 instances")
    const gone = fleet.call(operator, AbortSignal.abort())
    await expectFault(
      gone("resume_instances", { all: true, expect: 201 }),
      "Unavailable",
      /after 0 of 201/,
    )
    expect(fleet.specOf("a-0")?.state).toBe("Paused")
  })
})
