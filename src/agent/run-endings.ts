import type { Marker } from "../core/beat.ts"
import type { Problem } from "../core/instance.ts"
import { ranNoClaude } from "../core/loop.ts"
import { cut } from "../core/view.ts"
import {
  factsOf,
  type IterationEnd,
  isFrozen,
  type LiveState,
  type RunEffect,
  type RunExit,
  type RunInput,
  type RunState,
  type RunStep,
} from "./run-state.ts"

/** How a run ends, and with which exit code. */

/** As a shell ends what SIGTERM and SIGKILL ended. */
export const terminated = 143
export const killed = 137
/** sysexits.h: a temporary failure. */
export const tempFail = 75
export const notFound = 127

export function endRunWith(state: LiveState, exit: RunExit, problem?: Problem): RunStep {
  const wasFrozen = isFrozen(state)
  return [
    { ...factsOf(state), phase: "ending", wasFrozen, exit, problem },
    [{ type: "endRun", exit, problem }],
  ]
}

export const portTaken = (cause: string): Problem => ({
  reason: "PortTaken",
  message: `Another process took the supervisor's port (${cause}). The instance is started again.`,
})

/**
 * A loop that knows no markers asks for one more turn after the agent has said that it is complete:
 * that is its end.
 */
export const isThrough = (
  { terms }: RunState,
  { isKnown, lastOutcome }: { isKnown: boolean; lastOutcome: Marker | undefined },
): boolean =>
  terms.completion === "marker" &&
  terms.mode === "until-complete" &&
  lastOutcome === "COMPLETE" &&
  !isKnown

export function endIteration(
  state: LiveState,
  { code, failed, waits, text }: IterationEnd,
): RunStep {
  const judged: readonly RunEffect[] = [{ type: "judgeIteration" }]
  if (state.terms.mode !== "once" || waits) return [state, judged]
  const message = cut(`Its only iteration failed: ${text}`, 2000)
  const [next, effects] = failed
    ? endRunWith(state, { code, outcome: "Failed" }, { reason: "IterationFailed", message })
    : endRunWith(state, { code, outcome: "Complete" })
  return [next, [...judged, ...effects]]
}

export function endLoop(
  state: LiveState,
  input: Extract<RunInput, { type: "loopEnded" }>,
): RunStep {
  const { code, hasRunClaude, lastOutcome, isUncontrolled } = input
  if (!hasRunClaude)
    return endRunWith(
      state,
      { code },
      {
        reason: ranNoClaude,
        message: `Its loop ended without running claude (exit code ${code}).`,
      },
    )
  const { completion, mode } = state.terms
  // The agent's last word, or the loop's exit code, as the loop's author chose.
  const saysComplete = completion === "marker" ? lastOutcome === "COMPLETE" : code === 0
  return endRunWith(
    state,
    saysComplete && mode !== "continuous" && !isUncontrolled
      ? { code, outcome: "Complete" }
      : { code },
  )
}
