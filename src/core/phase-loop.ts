import type { Beat } from "./beat.ts"
import { hasLiveRun, type Instance, isFromCurrentAttempt } from "./instance.ts"
import { ranNoClaude } from "./loop.ts"
import {
  callsOn,
  goesOnByItself,
  nothingToDo,
  type PhaseReport,
  phaseReport,
} from "./phase-report.ts"
import { problemLine, problemMax, wordsOfProblem } from "./reason-words.ts"
import { byWhom } from "./stops.ts"
import { counted, spanOf } from "./view.ts"
import { type Question, renderQuestion } from "./waits.ts"

/** What the loop of an instance does: about to start, at work, paused, finished. */

/** As Kubernetes does: the third start in a row that fails is called a crash loop. */
const crashLoopRestarts = 3

/** Its loop has ended by its own word. */
export function finishedReport({ name, status: { run } }: Instance, nowMs: number): PhaseReport {
  const calls = callsOn(name)
  if (run?.lastExit?.outcome === "Complete")
    return phaseReport(
      "Completed",
      `Its loop finished ${spanOf(nowMs - (run.lastExit.atMs ?? nowMs))} ago: the goal is reached.`,
      `To start it over: ${calls.resume}`,
    )
  const why = `Its only iteration failed (exit code ${run?.lastExit?.code ?? "unknown"}).`
  return phaseReport("Failed", why, calls.logs, {
    needsPerson: true,
    untrusted: problemLine(run?.problem?.message, problemMax),
  })
}

/** Admitted, and nothing of it runs. */
export function startingReport(instance: Instance): PhaseReport {
  const { run } = instance.status
  // A run of an earlier attempt says nothing about the one that is to come.
  if (!run || !isFromCurrentAttempt(instance))
    return phaseReport("Starting", "Admitted; its loop is being started.", nothingToDo)
  const { lastExit, problem } = run
  if (lastExit?.code !== 0 || problem) return failedStartReport(instance, run)
  return phaseReport(
    "Starting",
    instance.spec.mode === "continuous"
      ? "Its loop ended; it is being restarted because its mode is continuous."
      : "Its loop ended, but its agent did not say that the goal is reached; it is being restarted.",
    nothingToDo,
  )
}

function failedStartReport(
  { name }: Instance,
  { lastExit, problem, restarts }: NonNullable<Instance["status"]["run"]>,
): PhaseReport {
  const calls = callsOn(name)
  // A loop's own exit code; after a start that failed there is none.
  const isOwnExit = problem === undefined || problem.reason === ranNoClaude
  const failure = problem
    ? wordsOfProblem(problem.reason)
    : "Its loop ended without saying that the goal is reached"
  const code = isOwnExit ? ` (exit code ${lastExit?.code ?? "unknown"})` : ""
  const untrusted = isOwnExit ? undefined : problemLine(problem.message, problemMax)
  // A loop that ran no claude may only have met a passing trouble: it is called a crash loop when
  // it does so again and again.
  if (restarts < crashLoopRestarts && isOwnExit)
    return phaseReport("Starting", `${failure}${code}. It is being restarted.`, calls.logs, {
      untrusted,
    })
  return phaseReport(
    "CrashLoop",
    `${failure}${code}. It was started ${counted(restarts + 1, "time")} and will be tried again.`,
    `Run ${calls.logs}, fix the cause, then run ${calls.resume}`,
    { needsPerson: true, untrusted },
  )
}

interface AtWork {
  readonly turns: { readonly used: number; readonly max: number }
  /** Iterations finished in all its runs. */
  readonly iterations: number
  readonly question: Question | undefined
  readonly nowMs: number
}
/** Its loop runs, and its supervisor reports. */
export function workReport(name: string, beat: Beat, at: AtWork): PhaseReport {
  const { turns, iterations, nowMs } = at
  const { turn, last, frozen } = beat
  if (turn?.state === "Wanted")
    return phaseReport(
      "Waiting",
      `Waiting ${spanOf(nowMs - turn.sinceMs)} for a turn: ${turns.used} of ${turns.max} in use.`,
      "Nothing to do, or raise turnsMax in the policy.",
    )
  if (turn && frozen)
    return phaseReport(
      "Waiting",
      `Its iteration is frozen until ${turns.max === 1 ? "the only turn" : `one of ${turns.max} turns`} is free.`,
      goesOnByItself,
    )
  if (turn) return iterationReport(name, beat, turn, at)
  if (last?.outcome === "FAILED")
    return phaseReport(
      "Running",
      "Between iterations; the last one failed, and the loop tries again.",
      `${callsOn(name).logs} shows what claude said.`,
      { untrusted: problemLine(last.text) },
    )
  return phaseReport(
    "Running",
    iterations === 0 ? "Has not run claude yet." : `Between iterations; ${iterations} done.`,
    nothingToDo,
  )
}

function iterationReport(
  name: string,
  { activity }: Beat,
  turn: NonNullable<Beat["turn"]>,
  { iterations, question, nowMs }: AtWork,
): PhaseReport {
  const { message } = callsOn(name)
  const doing = activity ? `; in a tool call for ${spanOf(nowMs - activity.sinceMs)}` : ""
  const why = `In iteration ${iterations + 1} for ${spanOf(nowMs - turn.sinceMs)}${doing}.`
  if (question?.turn !== turn.id) return phaseReport("Running", why, message(), { isWorking: true })
  // Asked in the iteration that still runs: an answer now spares it the waiting.
  return phaseReport(
    "Running",
    `${why} ${renderQuestion(question, nowMs)}`,
    message(question.mail),
    { needsPerson: true, isWorking: true, untrusted: problemLine(question.text) },
  )
}

export function pausedReport(
  instance: Instance,
  beat: Beat | undefined,
  iterations: number,
  nowMs: number,
): PhaseReport {
  const { pause } = instance.spec
  const end =
    pause?.untilMs === undefined ? "" : ` It resumes by itself in ${spanOf(pause.untilMs - nowMs)}.`
  const by = byWhom(pause ?? {}, nowMs)
  const why = (): string => {
    if (!hasLiveRun(instance)) return `Paused${by}; no process of it is running.`
    if (beat?.frozen) return `Paused${by}: all its processes are frozen.`
    if (pause?.when === "iteration-end" && beat?.turn?.state === "Running")
      return `Will be paused${by} when iteration ${iterations + 1}, which is running, ends.`
    return `Paused${by}; its supervisor has not confirmed yet that its processes are frozen.`
  }
  return phaseReport("Paused", why() + end, callsOn(instance.name).resume, {
    untrusted: problemLine(pause?.note),
  })
}
