import { type Beat, silentMs } from "./beat.ts"
import { desiredState, hasFinished, hasLiveRun, type Instance } from "./instance.ts"
import { heldReport } from "./phase-held.ts"
import { finishedReport, pausedReport, startingReport, workReport } from "./phase-loop.ts"
import { callsOn, nothingToDo, type PhaseReport, phaseReport } from "./phase-report.ts"
import { problemLine, problemMax } from "./reason-words.ts"
import { byWhomAt } from "./stops.ts"
import { spanOf } from "./view.ts"
import { questionOf, type Wait } from "./waits.ts"

export interface PhaseContext {
  readonly beat: Beat | undefined
  readonly turns: { readonly used: number; readonly max: number }
  /** Iterations finished in all its runs. */
  readonly iterations: number
  readonly waits?: readonly Wait[] | undefined
  readonly nowMs: number
}

/** Why an instance is or is not running, and what to do: the first of these that applies. */
export function phaseOf(
  instance: Instance,
  { beat: latest, turns, iterations, waits, nowMs }: PhaseContext,
): PhaseReport {
  const { spec, status, name } = instance
  const { admission, run } = status
  // What the supervisor of an earlier run said no longer counts.
  const beat = latest?.place === run?.place ? latest : undefined
  const question = questionOf(waits)
  const state = desiredState(spec, nowMs)

  if (instance.deletedAtMs !== undefined)
    return phaseReport("Stopping", "It is being removed; its processes are ending.", nothingToDo)
  if (state === "Stopped") return stoppedReport(instance)
  if (hasFinished(instance)) return finishedReport(instance, nowMs)
  if (state === "Paused") return pausedReport(instance, beat, iterations, nowMs)
  // These withhold the next iteration alone: one that runs is shown as it is.
  const isForNext = admission?.reason === "OutsideWindow" || admission?.reason === "ParentStopped"
  const goesOn = isForNext && beat?.turn?.state === "Running" && !beat.frozen
  if (admission?.verdict === "Held" && !goesOn)
    return heldReport(instance, admission, { beat, question, nowMs })
  if (admission?.verdict === "Queued" && admission.reason !== "NotWanted")
    return phaseReport(
      "Queued",
      admission.message,
      "Pause or stop other agents, or raise instancesMax in the policy.",
    )
  if (!hasLiveRun(instance)) return startingReport(instance)
  if (run?.phase !== "Running")
    return phaseReport("Starting", "Its supervisor is preparing the loop.", nothingToDo, {
      untrusted: problemLine(run?.problem?.message, problemMax),
    })
  // Also when the clock was set back: then nothing tells how old the beat is.
  if (!beat || Math.abs(nowMs - beat.atMs) > silentMs)
    return phaseReport(
      "Unknown",
      beat
        ? `Its supervisor has not reported for ${spanOf(nowMs - beat.atMs)}.`
        : "Its supervisor has not reported yet.",
      nothingToDo,
    )
  return workReport(name, beat, { turns, iterations, question, nowMs })
}

const stoppedReport = (instance: Instance): PhaseReport =>
  hasLiveRun(instance)
    ? phaseReport("Stopping", "It was told to stop; its processes are ending.", nothingToDo)
    : phaseReport(
        "Stopped",
        `It was stopped${byWhomAt(instance.spec.stop ?? {})}.`,
        callsOn(instance.name).resume,
      )
