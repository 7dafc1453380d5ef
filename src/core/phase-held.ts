import type { Beat } from "./beat.ts"
import type { Admission, Instance } from "./instance.ts"
import {
  callsOn,
  goesOnByItself,
  type Phase,
  type PhaseReport,
  phaseReport,
} from "./phase-report.ts"
import type { Reason } from "./reason.ts"
import { heldWords, problemLine, problemMax } from "./reason-words.ts"
import { spanOf } from "./view.ts"
import { type Question, renderQuestion } from "./waits.ts"

/** What a hold of the scheduler's looks like, and what lifts it: a rule for each reason. */

interface Holding {
  readonly beat: Beat | undefined
  readonly question: Question | undefined
  readonly nowMs: number
}
interface Rule {
  readonly phase: Phase
  readonly needsPerson: boolean
  fix(calls: ReturnType<typeof callsOn>, holding: Holding): string
  /** Another reason than the usual words. */
  why?(holding: Holding): string | undefined
  /** True where its end is only the moment of the next look, which helps nobody. */
  readonly hidesEnd?: boolean
  /** What to show of others' words, where it is not what its supervisor reported. */
  untrusted?(holding: Holding): string | undefined
}

/** Anything that a person has to lift. */
const held: Rule = { phase: "Held", needsPerson: true, fix: ({ resume }) => resume }
const passing: Rule = { phase: "Waiting", needsPerson: false, fix: () => goesOnByItself }
const fixFirst: Rule = { ...held, fix: ({ resume }) => `Fix it, then run ${resume}` }

const rules: Readonly<Partial<Record<Reason, Rule>>> = {
  RateLimited: { ...passing, phase: "RateLimited" },
  ServiceUnavailable: passing,
  AccountProblem: fixFirst,
  Uncontrolled: fixFirst,
  ClaudeMissing: {
    ...held,
    hidesEnd: true,
    fix: () =>
      "Install claude again, or correct `claude` in the policy; it then continues by itself.",
  },
  BudgetReached: {
    ...held,
    phase: "BudgetReached",
    fix: ({ raiseBudget }) => `Raise its budget: ${raiseBudget}`,
  },
  NeedsAnswer: {
    ...held,
    phase: "NeedsAnswer",
    fix: ({ message }, { question }) => message(question?.mail),
    why: ({ question, nowMs }) => question && renderQuestion(question, nowMs),
    untrusted: ({ question }) => problemLine(question?.text),
  },
  Blocked: {
    ...held,
    phase: "Blocked",
    fix: ({ message }) => message(),
    untrusted: ({ beat }) => problemLine(beat?.last?.text),
  },
  OutsideWindow: {
    ...passing,
    fix: ({ reschedule }) => `Nothing to do; to change its schedule: ${reschedule}`,
  },
  AwaitingInstances: {
    ...passing,
    hidesEnd: true,
    fix: () => "Nothing to do: it continues when that has happened.",
  },
  CircuitOpen: {
    ...held,
    fix: ({ message, resume }) =>
      `Tell it what may help: ${message()}, or fix it and run ${resume}`,
  },
  ChildLimit: {
    ...held,
    fix: ({ remove }) => `Remove it: ${remove}, or raise the limit with update_instance`,
  },
  ParentStopped: {
    ...held,
    fix: ({ stop }) => `Resume its parent with resume_instances, or stop it too: ${stop}`,
  },
  LoginRequired: {
    ...held,
    fix: ({ resume }) =>
      `Run \`claude\` once on that machine and log in, or correct its API key; then run ${resume}`,
  },
}
/** The policy's `afterRateLimit: hold`. */
const rateLimitedForGood: Rule = {
  ...held,
  fix: ({ resume }) => `When the limit is over, run ${resume}`,
  why: () =>
    `${heldWords.RateLimited} The policy has afterRateLimit: hold, so a person must resume it.`,
}
const ruleOf = ({ reason, untilMs }: Admission): Rule =>
  reason === "RateLimited" && untilMs === undefined ? rateLimitedForGood : (rules[reason] ?? held)

export function heldReport(
  { name }: Instance,
  admission: Admission,
  holding: Holding,
): PhaseReport {
  const { beat, nowMs } = holding
  const { reason, untilMs } = admission
  const rule = ruleOf(admission)
  const why = rule.why?.(holding) ?? heldWords[reason] ?? admission.message
  const end =
    untilMs === undefined || rule.hidesEnd ? "" : ` It continues in ${spanOf(untilMs - nowMs)}.`
  const reported = beat?.hold?.reason === reason ? beat.hold.message : undefined
  return phaseReport(rule.phase, why + end, rule.fix(callsOn(name), holding), {
    needsPerson: rule.needsPerson,
    untrusted: rule.untrusted ? rule.untrusted(holding) : problemLine(reported, problemMax),
  })
}
