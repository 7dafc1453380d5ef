import type { Last, ReportedHold } from "../core/beat.ts"
import { cut } from "../core/view.ts"
import type { TurnFile } from "../run/run-directory.ts"
import { uncontrolledAfter } from "./failures.ts"
import type { FinalMessageReader } from "./last-word.ts"

/** How an iteration ended, and what withholds the next one. Pure. */
export interface IterationConclusion {
  readonly last: Last
  readonly hold: ReportedHold | undefined
  /** The model's service refused it, or its claude was gone: the model was given nothing. */
  readonly refused: boolean
  /** It ran without its hooks, so that nobody could talk to it or count what it used. */
  readonly uncontrolled: boolean
  /** Why it was ended from outside, where it did not fail by that. */
  readonly note: string
}
export interface EndFacts {
  /** As `claudeExitCode` gives it. */
  readonly code: number
  /** What the model said last, and what failed. */
  readonly word: ReturnType<FinalMessageReader["conclude"]>
  /** It was ended because it asked no hook. */
  readonly endedUnheard: boolean
  /** It began under a predecessor: it may have asked a hook that nobody answered. */
  readonly inherited: boolean
  /** The hold for a claude that was there when its turn was granted, and gone when it began. */
  readonly missing: ReportedHold | undefined
  readonly atMs: number
}

/** A claude that had said all, and only failed to exit, has ended well. */
export const claudeExitCode = ({ overdue }: TurnFile, exit: number): number =>
  overdue?.why === "Stopped" ? 0 : exit

export function concludeTurn(
  turn: TurnFile,
  { code, word, endedUnheard, inherited, missing, atMs }: EndFacts,
): IterationConclusion {
  const { id, iteration, overdue } = turn
  // A claude that failed before it asked a hook says itself what is wrong, and the loop tries
  // again.
  const endedWell = code === 0 && !inherited
  const uncontrolled =
    turn.unheard === true && (endedWell || endedUnheard)
      ? uncontrolledAfter(iteration, endedUnheard)
      : undefined
  const tooLong = overdue?.why === "TooLong" ? overdue : undefined
  const obstacle = uncontrolled ?? tooLong ?? missing
  const { outcome, text } = obstacle ? { outcome: "FAILED" as const, text: obstacle.message } : word
  return {
    last: { turn: id, iteration, outcome, text: cut(text, 4000), atMs },
    hold: uncontrolled ?? missing ?? word.hold,
    refused: word.refused || missing !== undefined,
    uncontrolled: uncontrolled !== undefined,
    note: overdue && (uncontrolled || !tooLong) ? overdue.message : "",
  }
}
