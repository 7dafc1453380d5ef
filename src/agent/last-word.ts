import type { Marker, ReportedHold } from "../core/beat.ts"
import { concludeIteration, type Failure } from "../core/iteration-outcome.ts"
import { cut } from "../core/view.ts"
import type { TurnFile } from "../run/run-directory.ts"
import { holdFor } from "./failures.ts"

/**
 * What is told of the running iteration, and what it makes of its end. It stands in the turn's
 * file: a successor knows it.
 */
export interface FinalMessageReader {
  /** The model's last word so far. */
  said(marker: Marker, text: string): void
  /** Claude gave up; what the model said before is not how its iteration ended. */
  failed(failure: Failure): void
  /** The model works, whatever it said before. */
  working(): void
  /**
   * How an iteration ended whose claude ended so. `refused`: by the model's service, before the
   * model had done anything.
   */
  conclude(
    turn: TurnFile,
    code: number,
  ): { outcome: Marker; text: string; hold: ReportedHold | undefined; refused: boolean }
}
/** What the words of a failure are read with. */
export interface FinalMessageContext {
  nowMs(): number
  /**
   * The time zone of this machine (IANA). Asked only after a failure: the zones of all the world
   * cost 7 MiB.
   */
  zone(): string
  /**
   * A chance wait, so that agents that met a limit together do not all try again in the same
   * second.
   */
  jitterMs(): number
  /** The first lines that the loop and its claude printed since then. */
  printed(sinceMs: number): readonly string[]
}
export interface FinalMessageOptions extends FinalMessageContext {
  turn(): TurnFile | undefined
  keep(turn: TurnFile): boolean
  /** A failure has a hold, or none. */
  met(hold: ReportedHold | undefined): void
  /** Something that a beat says has changed. */
  changed(): void
}

export function createFinalMessageReader({
  turn: running,
  keep,
  met,
  changed,
  nowMs,
  zone,
  jitterMs,
  printed,
}: FinalMessageOptions): FinalMessageReader {
  let failures = 0
  let hold: ReportedHold | undefined
  const meet = (failure: Failure): void => {
    failures++
    hold = holdFor(failure, { failures, nowMs: nowMs(), zone: zone(), jitterMs: jitterMs() })
    met(hold)
  }
  // A predecessor heard it, and what that means for the next iteration was not written down.
  const heard = running()?.failure
  if (heard) meet(heard)

  return {
    said(marker, text) {
      const turn = running()
      if (!turn) return
      const { failure: _, ...rest } = turn
      keep({ ...rest, said: { marker, text: cut(text, 4000), superseded: false } })
    },
    failed(failure) {
      const turn = running()
      if (!turn) return
      keep({ ...turn, failure })
      meet(failure)
      changed()
    },
    working() {
      const turn = running()
      if (!turn || (turn.worked && turn.said?.superseded !== false)) return
      keep({
        ...turn,
        worked: true,
        ...(turn.said && { said: { ...turn.said, superseded: true } }),
      })
    },
    conclude({ said, failure, worked, unheard = false, sinceMs }, code) {
      const { outcome, text } = concludeIteration(said, failure, {
        code,
        unheard,
        printed: unheard && code !== 0 ? printed(sinceMs) : [],
      })
      if (outcome !== "FAILED") failures = 0
      const waits = failure && hold
      return { outcome, text, hold: waits, refused: waits !== undefined && !worked && !said }
    },
  }
}
