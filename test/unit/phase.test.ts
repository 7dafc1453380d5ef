import { describe, expect, it } from "vitest"
import { type Beat, silentMs } from "../../src/core/beat.ts"
import type { Admission, Instance, Run } from "../../src/core/instance.ts"
import { ranNoClaude } from "../../src/core/loop.ts"
import { type PhaseContext, phaseOf } from "../../src/core/phase.ts"
import { type Phase, phases } from "../../src/core/phase-report.ts"
import { createHints } from "../../src/roles/hints.ts"
import { tools } from "../../tools/index.ts"
import { aBeat, anInstance, aRun, startMs } from "../contract/harness.ts"

const hints = createHints(tools, "blackbox5")
const nowMs = startMs + 100_000
const admitted: Admission = {
  verdict: "Admitted",
  reason: "Admitted",
  message: "Admitted.",
  term: 1,
}
const queued: Admission = {
  ...admitted,
  verdict: "Queued",
  reason: "FleetFull",
  message: "All 5 places of the fleet are taken.",
}
const held = (more: Partial<Admission>): Admission => ({
  ...admitted,
  verdict: "Held",
  message: "The reason.",
  ...more,
})

type More = NonNullable<Parameters<typeof anInstance>[1]>
const shop = (run?: Partial<Run>, more: More = {}, admission: Admission = admitted): Instance =>
  anInstance("shop", { status: { admission, ...(run && { run: aRun(run) }) }, ...more })
const beat = (more: Partial<Beat> = {}): Beat => aBeat({ atMs: nowMs - 1000, ...more })
const seen = (instance: Instance, latest?: Beat, more: Partial<PhaseContext> = {}) =>
  phaseOf(instance, { beat: latest, turns: { used: 2, max: 3 }, iterations: 7, nowMs, ...more })
const exit = (code: number, outcome?: "Complete" | "Failed"): Partial<Run> => ({
  phase: "Exited",
  lastExit: { code, atMs: nowMs - 60_000, ...(outcome && { outcome }) },
})
const ranNone = { reason: ranNoClaude, message: "Ran none." }
const reports = (reason: NonNullable<Beat["hold"]>["reason"]): Beat =>
  beat({ hold: { reason, message: "Claude's words." } })
const wanted = { turn: { id: "t", state: "Wanted" as const, sinceMs: nowMs - 20_000 } }
const running = { turn: { id: "t", state: "Running" as const, sinceMs: nowMs - 20_000 } }
const paused = (pause: Partial<NonNullable<Instance["spec"]["pause"]>> = {}): More => ({
  spec: { state: "Paused", pause: { when: "now", ...pause } },
})

const cases: [string, Phase, RegExp, Instance, Beat?][] = [
  ["not seen by the scheduler yet", "Starting", /being started/, anInstance("shop")],
  ["admitted", "Starting", /being started/, shop()],
  ["queued", "Queued", /All 5 places/, shop(undefined, {}, queued)],
  ["its supervisor prepares", "Starting", /preparing/, shop({ phase: "Pending" })],
  ["no beat yet", "Unknown", /has not reported yet/, shop({})],
  [
    "a beat of its former place says nothing",
    "Unknown",
    /has not reported yet/,
    shop({}),
    beat({ place: "p0" }),
  ],
  [
    "silent",
    "Unknown",
    /has not reported for 15 s/,
    shop({}),
    beat({ atMs: nowMs - silentMs - 1 }),
  ],
  ["not silent yet", "Running", /Between/, shop({}), beat({ atMs: nowMs - silentMs })],
  ["waits for a turn", "Waiting", /Waiting 20 s for a turn: 2 of 3/, shop({}), beat(wanted)],
  [
    "stands still without a turn",
    "Waiting",
    /is frozen until one of 3/,
    shop({}),
    beat({ ...running, frozen: true }),
  ],
  ["in an iteration", "Running", /In iteration 8 for 20 s\.$/, shop({}), beat(running)],
  [
    "uses a tool",
    "Running",
    /for 20 s; in a tool call for 5 s\.$/,
    shop({}),
    beat({ ...running, activity: { tool: "Bash", summary: "npm\ntest", sinceMs: nowMs - 5000 } }),
  ],
  ["between iterations", "Running", /^Between iterations; 7 done\.$/, shop({}), beat()],
  [
    "after a failure",
    "Running",
    /the last one failed/,
    shop({}),
    beat({ last: { turn: "t1", iteration: 7, outcome: "FAILED", text: "", atMs: 0 } }),
  ],
  [
    "paused, confirmed",
    "Paused",
    /: all its processes are frozen/,
    shop({}, paused()),
    beat({ ...running, frozen: true }),
  ],
  ["paused, not confirmed", "Paused", /not confirmed/, shop({}, paused()), beat(running)],
  [
    "paused, nothing runs",
    "Paused",
    /no process of it is running/,
    shop(undefined, paused({ note: "lunch" })),
  ],
  [
    "paused with a note",
    "Paused",
    /^Paused; no process of it is running\.$/,
    shop(undefined, paused({ note: "lunch" })),
  ],
  [
    "to be paused",
    "Paused",
    /when iteration 8, which is running, ends/,
    shop({}, paused({ when: "iteration-end" })),
    beat(running),
  ],
  [
    "paused for a time",
    "Paused",
    /resumes by itself in 40 s/,
    shop(undefined, paused({ untilMs: nowMs + 40_000 })),
  ],
  ["a pause that has elapsed", "Running", /Between/, shop({}, paused({ untilMs: nowMs })), beat()],
  [
    "out of money",
    "BudgetReached",
    /The reason/,
    shop({}, {}, held({ reason: "BudgetReached" })),
    beat({ frozen: true }),
  ],
  [
    "rate-limited",
    "RateLimited",
    /limit is reached\. It continues in 30 s/,
    shop({}, {}, held({ reason: "RateLimited", untilMs: nowMs + 30_000 })),
    reports("RateLimited"),
  ],
  [
    "rate-limited where the policy wants a person's word",
    "Held",
    /limit is reached\..*afterRateLimit: hold/,
    shop({}, {}, held({ reason: "RateLimited" })),
    reports("RateLimited"),
  ],
  [
    "its account cannot pay",
    "Held",
    /account cannot pay.* in 30 s/,
    shop({}, {}, held({ reason: "AccountProblem", untilMs: nowMs + 30_000 })),
    reports("AccountProblem"),
  ],
  [
    "without claude",
    "Held",
    /claude is missing/,
    shop({}, {}, held({ reason: "ClaudeMissing", untilMs: nowMs + 30_000 })),
    reports("ClaudeMissing"),
  ],
  [
    "the service fails",
    "Waiting",
    /service is failing.* in 30 s/,
    shop({}, {}, held({ reason: "ServiceUnavailable", untilMs: nowMs + 30_000 })),
    reports("ServiceUnavailable"),
  ],
  [
    "logged out",
    "Held",
    /rejected the login/,
    shop({}, {}, held({ reason: "LoginRequired" })),
    reports("LoginRequired"),
  ],
  [
    "without its hooks",
    "Held",
    /called none of its hooks/,
    shop({}, {}, held({ reason: "Uncontrolled" })),
    reports("Uncontrolled"),
  ],
  [
    "gets nowhere",
    "Held",
    /kept failing in the same way/,
    shop({}, {}, held({ reason: "CircuitOpen" })),
    reports("CircuitOpen"),
  ],
  [
    "blocked",
    "Blocked",
    /status BLOCKED.* in 30 s/,
    shop({}, {}, held({ reason: "Blocked", untilMs: nowMs + 30_000 })),
    beat({ last: { turn: "t1", iteration: 7, outcome: "BLOCKED", text: "No key.", atMs: 0 } }),
  ],
  [
    "wants an answer",
    "NeedsAnswer",
    /asked a question/,
    shop({}, {}, held({ reason: "NeedsAnswer" })),
    beat(),
  ],
  [
    "waits for others",
    "Waiting",
    /The reason/,
    shop({}, {}, held({ reason: "AwaitingInstances" })),
    beat(wanted),
  ],
  [
    "outside its schedule",
    "Waiting",
    /The reason.* in 30 s/,
    shop({}, {}, held({ reason: "OutsideWindow", untilMs: nowMs + 30_000 })),
    beat(),
  ],
  [
    "its iteration goes on when the window closes",
    "Running",
    /In iteration/,
    shop({}, {}, held({ reason: "OutsideWindow" })),
    beat(running),
  ],
  [
    "its parent was stopped",
    "Held",
    /The reason/,
    shop({}, {}, held({ reason: "ParentStopped" })),
    beat(),
  ],
  [
    "exited once",
    "Starting",
    /without saying .* \(exit code 3\)\. It is being restarted/,
    shop(exit(3)),
  ],
  [
    "exits again and again",
    "CrashLoop",
    /\(exit code 3\)\. It was started 4 times/,
    shop({ ...exit(3), restarts: 3 }),
  ],
  [
    "ended without a word of its agent",
    "Starting",
    /its agent did not say that the goal is reached/,
    shop(exit(0), { spec: { mode: "until-complete" } }),
  ],
  [
    "ended, and is continuous",
    "Starting",
    /because its mode is continuous/,
    shop(exit(0), { spec: { mode: "continuous" } }),
  ],
  [
    "ran no claude, once",
    "Starting",
    /^Its loop ended without running claude \(exit code 0\)\. It is being restarted/,
    shop({ ...exit(0), problem: ranNone }),
  ],
  [
    "ran no claude, again and again",
    "CrashLoop",
    /^Its loop ended without running claude .*4 times/,
    shop({ ...exit(0), problem: ranNone, restarts: 3 }),
  ],
  [
    "cannot be started",
    "CrashLoop",
    /^It could not be started\. .*started 1 time/,
    shop({ ...exit(1), problem: { reason: "NoClaude", message: "No claude." } }),
  ],
  [
    "a new attempt after a crash loop",
    "Starting",
    /being started/,
    shop({ ...exit(3), restarts: 9 }, { spec: { attempt: 2 } }),
  ],
  ["complete", "Completed", /finished 60 s ago/, shop(exit(0, "Complete"))],
  [
    "complete stays so when it is paused",
    "Completed",
    /finished/,
    shop(exit(0, "Complete"), paused()),
  ],
  ["failed", "Failed", /exit code 4/, shop(exit(4, "Failed"))],
  ["told to stop", "Stopping", /told to stop/, shop({}, { spec: { state: "Stopped" } }), beat()],
  ["stopped", "Stopped", /was stopped/, shop(exit(0), { spec: { state: "Stopped" } })],
  ["removed", "Stopping", /being removed/, shop({}, { deletedAtMs: nowMs }), beat()],
]

describe("phaseOf", () => {
  it.each(cases)("%s: %s", (_name, phase, why, instance, latest) => {
    const result = seen(instance, latest)
    expect(result.phase).toBe(phase)
    expect(result.why).toMatch(why)
  })

  it("says in why and fix nothing that anybody else wrote, and beside them what they said", () => {
    const said = (name: string): string | undefined => {
      const [, , , instance, latest] = cases.find(([of]) => of === name) ?? []
      return instance && seen(instance, latest).untrusted
    }
    expect(
      Object.fromEntries(
        cases.flatMap(([name]) => (said(name) === undefined ? [] : [[name, said(name)]])),
      ),
    ).toEqual({
      "paused, nothing runs": "lunch",
      "paused with a note": "lunch",
      blocked: "No key.",
      "cannot be started": "No claude.",
      ...Object.fromEntries(
        cases.filter(([, , , , latest]) => latest?.hold).map(([name]) => [name, "Claude's words."]),
      ),
    })
    for (const [, , , instance, latest] of cases) {
      const { why, fix } = seen(instance, latest)
      expect(`${why} ${fix}`).not.toMatch(/lunch|No key|No claude|Claude's words|Ran none|npm/)
    }
  })

  it("does not quote the question that it tells of", () => {
    const question = {
      kind: "answer",
      mail: "m-1",
      text: "Stripe\nor Adyen?",
      turn: "t",
      sinceMs: nowMs - 5000,
      untilMs: nowMs,
    } as const
    const asking = [
      seen(shop({}, {}, held({ reason: "NeedsAnswer" })), beat(), { waits: [question] }),
      seen(shop({}), beat(running), { waits: [question] }),
    ]
    for (const { why, fix, untrusted } of asking) {
      expect(why).toMatch(/It asked a question 5 s ago and waits for the answer\.$/)
      expect(fix).toContain('"replyTo":"m-1"')
      expect(untrusted).toBe("Stripe or Adyen?")
    }
  })

  it("says so before the first iteration", () => {
    expect(seen(shop({}), beat(), { iterations: 0 }).why).toBe("Has not run claude yet.")
  })

  it("says for each why and what to do", () => {
    for (const [, , , instance, latest] of cases) {
      const { why, fix } = seen(instance, latest)
      expect(why).toMatch(/^[A-Z].*\.$/s)
      expect(fix.length).toBeGreaterThan(10)
    }
  })

  it("says on a command line what to do there", () => {
    for (const [, , , instance, latest] of cases)
      expect(hints.text(seen(instance, latest).fix)).not.toMatch(/"\w+":|\{|[a-z]_[a-z]/)
  })

  it("every phase has a case here", () => {
    const reached = new Set(cases.map(([, phase]) => phase))
    expect(phases.filter((phase) => !reached.has(phase))).toEqual([])
  })

  it.each<[Phase, boolean]>([
    ["NeedsAnswer", true],
    ["Blocked", true],
    ["Failed", true],
    ["CrashLoop", true],
    ["BudgetReached", true],
    ["Held", true],
    ["RateLimited", false],
    ["Paused", false],
    ["Queued", false],
    ["Running", false],
    ["Completed", false],
  ])("%s needs a person: %s", (phase, needsPerson) => {
    const of = cases
      .filter(([, found]) => found === phase)
      .map(([, , , instance, latest]) => seen(instance, latest).needsPerson)
    expect(new Set(of)).toEqual(new Set([needsPerson]))
  })

  it("who needs a person stands before all others", () => {
    const needing = new Set(
      cases
        .map(([, , , instance, latest]) => seen(instance, latest))
        .flatMap((one) => (one.needsPerson ? [one.phase] : [])),
    )
    const last = Math.max(...[...needing].map((phase) => phases.indexOf(phase)))
    expect(phases.slice(0, last + 1).filter((phase) => !needing.has(phase))).toEqual([])
  })
})
