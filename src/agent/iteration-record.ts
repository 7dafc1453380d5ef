import type { Last, ReportedHold } from "../core/beat.ts"
import { closed, judgeCircuit } from "../core/circuit.ts"
import type { RunDirectory, RunFile } from "../run/run-directory.ts"
import type { DiskRetry } from "./disk-retry.ts"

/**
 * How the last iteration ended, and what that means for the next one. Kept in the run directory,
 * and carried into the next run of the same attempt.
 */
export interface IterationRecord {
  last(): Last | undefined
  /** Undefined while this run has finished none. */
  lastOfRun(): Last | undefined
  /** Digest of the instructions that the model was given. */
  instructions(): string | undefined
  /** Why the next turn is withheld. */
  hold(): ReportedHold | undefined
  /** A failure, while the iteration still runs, has a hold or none. */
  meet(hold: ReportedHold | undefined): void
  /** An iteration begins: what held it is over. */
  begin(): void
  end(end: RecordedEnd): void
  /**
   * With the commits of its branch, if they are known: whether what an iteration brought is worth
   * another one.
   */
  judge(commits: number | undefined): void
  /** After the clock was set back. */
  shift(backMs: number): void
}
export interface RecordedEnd {
  readonly last: Last
  readonly hold: ReportedHold | undefined
  /** Of what the model was given; undefined where it was given nothing. */
  readonly instructions: string | undefined
  /** The model's service refused it before the model had done anything. */
  readonly refused: boolean
}

export function createIterationRecord(
  directory: RunDirectory,
  diskRetry: DiskRetry,
  { iterationsBefore }: Pick<RunFile, "iterationsBefore">,
  warn: (message: string) => void,
): IterationRecord {
  const before = directory.get("last")
  let last = before?.last
  let instructions = before?.told
  let hold = before?.hold
  let circuit = before?.circuit ?? closed
  /** What people know of the failure that lasts: a repeat is no news. */
  let warned: string | undefined
  const keep = (): void => {
    if (last)
      diskRetry.set("last", {
        last,
        circuit,
        ...(instructions !== undefined && { told: instructions }),
        ...(hold && { hold }),
      })
  }
  return {
    last: () => last,
    // Iterations are counted through all runs.
    lastOfRun: () => (last && last.iteration > iterationsBefore ? last : undefined),
    instructions: () => instructions,
    hold: () => hold,
    meet(next) {
      hold = next
      if (hold && hold.message !== warned) warn(hold.message)
      warned = hold?.message
    },
    begin() {
      hold = undefined
    },
    end(end) {
      if (end.last.outcome !== "FAILED") warned = undefined
      last = end.last
      hold = end.hold
      if (!end.refused) instructions = end.instructions
      keep()
    },
    judge(commits) {
      if (!last) return
      const waits = hold !== undefined && hold.reason !== "CircuitOpen"
      const after = judgeCircuit(circuit, last, commits, waits)
      circuit = after.circuit
      if (after.hold) {
        hold = after.hold
        warn(hold.message)
      }
      keep()
    },
    shift(backMs) {
      if (hold?.untilMs !== undefined)
        hold = { ...hold, untilMs: Math.round(hold.untilMs - backMs) }
    },
  }
}
