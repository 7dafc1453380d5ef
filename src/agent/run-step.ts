import type { Directive } from "../core/directive.ts"
import type { TurnFile } from "../run/run-directory.ts"
import {
  endIteration,
  endLoop,
  endRunWith,
  isThrough,
  killed,
  notFound,
  portTaken,
  tempFail,
  terminated,
} from "./run-endings.ts"
import {
  type Ended,
  type Ending,
  factsOf,
  grantedTurn,
  isEnding,
  isFrozen,
  type LiveState,
  type RunEffect,
  type RunInput,
  type RunState,
  type RunStep,
  type TurnToEndReason,
} from "./run-state.ts"

/**
 * What follows from what happens to a run. Pure: moments come with the inputs, and `supervisor.ts`
 * performs the effects in their order.
 */

/** A beat is sent at once on a change, else this often. */
export const beatMs = 5000

const none: readonly RunEffect[] = []

export function step(state: RunState, input: RunInput): RunStep {
  if (input.type === "finished") return [{ ...factsOf(state), phase: "ended" }, none]
  if (isEnding(state)) return stepToEnd(state, input)
  switch (input.type) {
    case "opened":
      return open(state, input)
    case "portTaken":
      // The loop and its claude know that port alone: they cannot go on, and are started again with
      // another.
      return endRunWith(state, { code: tempFail }, portTaken(input.cause))
    case "treePrepared":
      if (input.problem) return endRunWith(state, { code: notFound }, input.problem)
      return [state, state.phase === "preparing" ? [{ type: "startLoop" }] : none]
    case "loopStarted":
      return watch(state)
    case "loopNotStarted":
      return endRunWith(state, { code: notFound }, input.problem)
    case "rivalFound":
      return [{ ...factsOf(state), phase: "ended" }, [{ type: "leave" }]]
    case "directive":
      return direct(state, input)
    case "processesFrozen":
      return judgeFreeze(state, input.all)
    case "look":
      return look(state, input.nowMs)
    case "iterationsChanged":
      return [state, [{ type: "reportChange" }, ...grant(state)]]
    case "turnRequested":
      return isThrough(state, input)
        ? endRunWith(state, { code: 0, outcome: "Complete" })
        : [state, none]
    case "iterationEnded":
      return endIteration(state, input.end)
    case "turnToEnd":
      return endTurn(state, input)
    case "loopEnded":
      return endLoop(state, input)
    default:
      return endRunWith(state, { code: terminated }) // somebody stopped it, or it has another place
  }
}

/** All that still counts once the end is decided. */
function stepToEnd(state: Ending | Ended, input: RunInput): RunStep {
  if (input.type === "directive") return remember(state, input.directive)
  if (input.type === "iterationEnded") return [state, [{ type: "judgeIteration" }]]
  if (input.type === "iterationsChanged") return [state, [{ type: "reportChange" }]]
  return [state, none]
}

function open(
  state: LiveState,
  { launchLost, stopRequested }: { launchLost: boolean; stopRequested: boolean },
): RunStep {
  // A loop is started once in a run: whoever dies between its start and the note of it leaves a run
  // that is over.
  if (state.phase === "preparing" && launchLost) return endRunWith(state, { code: killed })
  // It was written down before this supervisor listened: the loop is not even started.
  if (stopRequested) return endRunWith(state, { code: terminated })
  return [state, [{ type: state.phase === "preparing" ? "prepareTree" : "inspectTree" }]]
}

function watch(state: LiveState): RunStep {
  if (state.phase !== "preparing") return [state, none]
  const { beatAtMs, startsFrozen } = state
  const watched = { ...factsOf(state), beatAtMs, isInherited: false, orphan: undefined }
  return startsFrozen
    ? [
        { ...watched, phase: "frozen", hasWarned: false },
        [{ type: "freeze" }, { type: "countStandstill", isFrozen: true }],
      ]
    : [{ ...watched, phase: "running" }, none]
}

function remember<S extends RunState>(state: S, directive: Directive): [S, readonly RunEffect[]] {
  const isNew = JSON.stringify(state.lastDirective) !== JSON.stringify(directive)
  return [
    { ...state, lastDirective: directive, isDirected: true },
    isNew ? [{ type: "keepDirective", directive }] : none,
  ]
}

function direct(
  before: LiveState,
  { directive, runningTurn }: { directive: Directive; runningTurn: string | undefined },
): RunStep {
  const [state, kept] = remember(before, directive)
  const isGrantedAgain = grantedTurn(before)?.grantedAtMs !== directive.turn?.grantedAtMs
  const told: readonly RunEffect[] =
    isGrantedAgain || kept.length > 0 ? [{ type: "reportChange" }] : none
  // A running iteration whose turn is no longer granted stands still, like one that the fleet
  // freezes.
  const standsStill =
    directive.freeze !== undefined ||
    (runningTurn !== undefined && directive.turn?.id !== runningTurn)
  const [next, effects] = obey(state, standsStill)
  return [next, [...kept, ...effects, ...grant(next), ...told]]
}

/** Lets processes go on or stand still, where they do not yet, or where nobody knows. */
function obey(state: LiveState, standsStill: boolean): RunStep {
  if (state.phase === "preparing")
    return standsStill === state.startsFrozen
      ? [state, none]
      : [{ ...state, startsFrozen: standsStill }, [{ type: "beat" }]]
  const changes = standsStill !== isFrozen(state)
  const signals: readonly RunEffect[] =
    changes || state.isInherited ? [{ type: standsStill ? "freeze" : "thaw" }] : none
  const { terms, lastDirective, isDirected, beatAtMs, orphan } = state
  const watched = { terms, lastDirective, isDirected, beatAtMs, orphan, isInherited: false }
  if (!changes) return [{ ...state, isInherited: false }, signals]
  return [
    standsStill
      ? { ...watched, phase: "frozen", hasWarned: false }
      : { ...watched, phase: "running" },
    [...signals, { type: "countStandstill", isFrozen: standsStill }, { type: "beat" }],
  ]
}

/** Begins the iteration that asks, if the fleet has granted its turn. */
const grant = (state: RunState): readonly RunEffect[] =>
  state.phase === "running" && state.isDirected && state.lastDirective
    ? [{ type: "grantTurn", directive: state.lastDirective }]
    : none

/** It is tried again with the beats, until a directive lets the processes go on. */
function judgeFreeze(state: LiveState, all: boolean): RunStep {
  if (all || state.phase !== "frozen" || state.hasWarned) return [state, none]
  const message = "Some processes could not be stopped; the supervisor keeps trying."
  return [{ ...state, hasWarned: true }, [{ type: "warn", message }]]
}

function look(before: LiveState, nowMs: number): RunStep {
  const isDue = nowMs - before.beatAtMs >= beatMs
  const state = isDue ? { ...before, beatAtMs: nowMs } : before
  switch (state.phase) {
    case "preparing":
      return [state, [...always, ...(isDue ? beat : none)]]
    case "running":
      return [state, [...running, ...always, ...grant(state), ...(isDue ? sweepAndBeat : none)]]
    default:
      return [state, [...frozen, ...always, ...(isDue ? freezeAndBeat : none)]]
  }
}
const always: readonly RunEffect[] = [{ type: "retryDisk" }, { type: "followClock" }]
const running: readonly RunEffect[] = [
  { type: "findLoopExit" },
  { type: "findLateTurn" },
  { type: "findOrphan" },
]
/** An iteration that stands still is neither late nor deaf. */
const frozen: readonly RunEffect[] = [{ type: "findLoopExit" }, { type: "findOrphan" }]
const beat: readonly RunEffect[] = [{ type: "beat" }]
const sweepAndBeat: readonly RunEffect[] = [{ type: "sweep" }, { type: "beat" }]
/** What was started from outside meanwhile is stopped, too. */
const freezeAndBeat: readonly RunEffect[] = [{ type: "freeze" }, { type: "beat" }]

function endTurn(
  state: LiveState,
  { turn, why }: { turn: TurnFile; why: TurnToEndReason },
): RunStep {
  const ended: readonly RunEffect[] = [{ type: "endTurn", turn }]
  if (why !== "orphaned" || state.phase === "preparing") return [state, ended]
  // Its claude must not go on without a turn. It is found at every look until it is gone.
  return state.orphan === turn.id ? [state, none] : [{ ...state, orphan: turn.id }, ended]
}
