import { describe, expect, it } from "vitest"
import { cronWindows } from "../../src/adapters/cron/windows.ts"
import type { Beat, Last } from "../../src/core/beat.ts"
import { indexOf } from "../../src/core/fleet-index.ts"
import { holds } from "../../src/core/holds.ts"
import type { Admission, Instance } from "../../src/core/instance.ts"
import { plan } from "../../src/core/plan.ts"
import { answerMs, type Parked, type Question, type Wait } from "../../src/core/waits.ts"
import { aBeat, anInstance, aRun, startMs, uid } from "../contract/harness.ts"

const nowMs = startMs

const { at: windows } = cronWindows()
const admitted: Admission = {
  verdict: "Admitted",
  reason: "Admitted",
  message: "Admitted.",
  term: 1,
}
type More = NonNullable<Parameters<typeof anInstance>[1]>
const live = (name: string, more: More = {}): Instance =>
  anInstance(name, { status: { admission: admitted, run: aRun() }, ...more })
const last = (more: Partial<Last> = {}): Last => ({
  turn: "t0",
  iteration: 3,
  outcome: "NONE",
  text: "",
  atMs: nowMs - 1000,
  ...more,
})
const wanted = { turn: { id: "t1", state: "Wanted" as const, sinceMs: nowMs } }
const question = (more: Partial<Question> = {}): Question => ({
  ...{
    kind: "answer",
    mail: "m-1",
    text: "Stripe or Adyen?",
    turn: "t0",
    sinceMs: nowMs - 2000,
    untilMs: nowMs + answerMs,
  },
  ...more,
})
const parked = (more: Partial<Parked> = {}): Parked => ({
  ...{
    kind: "instances",
    targets: [{ uid: uid("u-b"), name: "b" }],
    until: "finished",
    mode: "all",
  },
  ...{ turn: "t0", sinceMs: nowMs - 1000, untilMs: nowMs + 60_000 },
  ...more,
})

/** Why "a" is withheld its turn, or that it is granted. */
function ofA(
  beat: Partial<Beat>,
  waits: readonly Wait[] = [],
  others: readonly Instance[] = [],
  a: Instance = live("a"),
  policy: { readonly afterRateLimit?: "continue" | "hold" } = {},
): string {
  const { admit, grant } = plan(
    {
      policy: { instancesMax: 10, turnsMax: 2, ...policy },
      fleet: indexOf([a, ...others]),
      beats: new Map([[a.uid, aBeat({ ...wanted, ...beat })]]),
      turns: new Map(),
      spent: new Map(),
      windows,
      waits: new Map([[a.uid, waits]]),
    },
    holds,
    nowMs,
  )
  const verdict = admit.find(({ instance }) => instance.uid === a.uid)?.value
  return grant.some((turn) => turn.uid === a.uid) ? "granted" : (verdict?.reason ?? "not granted")
}
const done = (name: string): Instance =>
  anInstance(name, {
    status: { run: aRun({ phase: "Exited", lastExit: { code: 0, atMs: 1, outcome: "Complete" } }) },
  })

describe("an iteration that ended as blocked", () => {
  const blocked = { last: last({ outcome: "BLOCKED" }) }
  it.each<[string, Partial<Beat>, string]>([
    ["is followed by none", {}, "Blocked"],
    ["until mail comes", { news: "mail" }, "granted"],
    ["until a person says something, or changes the goal", { news: "instruction" }, "granted"],
    [
      "until half an hour is over",
      { last: last({ outcome: "BLOCKED", atMs: nowMs - answerMs }) },
      "granted",
    ],
    [
      "one moment before that it still holds",
      { last: last({ outcome: "BLOCKED", atMs: nowMs - answerMs + 1 }) },
      "Blocked",
    ],
    ["a partial one holds nobody", { last: last({ outcome: "PARTIAL" }) }, "granted"],
  ])("%s", (_name, beat, verdict) => {
    expect(ofA({ ...blocked, ...beat })).toBe(verdict)
  })

  it("says nothing any more when a resume wants a new attempt, nor when nothing of it lives", () => {
    const again = live("a", { spec: { attempt: 2 } })
    expect(ofA(blocked, [], [], again)).toBe("granted")
    const exited = live("a", {
      status: {
        admission: { ...admitted, verdict: "Held", reason: "Blocked" },
        run: aRun({ phase: "Exited" }),
      },
    })
    expect(ofA(blocked, [], [], exited)).toBe("Admitted")
  })

  it("says nothing about the iteration after it, once that runs: a pause in it ends as ever", () => {
    const frozen = {
      ...blocked,
      frozen: true,
      turn: { id: "t1", state: "Running" as const, sinceMs: nowMs },
    }
    expect(ofA(frozen)).toBe("granted")
  })
})

describe("a limit of the model", () => {
  const limit = (untilMs: number): Partial<Beat> => ({
    hold: { reason: "RateLimited", message: "The limit.", untilMs },
  })
  const service: Partial<Beat> = {
    hold: { reason: "ServiceUnavailable", message: "It failed.", untilMs: nowMs },
  }
  it.each<[string, Partial<Beat>, "continue" | "hold", string]>([
    ["withholds the next turn until its end", limit(nowMs + 1), "continue", "RateLimited"],
    ["is over by itself then", limit(nowMs), "continue", "granted"],
    [
      "lasts until somebody resumes it where the policy says so",
      limit(nowMs),
      "hold",
      "RateLimited",
    ],
    ["is all that the policy means: a failing service passes", service, "hold", "granted"],
  ])("%s", (_name, beat, afterRateLimit, verdict) => {
    expect(ofA(beat, [], [], live("a"), { afterRateLimit })).toBe(verdict)
  })

  it("is over for a new attempt, as a resume wants it", () => {
    expect(
      ofA(limit(nowMs), [], [], live("a", { spec: { attempt: 2 } }), { afterRateLimit: "hold" }),
    ).toBe("granted")
  })
})

describe("a question to people", () => {
  it.each<[string, Partial<Beat>, Partial<Question>, string]>([
    ["withholds the next turn", { last: last() }, {}, "NeedsAnswer"],
    ["until anything is said to it", { last: last(), news: "mail" }, {}, "granted"],
    ["until its time is over", { last: last() }, { untilMs: nowMs }, "granted"],
    ["not the turn after the next", { last: last({ turn: "t-later" }) }, {}, "granted"],
    [
      "not the iteration in which it was asked",
      { last: last({ turn: "t-earlier" }) },
      {},
      "granted",
    ],
  ])("%s", (_name, beat, more, verdict) => {
    expect(ofA(beat, [question(more)])).toBe(verdict)
  })
})

describe("a parked wait", () => {
  const b = live("b")
  const stopped = live("b", { spec: { state: "Stopped" } })
  const removed = live("b", { deletedAtMs: 1 })
  it.each<[string, readonly Instance[], Partial<Parked>, Partial<Beat>, string]>([
    ["holds while the other runs", [b], {}, {}, "AwaitingInstances"],
    ["ends when it is through", [done("b")], {}, {}, "granted"],
    ["ends when it was stopped", [stopped], {}, {}, "granted"],
    ["ends when it is being removed", [removed], {}, {}, "granted"],
    ["ends when it is gone", [], {}, {}, "granted"],
    ["all: holds while one is not through", [done("b"), live("c")], two(), {}, "AwaitingInstances"],
    ["any: ends with the first", [done("b"), live("c")], { ...two(), mode: "any" }, {}, "granted"],
    ["ends when a person says something", [b], {}, { news: "instruction" }, "granted"],
    ["goes on when others write", [b], {}, { news: "mail" }, "AwaitingInstances"],
    ["for an answer: any mail may be it", [b], { until: "answer" }, { news: "mail" }, "granted"],
    ["ends with its time", [b], { untilMs: nowMs }, {}, "granted"],
    ["an earlier turn's says nothing", [b], { turn: "t-old" }, {}, "granted"],
  ])("%s", (_name, others, more, beat, verdict) => {
    expect(ofA({ last: last(), ...beat }, [parked(more)], others)).toBe(verdict)
  })

  it("takes no place from whom it waits for", () => {
    const a = live("a")
    const waiting = anInstance("b", { spec: { lineage: [a.uid] } })
    const { admit } = plan(
      {
        policy: { instancesMax: 1, turnsMax: 1 },
        fleet: indexOf([a, waiting]),
        beats: new Map([[a.uid, aBeat({ ...wanted, last: last() })]]),
        turns: new Map(),
        spent: new Map(),
        windows,
        waits: new Map([[a.uid, [parked()]]]),
      },
      holds,
      nowMs,
    )
    expect(admit.map(({ instance, value }) => [instance.name, value.reason])).toEqual([
      ["a", "AwaitingInstances"],
      ["b", "Admitted"],
    ])
  })
})

function two(): Partial<Parked> {
  return {
    targets: [
      { uid: uid("u-b"), name: "b" },
      { uid: uid("u-c"), name: "c" },
    ],
  }
}

describe("a child", () => {
  const child = (parent: string): Instance => live("a", { spec: { lineage: [uid(`u-${parent}`)] } })
  const failed = (name: string): Instance =>
    anInstance(name, {
      status: { run: aRun({ phase: "Exited", lastExit: { code: 1, atMs: 1, outcome: "Failed" } }) },
    })
  it.each<[string, readonly Instance[], string]>([
    ["goes on beside its parent", [live("p")], "granted"],
    ["goes on while its parent is paused", [live("p", { spec: { state: "Paused" } })], "granted"],
    ["goes on when its parent is through", [done("p")], "granted"],
    [
      "is held when its parent was stopped",
      [live("p", { spec: { state: "Stopped" } })],
      "ParentStopped",
    ],
    ["is held when its parent failed", [failed("p")], "ParentStopped"],
    ["is held when its parent was removed", [], "ParentStopped"],
  ])("%s", (_name, others, verdict) => {
    expect(ofA({}, [], others, child("p"))).toBe(verdict)
  })
})

describe("a schedule", () => {
  const inWindow = (cron: string, minutes: number): string =>
    ofA({}, [], [], live("a", { spec: { schedule: { cron, minutes, timezone: "UTC" } } }))
  const { at } = cronWindows()
  const nightly = { cron: "0 22 * * 1-5", minutes: 480, timezone: "Europe/Berlin" }
  const iso = (text: string): number => Date.parse(text)

  it.each([
    [
      "before it opens",
      "2026-11-23T20:59:59Z",
      { open: false, untilMs: iso("2026-11-23T21:00:00Z") },
    ],
    ["when it opens", "2026-11-23T21:00:00Z", { open: true, untilMs: iso("2026-11-24T05:00:00Z") }],
    [
      "while it is open",
      "2026-11-24T04:59:59Z",
      { open: true, untilMs: iso("2026-11-24T05:00:00Z") },
    ],
    [
      "when it closes",
      "2026-11-24T05:00:00Z",
      { open: false, untilMs: iso("2026-11-24T21:00:00Z") },
    ],
    [
      "over the weekend",
      "2026-11-28T12:00:00Z",
      { open: false, untilMs: iso("2026-11-30T21:00:00Z") },
    ],
  ])("%s", (_name, now, window) => {
    expect(at(nightly, iso(now))).toEqual(window)
  })

  it("withholds the next iteration outside its windows, and grants it inside", () => {
    expect(inWindow("* * * * *", 1)).toBe("granted")
    expect(inWindow("0 0 30 2 *", 1)).toBe("OutsideWindow") // never
  })

  it.each([{ cron: "every night" }, { cron: "* * * * * *" }, { timezone: "Mars/Base" }])(
    "is refused where it is none: %j",
    (wrong) => {
      expect(() => cronWindows().check({ ...nightly, ...wrong })).toThrow(/Invalid schedule/)
    },
  )
})
