import type { Reported } from "../core/event.ts"
import type { TurnFile } from "../run/run-directory.ts"
import { halfwayWords, iterationLimitOf } from "./overdue.ts"
import { measureRunning } from "./running-time.ts"

/**
 * The time of the running iteration: how long it ran, when it stood still, and when it is to be
 * ended from outside. Kept in the turn's file.
 */
export interface IterationTime {
  /** Milliseconds that it ran so far. */
  ms(): number
  /** A new iteration begins. */
  begin(): void
  /**
   * All processes stand still from now on, or go on. Gives for how long the iteration stood still.
   */
  still(isStill: boolean): number
  /** The model was told of all its standstills. */
  standstillTold(): void
  /** Claude has spoken its last word, or given up, and is expected to exit. */
  stopped(how: "Stopped" | "Failed"): void
  /** It works again. */
  goesOn(): void
  /**
   * The turn that is to be ended, once: `minutesMax` are over, or its claude stopped and does not
   * exit. `works` tells whether a process of that turn began after that moment (milliseconds since
   * the machine's start).
   */
  overdue(
    minutesMax: number,
    works: (turn: string, sinceBootMs: number) => boolean,
  ): TurnFile | undefined
  /**
   * Follows a machine that slept and a clock that was set. True when something of that happened.
   */
  look(): boolean
}
export interface IterationTimeOptions {
  turn(): TurnFile | undefined
  keep(turn: TurnFile): boolean
  nowMs(): number
  /** A clock that nobody sets and that also counts while the machine sleeps. */
  steadyMs(): number
  emit(kind: Reported["kind"], message: string): void
}
/** Smaller corrections of the clock are nobody's concern. */
export const clockSetMs = 2000
/**
 * Claude's Bash gives a command two minutes by default: what stood still for less than half of that
 * rarely made one time out.
 */
const toldStandstillMs = 60_000
const standstillsMax = 5

/** The moment from which it would have run as long as it has, had it never stood still. */
export const runningSinceMs = ({ sinceMs, notRunMs = 0 }: TurnFile): number => sinceMs + notRunMs

export function createIterationTime({
  turn: turnOf,
  keep,
  nowMs,
  steadyMs,
  emit,
}: IterationTimeOptions): IterationTime {
  const time = measureRunning(steadyMs)
  const found = turnOf()
  if (found) time.start(found.still?.ranMs ?? Math.max(0, nowMs() - runningSinceMs(found)))

  /** What the model is to be told at its next hook. */
  const stood = (stoodMs: number): void => {
    const turn = turnOf()
    if (!turn || stoodMs < toldStandstillMs) return
    const toMs = nowMs()
    const standstill = { fromMs: Math.round(toMs - stoodMs), toMs }
    keep({ ...turn, stood: [...(turn.stood ?? []), standstill].slice(-standstillsMax) })
  }

  return {
    ms: time.ms,
    begin: () => time.start(0),
    still(isStill) {
      time.freeze(isStill)
      const turn = turnOf()
      if (!turn || isStill === (turn.still !== undefined)) return 0
      const atMs = nowMs()
      if (isStill) {
        keep({ ...turn, still: { sinceMs: atMs, ranMs: time.ms() } })
        return 0
      }
      const { still = { sinceMs: atMs }, ...rest } = turn
      const stoodMs = Math.max(0, atMs - still.sinceMs)
      keep({ ...rest, notRunMs: (rest.notRunMs ?? 0) + stoodMs })
      stood(stoodMs)
      return stoodMs
    },
    standstillTold() {
      const { stood: told, ...rest } = turnOf() ?? {}
      if (told && "id" in rest) keep(rest)
    },
    stopped(how) {
      const turn = turnOf()
      if (!turn) return
      const failed = how === "Failed"
      keep({
        ...turn,
        stopped: { atMs: nowMs(), ranMs: time.ms(), sinceBootMs: Math.round(steadyMs()), failed },
      })
    },
    goesOn() {
      const { stopped, ...rest } = turnOf() ?? {}
      if (stopped && "id" in rest) keep(rest)
    },
    overdue(minutesMax, works) {
      const turn = turnOf()
      if (!turn || turn.overdue) return undefined
      const { id, iteration, halfTold, stopped } = turn
      const ranMs = time.ms()
      const overdue = iterationLimitOf(turn, ranMs, minutesMax, () =>
        works(id, stopped?.sinceBootMs ?? 0),
      )
      if (overdue) {
        keep({ ...turn, overdue })
        emit("Warning", `Iteration ${iteration}: ${overdue.message}`)
        return turn
      }
      if (halfTold || ranMs < minutesMax * 30_000) return undefined
      keep({ ...turn, halfTold: true })
      emit("Warning", halfwayWords(iteration, minutesMax))
      return undefined
    },
    look() {
      const sleptMs = Math.round(time.standstillMs())
      const before = turnOf()
      if (before && sleptMs > 0) keep({ ...before, notRunMs: (before.notRunMs ?? 0) + sleptMs })
      stood(sleptMs)
      const turn = turnOf()
      if (!turn || turn.still) return false
      const setMs = nowMs() - time.ms() - runningSinceMs(turn)
      if (Math.abs(setMs) > clockSetMs) keep({ ...turn, sinceMs: turn.sinceMs + setMs })
      else if (sleptMs === 0) return false
      return true
    },
  }
}
