import type { Beat } from "./beat.ts"
import {
  type Admission,
  desiredState,
  hasFinished,
  hasLiveRun,
  type Instance,
  isFromCurrentAttempt,
} from "./instance.ts"
import { ranNoClaude } from "./loop.ts"
import { heldWords, problemMax, problemText, wordsOfProblem } from "./reason-words.ts"
import { byWhom, byWhomAt } from "./stops.ts"
import { spanOf } from "./view.ts"
import { type Question, questionOf, renderQuestion, type Wait } from "./waits.ts"

/** What people see: computed when somebody asks, never stored. Who needs a person comes first. */
export const phases = [
  "NeedsAnswer",
  "Blocked",
  "Failed",
  "CrashLoop",
  "BudgetReached",
  "Held",
  "Unknown",
  "RateLimited",
  "Running",
  "Waiting",
  "Starting",
  "Queued",
  "Stopping",
  "Paused",
  "Completed",
  "Stopped",
] as const
export type Phase = (typeof phases)[number]

export interface PhaseReport {
  readonly phase: Phase
  /**
   * Why it is or is not running: our own words, names, numbers and times, and nothing that anybody
   * else wrote.
   */
  readonly why: string
  /** What to do next, as a call: our own words too. */
  readonly fix: string
  /**
   * What its agent, claude, git or whoever paused it said about that: one line, which nobody may
   * take for ours.
   */
  readonly untrusted?: string
  /** True when nothing goes on until a person does something. */
  readonly needsPerson: boolean
}
export interface PhaseContext {
  readonly beat: Beat | undefined
  readonly turns: { readonly used: number; readonly max: number }
  /** Iterations finished in all its runs. */
  readonly iterations: number
  readonly waits?: readonly Wait[] | undefined
  readonly nowMs: number
}

/** A supervisor beats every 5 s; three missed beats are a silence. */
export const silentMs = 15_000
/** As Kubernetes does: the third start in a row that fails is called a crash loop. */
const crashLoopRestarts = 3

type Describe = (
  phase: Phase,
  why: string,
  fix: string,
  more?: Pick<PhaseReport, "untrusted"> & { needsPerson?: boolean },
) => PhaseReport
const describe: Describe = (phase, why, fix, { needsPerson = false, ...more } = {}) => ({
  phase,
  why,
  fix,
  needsPerson,
  ...more,
})
const person = { needsPerson: true }

export function phaseOf(
  instance: Instance,
  { beat: latest, turns, iterations, waits, nowMs }: PhaseContext,
): PhaseReport {
  const { spec, status, name } = instance
  const { admission, run } = status
  const beat = latest?.place === run?.place ? latest : undefined
  const inspect = `inspect_instance {"name":"${name}"}`
  const alive = hasLiveRun(instance)
  const state = desiredState(spec, nowMs)
  const question = questionOf(waits)

  if (instance.deletedAtMs !== undefined)
    return describe("Stopping", "It is being removed; its processes are ending.", "list_instances")
  if (state === "Stopped")
    return alive
      ? describe("Stopping", "It was told to stop; its processes are ending.", inspect)
      : describe(
          "Stopped",
          `It was stopped${byWhomAt(spec.stop ?? {})}.`,
          callOn(name)("resume_instances"),
        )
  if (hasFinished(instance)) return ended(instance, nowMs)
  if (state === "Paused") return paused(instance, beat, iterations, nowMs)
  // These withhold the next iteration alone: one that runs is shown as it is.
  const after = admission?.reason === "OutsideWindow" || admission?.reason === "ParentStopped"
  const goesOn = after && beat?.turn?.state === "Running" && !beat.frozen
  if (admission?.verdict === "Held" && !goesOn)
    return held(instance, admission, { beat, question, nowMs })
  if (admission?.verdict === "Queued" && admission.reason !== "NotWanted")
    return describe(
      "Queued",
      admission.message,
      "pause_instances or stop_instances others, or raise instancesMax in the policy.",
    )
  if (!alive) return notAlive(instance)
  if (run?.phase !== "Running")
    return describe(
      "Starting",
      "Its supervisor is preparing the loop.",
      inspect,
      problemText(run?.problem?.message, problemMax),
    )
  if (!beat || Math.abs(nowMs - beat.atMs) > silentMs)
    // a clock that was set back proves no word either
    return describe(
      "Unknown",
      beat
        ? `No word from its supervisor for ${spanOf(nowMs - beat.atMs)}.`
        : "No word from its supervisor yet.",
      inspect,
    )
  return atWork(name, beat, { turns, iterations, question, nowMs })
}

const callOn =
  (name: string) =>
  (tool: string, more = ""): string =>
    `${tool} {"names":["${name}"]${more}}`

/** Its loop has ended by its own word. */
function ended({ name, status: { run } }: Instance, nowMs: number): PhaseReport {
  if (run?.lastExit?.outcome === "Complete")
    return describe(
      "Completed",
      `Its loop ended as complete ${spanOf(nowMs - (run.lastExit.atMs ?? nowMs))} ago.`,
      `${callOn(name)("resume_instances")} starts it afresh`,
    )
  const why = `Its only iteration failed (exit code ${run?.lastExit?.code ?? "unknown"}).`
  return describe("Failed", why, `read_logs {"name":"${name}"}`, {
    ...person,
    ...problemText(run?.problem?.message, problemMax),
  })
}

/** Admitted, and nothing of it runs. */
function notAlive(instance: Instance): PhaseReport {
  const { name, spec, status } = instance
  const { run } = status
  const inspect = `inspect_instance {"name":"${name}"}`
  // A run of an earlier attempt says nothing about the one that is to come.
  if (!run || !isFromCurrentAttempt(instance))
    return describe("Starting", "Admitted; its loop is being started.", inspect)
  const { lastExit, problem, restarts } = run
  if (lastExit?.code === 0 && !problem)
    return describe(
      "Starting",
      spec.mode === "continuous"
        ? "Its loop ended and is started again, because the instance is continuous."
        : "Its loop ended by itself, but its agent has not said that the goal is reached: the loop is started again.",
      inspect,
    )
  // A loop's own exit code; after a start that failed there is none.
  const own = problem === undefined || problem.reason === ranNoClaude
  const failure = problem
    ? wordsOfProblem(problem.reason)
    : "Its loop ended without saying that it is complete"
  const why = own ? `${failure} (exit code ${lastExit?.code ?? "unknown"}).` : `${failure}.`
  const words = own ? {} : problemText(problem.message, problemMax)
  // A loop that ran no claude may only have met a passing trouble: it is called a crash loop when
  // it does so again and again.
  return restarts >= crashLoopRestarts || !own
    ? describe(
        "CrashLoop",
        `${why} It was started ${restarts === 0 ? "once" : `${restarts + 1} times`} and is tried again.`,
        `read_logs {"name":"${name}"}, mend it, then ${callOn(name)("resume_instances")}`,
        { ...person, ...words },
      )
    : describe("Starting", `${why} It is started again.`, `read_logs {"name":"${name}"}`, words)
}

interface AtWork extends Pick<PhaseContext, "turns" | "iterations" | "nowMs"> {
  readonly question: Question | undefined
}
/** Its loop runs, and its supervisor is heard of. */
function atWork(
  name: string,
  beat: Beat,
  { turns, iterations, question, nowMs }: AtWork,
): PhaseReport {
  const { turn, activity, last, frozen } = beat
  if (turn?.state === "Wanted")
    return describe(
      "Waiting",
      `Waiting ${spanOf(nowMs - turn.sinceMs)} for a turn: ${turns.used} of ${turns.max} in use.`,
      "Nothing to do, or raise turnsMax in the policy.",
    )
  if (turn && frozen)
    return describe(
      "Waiting",
      `Its iteration stands still until ${turns.max === 1 ? "the only turn" : `one of ${turns.max} turns`} is free.`,
      "Nothing to do: it goes on by itself.",
    )
  if (turn) {
    const doing = activity ? `; in a tool call for ${spanOf(nowMs - activity.sinceMs)}` : ""
    const why = `In iteration ${iterations + 1} for ${spanOf(nowMs - turn.sinceMs)}${doing}.`
    const tell = (more: string): string => `message_instances {"to":["${name}"]${more},"text":"…"}`
    // Asked in the iteration that still runs: an answer now spares it the waiting.
    return question?.turn === turn.id
      ? describe(
          "Running",
          `${why} ${renderQuestion(question, nowMs)}`,
          tell(`,"replyTo":"${question.mail}"`),
          {
            ...person,
            ...problemText(question.text),
          },
        )
      : describe("Running", why, tell(""))
  }
  if (last?.outcome === "FAILED")
    return describe(
      "Running",
      "Between iterations; the last one failed, and the loop tries again.",
      `read_logs {"name":"${name}"} shows what claude said.`,
      problemText(last.text),
    )
  return describe(
    "Running",
    `Between iterations; ${iterations} done.`,
    `inspect_instance {"name":"${name}"}`,
  )
}

function paused(
  instance: Instance,
  beat: Beat | undefined,
  iterations: number,
  nowMs: number,
): PhaseReport {
  const { pause } = instance.spec
  const until =
    pause?.untilMs === undefined ? "" : ` It goes on by itself in ${spanOf(pause.untilMs - nowMs)}.`
  const by = byWhom(pause ?? {}, nowMs)
  const why = (): string => {
    if (!hasLiveRun(instance)) return `Paused${by}; nothing of it runs.`
    if (beat?.frozen) return `Paused${by}: all its processes stand still.`
    if (pause?.when === "iteration-end" && beat?.turn?.state === "Running")
      return `To be paused${by} at the end of iteration ${iterations + 1}, which still runs.`
    return `Paused${by}; its supervisor has not confirmed yet that its processes stand still.`
  }
  return describe(
    "Paused",
    `${why()}${until}`,
    callOn(instance.name)("resume_instances"),
    problemText(pause?.note),
  )
}

interface Holding {
  readonly beat: Beat | undefined
  readonly question: Question | undefined
  readonly nowMs: number
}
function held(
  { name }: Instance,
  admission: Admission,
  { beat, question, nowMs }: Holding,
): PhaseReport {
  const { reason, untilMs } = admission
  const message = heldWords[reason] ?? admission.message
  const until = untilMs === undefined ? "" : ` It goes on in ${spanOf(untilMs - nowMs)}.`
  const call = callOn(name)
  const resume = call("resume_instances")
  const tell = (more = ""): string => `message_instances {"to":["${name}"]${more},"text":"…"}`
  const reported = problemText(
    beat?.hold?.reason === reason ? beat.hold.message : undefined,
    problemMax,
  )
  const byPerson = { ...person, ...reported }
  switch (reason) {
    case "RateLimited":
      return untilMs === undefined
        ? describe(
            "Held",
            `${message} The policy says afterRateLimit: hold, so it waits until somebody resumes it.`,
            `${resume} when the limit is over`,
            byPerson,
          )
        : describe(
            "RateLimited",
            `${message}${until}`,
            "Nothing to do: it goes on by itself.",
            reported,
          )
    case "ServiceUnavailable":
      return describe(
        "Waiting",
        `${message}${until}`,
        "Nothing to do: it goes on by itself.",
        reported,
      )
    case "AccountProblem":
    case "Uncontrolled":
      return describe("Held", `${message}${until}`, `Mend that, then ${resume}`, byPerson)
    case "ClaudeMissing":
      return describe(
        "Held",
        message,
        "Install it again, or correct `claude` in the policy; it goes on by itself.",
        byPerson,
      )
    case "BudgetReached":
      return describe(
        "BudgetReached",
        message,
        `update_instance {"name":"${name}","budget":{…}} with a larger one`,
        person,
      )
    case "NeedsAnswer":
      return describe(
        "NeedsAnswer",
        `${question ? renderQuestion(question, nowMs) : message}${until}`,
        tell(question && `,"replyTo":"${question.mail}"`),
        { ...person, ...problemText(question?.text) },
      )
    case "Blocked":
      return describe("Blocked", `${message}${until}`, tell(), {
        ...person,
        ...problemText(beat?.last?.text),
      })
    case "OutsideWindow":
      return describe(
        "Waiting",
        `${message}${until}`,
        `Nothing to do, or update_instance {"name":"${name}","schedule":…}`,
      )
    case "AwaitingInstances":
      return describe("Waiting", message, "Nothing to do: it goes on when that is so.")
    case "CircuitOpen":
      return describe(
        "Held",
        `${message}${until}`,
        `${tell()} with what may help, or mend it and ${resume}`,
        byPerson,
      )
    case "ChildLimit":
      return describe(
        "Held",
        message,
        `${call("stop_instances", ',"remove":true')}, or raise the limit with update_instance`,
        person,
      )
    case "ParentStopped":
      return describe(
        "Held",
        message,
        `resume_instances its parent, or ${call("stop_instances")}`,
        person,
      )
    case "LoginRequired":
      return describe(
        "Held",
        `${message}${until}`,
        `Run \`claude\` once on that machine and log in, or correct its API key; then ${resume}`,
        byPerson,
      )
    default:
      return describe("Held", `${message}${until}`, resume, byPerson)
  }
}
