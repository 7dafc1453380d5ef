import type { TurnFile } from "../run/run-directory.ts"

/**
 * When an iteration is ended from outside: its claude has stopped and does not exit, or it runs for
 * longer than any may.
 */

/** What claude needs from its last word to its exit: telemetry, the ends of its MCP servers. */
const graceMs = 120_000
/**
 * While something works that began after the stop, for example a project's own Stop hook: such a
 * command may take ten minutes (Claude Code 2.1.197).
 */
const workingGraceMs = 660_000

export type IterationLimit = NonNullable<TurnFile["overdue"]>

/**
 * `ranMs` and `minutesMax` count unfrozen time; `works` tells whether a process of the iteration
 * began after claude stopped.
 */
export function iterationLimitOf(
  turn: TurnFile,
  ranMs: number,
  minutesMax: number,
  works: () => boolean,
): IterationLimit | undefined {
  if (ranMs >= minutesMax * 60_000)
    return {
      why: "TooLong",
      message: `The iteration ran for ${minutesMax} min and was ended: iterationMinutesMax in the policy allows no more.`,
    }
  if (!turn.stopped) return undefined
  const sinceMs = ranMs - turn.stopped.ranMs
  if (sinceMs < graceMs || (sinceMs < workingGraceMs && works())) return undefined
  return {
    why: turn.stopped.failed ? "Failed" : "Stopped",
    message: `claude had finished but did not exit within ${Math.round(sinceMs / 60_000)} min; it was ended.`,
  }
}

/** What people are told halfway. */
export const halfwayWords = (iteration: number, minutesMax: number): string =>
  `Iteration ${iteration} has run for ${minutesMax / 2} min. It will be ended after ${minutesMax} min; raise iterationMinutesMax in the policy to allow more.`
