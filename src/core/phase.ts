import { type Admission, finished, type Instance, live, ofAttempt, stateAt } from "./instance.ts"
import type { Beat } from "./link.ts"
import { ranNoClaude } from "./loop.ts"
import { byWhom, byWhomAt } from "./stops.ts"
import { oneLine, spanOf } from "./view.ts"
import { type Question, questionOf, type Wait, wordsOfQuestion } from "./waits.ts"

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

export interface Seen {
  readonly phase: Phase
  /** Why it is or is not running. */
  readonly why: string
  /** What to do next, as a call. */
  readonly fix: string
  /** True when nothing goes on until a person does something. */
  readonly needsPerson: boolean
}
export interface Around {
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

export function phaseOf(instance: Instance, { beat: latest, turns, iterations, waits, nowMs }: Around): Seen {
  const { spec, status, name } = instance
  const { admission, run } = status
  const beat = latest?.place === run?.place ? latest : undefined
  const call = (tool: string, more = ""): string => `${tool} {"names":["${name}"]${more}}`
  const seen = (phase: Phase, why: string, fix: string, needsPerson = false): Seen => ({ phase, why, fix, needsPerson })
  const inspect = `inspect_instance {"name":"${name}"}`
  const alive = live(instance)
  const state = stateAt(spec, nowMs)
  const question = questionOf(waits)

  if (instance.deletedAtMs !== undefined)
    return seen("Stopping", "It is being removed; its processes are ending.", "list_instances")
  if (state === "Stopped")
    return alive
      ? seen("Stopping", "It was told to stop; its processes are ending.", inspect)
      : seen("Stopped", `It was stopped${byWhomAt(spec.stop ?? {})}.`, call("resume_instances"))
  if (finished(instance))
    return run?.lastExit?.outcome === "Complete"
      ? seen(
          "Completed",
          `Its loop ended as complete ${spanOf(nowMs - (run.lastExit.atMs ?? nowMs))} ago.`,
          `${call("resume_instances")} starts it afresh`,
        )
      : seen(
          "Failed",
          run?.problem?.message ?? `Its only iteration failed (exit code ${run?.lastExit?.code}).`,
          `read_logs {"name":"${name}"}`,
          true,
        )
  if (state === "Paused") return paused(instance, beat, iterations, nowMs, seen, call)
  // These withhold the next iteration alone: one that runs is shown as it is.
  const after = admission?.reason === "OutsideWindow" || admission?.reason === "ParentStopped"
  const goesOn = after && beat?.turn?.state === "Running" && !beat.frozen
  if (admission?.verdict === "Held" && !goesOn) return held(instance, admission, question, nowMs, seen, call)
  if (admission?.verdict === "Queued" && admission.reason !== "NotWanted")
    return seen("Queued", admission.message, "pause_instances or stop_instances others, or raise instancesMax in the policy.")
  if (!alive) {
    // A run of an earlier attempt says nothing about the one that is to come.
    if (!run || !ofAttempt(instance)) return seen("Starting", "Admitted; its loop is being started.", inspect)
    if (run.lastExit?.code === 0 && !run.problem)
      return seen(
        "Starting",
        spec.mode === "continuous"
          ? "Its loop ended and is started again, because the instance is continuous."
          : "Its loop ended by itself, but its agent has not said that the goal is reached: the loop is started again.",
        inspect,
      )
    const problem =
      run.problem?.message ?? `Its loop exited with code ${run.lastExit?.code ?? "unknown"} without saying that it is complete.`
    // A loop that ran no claude may only have met a passing trouble: it is called a crash loop when it does so again and again.
    return run.restarts >= crashLoopRestarts || (run.problem && run.problem.reason !== ranNoClaude)
      ? seen(
          "CrashLoop",
          `${problem} It was started ${run.restarts === 0 ? "once" : `${run.restarts + 1} times`} and is tried again.`,
          `read_logs {"name":"${name}"}, mend it, then ${call("resume_instances")}`,
          true,
        )
      : seen("Starting", `${problem} It is started again.`, `read_logs {"name":"${name}"}`)
  }
  if (run?.phase !== "Running") return seen("Starting", run?.problem?.message ?? "Its supervisor is preparing the loop.", inspect)
  if (!beat || Math.abs(nowMs - beat.atMs) > silentMs)
    // a clock that was set back proves no word either
    return seen(
      "Unknown",
      beat ? `No word from its supervisor for ${spanOf(nowMs - beat.atMs)}.` : "No word from its supervisor yet.",
      inspect,
    )
  if (beat.turn?.state === "Wanted")
    return seen(
      "Waiting",
      `Waiting ${spanOf(nowMs - beat.turn.sinceMs)} for a turn: ${turns.used} of ${turns.max} in use.`,
      "Nothing to do, or raise turnsMax in the policy.",
    )
  if (beat.turn) {
    if (beat.frozen)
      return seen(
        "Waiting",
        `Its iteration stands still until ${turns.max === 1 ? "the only turn" : `one of ${turns.max} turns`} is free.`,
        "Nothing to do: it goes on by itself.",
      )
    const doing = beat.activity
      ? `; ${oneLine(`${beat.activity.tool}: ${beat.activity.summary}`, 140)} for ${spanOf(nowMs - beat.activity.sinceMs)}`
      : ""
    // Asked in the iteration that still runs: an answer now spares it the waiting.
    const asks = question?.turn === beat.turn.id ? question : undefined
    return seen(
      "Running",
      `In iteration ${iterations + 1} for ${spanOf(nowMs - beat.turn.sinceMs)}${doing}.${asks ? ` ${wordsOfQuestion(asks, nowMs)}` : ""}`,
      `message_instances {"to":["${name}"]${asks ? `,"replyTo":"${asks.mail}"` : ""},"text":"…"}`,
      asks !== undefined,
    )
  }
  if (beat.last?.outcome === "FAILED")
    return seen(
      "Running",
      `Between iterations; the last one failed, and the loop tries again. It failed with: "${oneLine(beat.last.text, 300)}".`,
      `read_logs {"name":"${name}"} shows what claude said.`,
    )
  return seen("Running", `Between iterations; ${iterations} done.`, inspect)
}

function paused(
  instance: Instance,
  beat: Beat | undefined,
  iterations: number,
  nowMs: number,
  seen: (phase: Phase, why: string, fix: string) => Seen,
  call: (tool: string, more?: string) => string,
): Seen {
  const { pause } = instance.spec
  const note = `${byWhom(pause ?? {}, nowMs)}${pause?.note ? ` (${oneLine(pause.note, 200)})` : ""}`
  const until = pause?.untilMs === undefined ? "" : ` It goes on by itself in ${spanOf(pause.untilMs - nowMs)}.`
  const fix = call("resume_instances")
  if (!live(instance)) return seen("Paused", `Paused${note}; nothing of it runs.${until}`, fix)
  if (beat?.frozen) return seen("Paused", `Paused${note}: all its processes stand still.${until}`, fix)
  if (pause?.when === "iteration-end" && beat?.turn?.state === "Running")
    return seen("Paused", `To be paused${note} at the end of iteration ${iterations + 1}, which still runs.${until}`, fix)
  return seen("Paused", `Paused${note}; its supervisor has not confirmed yet that its processes stand still.${until}`, fix)
}

function held(
  { name }: Instance,
  { reason, message, untilMs }: Admission,
  question: Question | undefined,
  nowMs: number,
  seen: (phase: Phase, why: string, fix: string, needsPerson?: boolean) => Seen,
  call: (tool: string, more?: string) => string,
): Seen {
  const until = untilMs === undefined ? "" : ` It goes on in ${spanOf(untilMs - nowMs)}.`
  const tell = (more = ""): string => `message_instances {"to":["${name}"]${more},"text":"…"}`
  switch (reason) {
    case "RateLimited":
      // Without an end the policy wants a person's word.
      return untilMs === undefined
        ? seen("Held", message, `${call("resume_instances")} when the limit is over`, true)
        : seen("RateLimited", `${message}${until}`, "Nothing to do: it goes on by itself.")
    case "ServiceUnavailable":
      return seen("Waiting", `${message}${until}`, "Nothing to do: it goes on by itself.")
    case "AccountProblem":
      return seen("Held", `${message}${until}`, `mend that, then ${call("resume_instances")}`, true)
    case "ClaudeMissing":
      return seen("Held", message, "Install it again, or correct `claude` in the policy; it goes on by itself.", true)
    case "BudgetReached":
      return seen("BudgetReached", message, `update_instance {"name":"${name}","budget":{…}} with a larger one`, true)
    case "NeedsAnswer":
      return question
        ? seen("NeedsAnswer", `${wordsOfQuestion(question, nowMs)}${until}`, tell(`,"replyTo":"${question.mail}"`), true)
        : seen("NeedsAnswer", `${message}${until}`, tell(), true)
    case "Blocked":
      return seen("Blocked", `${message}${until}`, tell(), true)
    case "OutsideWindow":
      return seen("Waiting", `${message}${until}`, `Nothing to do, or update_instance {"name":"${name}","schedule":…}`)
    case "AwaitingInstances":
      return seen("Waiting", message, "Nothing to do: it goes on when that is so.")
    case "Uncontrolled":
      return seen("Held", message, `mend that, then ${call("resume_instances")}`, true)
    case "CircuitOpen":
      return seen("Held", `${message}${until}`, `${tell()} with what may help, or mend it and ${call("resume_instances")}`, true)
    case "ChildLimit":
      return seen("Held", message, `${call("stop_instances", ',"remove":true')}, or raise the limit with update_instance`, true)
    case "ParentStopped":
      return seen("Held", message, `resume_instances its parent, or ${call("stop_instances")}`, true)
    case "LoginRequired":
      return seen(
        "Held",
        `${message}${until}`,
        `run \`claude\` once on that machine and log in, or correct its API key; then ${call("resume_instances")}`,
        true,
      )
    default:
      return seen("Held", `${message}${until}`, call("resume_instances"), true)
  }
}
