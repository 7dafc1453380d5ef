import type { RunEffect, RunInput, RunState } from "./run-state.ts"
import { step } from "./run-step.ts"

/** Keeps the state of a run, and has what follows from each input performed. */
export interface RunMachine {
  state(): RunState
  /** What happens while effects are performed waits for the last of them. */
  take(input: RunInput): void
}

export function createRunMachine(
  initial: RunState,
  perform: (effect: RunEffect) => void,
): RunMachine {
  let state = initial
  let isPerforming = false
  const waiting: RunInput[] = []
  return {
    state: () => state,
    take(input) {
      waiting.push(input)
      if (isPerforming) return
      isPerforming = true
      try {
        for (let next = waiting.shift(); next; next = waiting.shift()) {
          const [after, effects] = step(state, next)
          state = after
          for (const effect of effects) perform(effect)
        }
      } finally {
        isPerforming = false
      }
    },
  }
}
