import { describe, expect, it } from "vitest"
import { backoffMs, type Decision, decide } from "../../src/core/decide.ts"
import type { Admission, Exit, Instance, Run } from "../../src/core/instance.ts"
import { ranNoClaude } from "../../src/core/loop.ts"
import type { Observed } from "../../src/core/ports.ts"
import { revisionOf } from "../../src/core/revision.ts"
import { anInstance, aRun, aSpec, startMs, uid } from "../contract/harness.ts"

const nowMs = startMs
const revision = revisionOf(aSpec())
const admission: Admission = {
  verdict: "Admitted",
  reason: "Admitted",
  message: "Admitted.",
  term: 1,
}
const queued: Admission = { ...admission, verdict: "Queued", reason: "FleetFull" }
const heldBack: Admission = { ...admission, verdict: "Held", reason: "RateLimited" }

type More = NonNullable<Parameters<typeof anInstance>[1]>
const wanted = (more: More = {}): Instance => anInstance("shop", { status: { admission }, ...more })
const run = (more: Partial<Run> = {}): Run => aRun({ revision, startedAtMs: nowMs - 5000, ...more })
const withRun = (more: Partial<Run> = {}, of: Admission = admission): Pick<Instance, "status"> => ({
  status: { admission: of, run: run(more) },
})
const observed = (more: Partial<Observed> = {}): Observed => ({
  uid: uid("u-shop"),
  number: 1,
  place: "p1",
  revision,
  phase: "Running",
  startedAtMs: nowMs - 5000,
  ...more,
})
const exit = (more: Partial<Exit> = {}): Exit => ({ code: 1, atMs: nowMs, ...more })
const exited = (of: Partial<Exit> = {}, more: Partial<Observed> = {}): Observed =>
  observed({ phase: "Exited", exit: exit(of), ...more })

describe("decide", () => {
  it.each<[string, Instance | undefined, Observed | undefined, Decision["act"]]>([
    ["nothing wanted, nothing there", undefined, undefined, undefined],
    ["nothing wanted, something runs", undefined, observed(), "stop"],
    ["nothing wanted, something ended", undefined, exited(), "clean"],
    ["admitted, nothing there", wanted(), undefined, "start"],
    ["not seen by the scheduler yet", anInstance("shop"), undefined, undefined],
    ["queued, nothing there", wanted({ status: { admission: queued } }), undefined, undefined],
    ["held, nothing there", wanted({ status: { admission: heldBack } }), undefined, undefined],
    ["runs as wanted", wanted(withRun()), observed(), undefined],
    ["still pending", wanted(withRun()), observed({ phase: "Pending" }), undefined],
    [
      "paused keeps its place",
      wanted({ ...withRun(), spec: { state: "Paused" } }),
      observed(),
      undefined,
    ],
    ["held keeps its place", wanted(withRun({}, heldBack)), observed(), undefined],
    ["queued loses it", wanted(withRun({}, queued)), observed(), "stop"],
    ["stopped", wanted({ ...withRun(), spec: { state: "Stopped" } }), observed(), "stop"],
    [
      "stopped, and ending already",
      wanted({ ...withRun(), spec: { state: "Stopped" } }),
      observed({ phase: "Stopping" }),
      undefined,
    ],
    ["paused, nothing there", wanted({ spec: { state: "Paused" } }), undefined, undefined],
    [
      "a pause that has elapsed",
      wanted({ spec: { state: "Paused", pause: { when: "now", untilMs: nowMs } } }),
      undefined,
      "start",
    ],
    [
      "a pause that has not",
      wanted({ spec: { state: "Paused", pause: { when: "now", untilMs: nowMs + 1 } } }),
      undefined,
      undefined,
    ],
    [
      "another revision runs",
      wanted(withRun({ revision: "1-old" })),
      observed({ revision: "1-old" }),
      "stop",
    ],
    [
      "another revision ended",
      wanted(withRun({ revision: "1-old" })),
      exited({}, { revision: "1-old" }),
      "start",
    ],
    ["deleted while it runs", wanted({ ...withRun(), deletedAtMs: 1 }), observed(), "stop"],
    ["deleted and ended", wanted({ ...withRun(), deletedAtMs: 1 }), exited(), "release"],
    ["deleted before it began", wanted({ deletedAtMs: 1 }), undefined, "release"],
    [
      "a name used again: the former bearer runs",
      wanted(),
      observed({ uid: uid("former") }),
      "stop",
    ],
    [
      "a name used again: the former bearer ended",
      wanted(),
      exited({}, { uid: uid("former") }),
      "start",
    ],
    [
      "a name used again, and deleted again",
      wanted({ deletedAtMs: 1 }),
      exited({}, { uid: uid("former") }),
      "release",
    ],
    ["complete", wanted(withRun()), exited({ outcome: "Complete", code: 0 }), undefined],
    ["failed by the loop's own word", wanted(withRun()), exited({ outcome: "Failed" }), undefined],
    [
      "complete, known from the store alone",
      wanted(withRun({ phase: "Exited", lastExit: exit({ outcome: "Complete" }) })),
      undefined,
      undefined,
    ],
  ])("%s", (_name, instance, seen, act) => {
    expect(decide(instance, revision, seen, nowMs).act).toBe(act)
  })

  it("starts afresh what is complete when its attempt was raised", () => {
    const spec = aSpec({ attempt: 2 })
    const seen = exited({ outcome: "Complete" })
    expect(decide(wanted({ ...withRun(), spec }), revisionOf(spec), seen, nowMs)).toMatchObject({
      act: "start",
      run: { restarts: 0 },
    })
  })

  it("does not take the exit of a former bearer of the name for its own", () => {
    expect(
      decide(wanted(), revision, exited({ outcome: "Complete" }, { uid: uid("former") }), nowMs)
        .run,
    ).toBeUndefined()
  })

  it("writes what was observed, with the problem, and without that of an earlier run", () => {
    const problem = { reason: "NoClaude", message: "There is no claude." }
    const seen = observed({ place: "p2", phase: "Pending", problem })
    const before = wanted(
      withRun({ restarts: 2, lastExit: exit(), problem: { reason: "Old", message: "Old." } }),
    )
    expect(decide(before, revision, seen, nowMs).run).toEqual({
      phase: "Pending",
      revision,
      place: "p2",
      number: 1,
      startedAtMs: nowMs - 5000,
      restarts: 2,
      problem,
    })
  })

  it.each([
    ["the first failure waits a second", 0, 0, 1000],
    ["each further one twice as long", 3, 0, 8000],
    ["five minutes at most", 30, 0, 300_000],
    ["part of it is over", 3, 5000, 3000],
    ["the clock was set back: never longer than the back-off", 3, -3_600_000, 8000],
  ])("backs off: %s", (_name, restarts, sinceExitMs, afterMs) => {
    const seen = exited({ atMs: nowMs - sinceExitMs }, { startedAtMs: nowMs - sinceExitMs - 100 })
    const decision = decide(wanted(withRun({ restarts })), revision, seen, nowMs)
    expect(decision).toMatchObject({ afterMs, run: { restarts } })
    expect(decision.act).toBeUndefined()
  })

  it("starts again and counts it when the back-off is over", () => {
    const seen = exited({ atMs: nowMs - 8000 })
    expect(decide(wanted(withRun({ restarts: 3 })), revision, seen, nowMs)).toMatchObject({
      act: "start",
      run: { restarts: 4 },
    })
  })

  it("starts a loop again at once that ended by itself, and counts it only when it ran no claude", () => {
    const seen = exited({ code: 0, atMs: nowMs - 1000 })
    expect(decide(wanted(withRun({ restarts: 3 })), revision, seen, nowMs)).toMatchObject({
      act: "start",
      run: { restarts: 0 },
    })
    const ranNone = { ...seen, problem: { reason: ranNoClaude, message: "Ran none." } }
    expect(decide(wanted(withRun({ restarts: 0 })), revision, ranNone, nowMs)).toMatchObject({
      act: "start",
      run: { restarts: 1 },
    })
    expect(decide(wanted(withRun({ restarts: 3 })), revision, ranNone, nowMs)).toMatchObject({
      afterMs: 7000,
    })
  })

  it("counts from the start after a run that lived long", () => {
    const seen = exited({ atMs: nowMs - 1000 }, { startedAtMs: nowMs - 1000 - 600_001 })
    expect(decide(wanted(withRun({ restarts: 9 })), revision, seen, nowMs)).toMatchObject({
      act: "start",
      run: { restarts: 1 },
    })
  })

  it("counts no failures of another revision", () => {
    const seen = exited({}, { revision: "1-old" })
    expect(
      decide(wanted(withRun({ revision: revision, restarts: 9 })), revision, seen, nowMs).run
        ?.restarts,
    ).toBe(0)
  })

  it("the back-off grows, and is bounded", () => {
    const waits = [0, 1, 2, 8, 9, 1000].map(backoffMs)
    expect(waits).toEqual([1000, 2000, 4000, 256_000, 300_000, 300_000])
  })
})
