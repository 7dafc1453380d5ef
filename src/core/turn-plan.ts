import type { Beat } from "./beat.ts"
import { freezes } from "./directive.ts"
import type { FleetIndex } from "./fleet-index.ts"
import { hasLiveRun, type Instance, type Uid, type Verdict } from "./instance.ts"
import type { Turn } from "./ports.ts"

/** What a plan decides about one instance. */
export interface PlannedVerdict {
  readonly instance: Instance
  readonly value: Verdict
}
/** An iteration that wants a turn, or runs without one. */
export interface TurnRequest extends PlannedVerdict {
  readonly beat: Beat
  readonly turn: NonNullable<Beat["turn"]>
}

/** What tells who has a turn, and who wants one. */
interface TurnFacts {
  readonly fleet: FleetIndex
  readonly beats: ReadonlyMap<Uid, Beat>
  readonly turns: ReadonlyMap<Uid, Turn>
}

/**
 * Frozen as wanted also ends a turn: going on needs a turn again. Silence proves nothing, so it
 * keeps its turn.
 */
export function endedTurns(
  decisions: readonly PlannedVerdict[],
  { fleet: { byUid }, beats, turns }: TurnFacts,
  nowMs: number,
): readonly Turn[] {
  const wantsFreeze = new Set(
    decisions
      .filter(({ instance, value }) => freezes(instance.spec, value, nowMs) !== undefined)
      .map(({ instance }) => instance.uid),
  )
  const hasEnded = ({ uid, id, place, grantedAtMs }: Turn): boolean => {
    const instance = byUid.get(uid)
    const beat = beats.get(uid)
    if (!instance || !hasLiveRun(instance) || instance.status.run?.place !== place) return true
    return (
      beat?.place === place &&
      (beat.turn?.id !== id ||
        (beat.frozen && beat.turn.grantedAtMs === grantedAtMs && wantsFreeze.has(uid)))
    )
  }
  return [...turns.values()].filter(hasEnded)
}

export function turnRequests(
  decisions: readonly PlannedVerdict[],
  { beats, turns }: TurnFacts,
  end: readonly Turn[],
): readonly TurnRequest[] {
  const ended = new Set(end.map(({ uid }) => uid))
  const hasTurn = (uid: Uid): boolean => turns.has(uid) && !ended.has(uid)
  return decisions.flatMap(({ instance, value }) => {
    const beat = beats.get(instance.uid)
    return beat?.turn &&
      beat.place === instance.status.run?.place &&
      hasLiveRun(instance) &&
      !hasTurn(instance.uid)
      ? [{ instance, value, beat, turn: beat.turn }]
      : []
  })
}
