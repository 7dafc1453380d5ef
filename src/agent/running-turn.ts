import type { RunDirectory, TurnFile } from "../run/run-directory.ts"
import type { DiskRetry } from "./disk-retry.ts"

/** The iteration that runs, in the run directory: a successor knows it. */
export interface RunningTurn {
  now(): TurnFile | undefined
  /** False while it could not be written down. */
  keep(turn: TurnFile): boolean
  forget(): void
}

export function createRunningTurn(directory: RunDirectory, diskRetry: DiskRetry): RunningTurn {
  let turn = directory.get("turn")
  return {
    now: () => turn,
    keep(next) {
      turn = next
      return diskRetry.set("turn", next)
    },
    forget() {
      turn = undefined
      diskRetry.remove("turn")
    },
  }
}
