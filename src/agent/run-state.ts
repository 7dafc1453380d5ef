import type { Marker } from "../core/beat.ts"
import type { Directive } from "../core/directive.ts"
import type { Exit, Problem } from "../core/instance.ts"
import type { RunFile, TurnFile } from "../run/run-directory.ts"

/**
 * What one run is doing: its states, what can happen to it, and what can follow. `run-step.ts`
 * decides, `supervisor.ts` gathers the inputs and performs the effects.
 */

/** What decides how a run ends; it never changes. */
export type RunTerms = Pick<RunFile, "mode" | "completion">

export interface RunFacts {
  readonly terms: RunTerms
  /** What the fleet said last, to this supervisor or to its predecessor. */
  readonly lastDirective: Directive | undefined
  /**
   * The fleet has spoken to this supervisor. Until it does, nothing is frozen, thawed or begun: its
   * predecessor's directive may be out of date.
   */
  readonly isDirected: boolean
}

/** The work tree is being made; the loop is not there yet. */
export interface Preparing extends RunFacts {
  readonly phase: "preparing"
  /** The loop is to stand still as soon as it is there. */
  readonly startsFrozen: boolean
  readonly beatAtMs: number
}

interface Watched extends RunFacts {
  /**
   * A predecessor started the loop, and may have been killed between two signals: the first
   * directive is carried out whatever was found.
   */
  readonly isInherited: boolean
  /** When a beat was last sent for want of news. */
  readonly beatAtMs: number
  /** The turn that is being ended because its claude shim died. */
  readonly orphan: string | undefined
}

export interface Running extends Watched {
  readonly phase: "running"
}

export interface Frozen extends Watched {
  readonly phase: "frozen"
  /** People know that a process could not be stopped: once is enough for each freeze. */
  readonly hasWarned: boolean
}

/** Its processes are being ended, and its last words said. */
export interface Ending extends RunFacts {
  readonly phase: "ending"
  readonly wasFrozen: boolean
  readonly exit: RunExit
  readonly problem: Problem | undefined
}

export interface Ended extends RunFacts {
  readonly phase: "ended"
}

/** Its end is not decided yet. */
export type LiveState = Preparing | Running | Frozen
export type RunState = LiveState | Ending | Ended

/** How a run ended, before the moment is known at which not one process of it is left. */
export type RunExit = Omit<Exit, "atMs">

/** What a supervisor finds in the run directory and among the processes before it does anything. */
export interface FoundRun {
  readonly terms: RunTerms
  /** A predecessor started the loop. */
  readonly hasLoop: boolean
  /** There are processes of the run, and every one of them is stopped. */
  readonly standsStill: boolean
  readonly lastDirective: Directive | undefined
  /** By a clock that nobody sets, as in every `look`. */
  readonly nowMs: number
}

export type RunInput =
  /** The port is open, so that a loop can be started or goes on. */
  | { readonly type: "opened"; readonly launchLost: boolean; readonly stopRequested: boolean }
  | { readonly type: "portTaken"; readonly cause: string }
  | { readonly type: "treePrepared"; readonly problem: Problem | undefined }
  | { readonly type: "loopStarted" }
  | { readonly type: "loopNotStarted"; readonly problem: Problem }
  /** Another supervisor has started the loop. */
  | { readonly type: "rivalFound" }
  /** `runningTurn` is the id of the iteration that runs. */
  | {
      readonly type: "directive"
      readonly directive: Directive
      readonly runningTurn: string | undefined
    }
  | { readonly type: "processesFrozen"; readonly all: boolean }
  /** Twice a second. */
  | { readonly type: "look"; readonly nowMs: number }
  /** An iteration wants a turn, began, ended, or used something. */
  | { readonly type: "iterationsChanged" }
  /** A claude asks for its turn. `isKnown`: it has asked before. */
  | {
      readonly type: "turnRequested"
      readonly isKnown: boolean
      readonly lastOutcome: Marker | undefined
    }
  | { readonly type: "iterationEnded"; readonly end: IterationEnd }
  /** The iteration that runs must be ended from outside. */
  | { readonly type: "turnToEnd"; readonly turn: TurnFile; readonly why: TurnToEndReason }
  /**
   * `isUncontrolled`: an iteration ran without its hooks, so what the loop says is not believed.
   */
  | {
      readonly type: "loopEnded"
      readonly code: number
      readonly hasRunClaude: boolean
      readonly lastOutcome: Marker | undefined
      readonly isUncontrolled: boolean
    }
  | { readonly type: "stopRequested" }
  /** The fleet has another place for this instance. */
  | { readonly type: "replaced" }
  /** Not one process is left, and everything is said and written. */
  | { readonly type: "finished" }

/**
 * `unheard`: it asked no hook; `overdue`: it ran too long, or its claude stopped and does not exit;
 * `orphaned`: its claude shim died, so that nobody would report its end.
 */
export type TurnToEndReason = "unheard" | "overdue" | "orphaned"

export interface IterationEnd {
  readonly code: number
  readonly failed: boolean
  /** For a limit or a person: it has not had its iteration yet. */
  readonly waits: boolean
  /** What it said, or why it failed. */
  readonly text: string
}

export type RunEffect =
  | { readonly type: "prepareTree" }
  | { readonly type: "inspectTree" }
  | { readonly type: "startLoop" }
  | { readonly type: "freeze" }
  | { readonly type: "thaw" }
  /** The time in which all processes stand still counts for nobody. */
  | { readonly type: "countStandstill"; readonly isFrozen: boolean }
  /** Sends a beat now. */
  | { readonly type: "beat" }
  /** Something that a beat says has changed. */
  | { readonly type: "reportChange" }
  | { readonly type: "keepDirective"; readonly directive: Directive }
  | { readonly type: "grantTurn"; readonly directive: Directive }
  | { readonly type: "warn"; readonly message: string }
  /** What nobody reports is looked for: a loop that is no child of ours, ... */
  | { readonly type: "findLoopExit" }
  /** ... an iteration that asks no hook or takes too long, ... */
  | { readonly type: "findLateTurn" }
  /** ... a claude shim that died, ... */
  | { readonly type: "findOrphan" }
  /** ... and a claude that was started by what an iteration left behind. */
  | { readonly type: "sweep" }
  | { readonly type: "retryDisk" }
  | { readonly type: "followClock" }
  | { readonly type: "endTurn"; readonly turn: TurnFile }
  | { readonly type: "judgeIteration" }
  /** Ends every process, says and writes the rest. */
  | { readonly type: "endRun"; readonly exit: RunExit; readonly problem: Problem | undefined }
  /** Closes everything and touches nothing: the run is another supervisor's. */
  | { readonly type: "leave" }

/** What follows from an input: the next state, and what is to be done, in this order. */
export type RunStep = readonly [RunState, readonly RunEffect[]]

export function initialState({
  terms,
  hasLoop,
  standsStill,
  lastDirective,
  nowMs,
}: FoundRun): LiveState {
  const facts = { terms, lastDirective, isDirected: false, beatAtMs: nowMs }
  if (!hasLoop) return { ...facts, phase: "preparing", startsFrozen: false }
  const watched = { ...facts, isInherited: true, orphan: undefined }
  return standsStill
    ? { ...watched, phase: "frozen", hasWarned: false }
    : { ...watched, phase: "running" }
}

/** The run's end is decided, or over. */
export const isEnding = (state: RunState): state is Ending | Ended =>
  state.phase === "ending" || state.phase === "ended"

/** What a beat says of its processes. */
export function isFrozen(state: RunState): boolean {
  switch (state.phase) {
    case "preparing":
      return state.startsFrozen
    case "ending":
      return state.wasFrozen
    default:
      return state.phase === "frozen"
  }
}

/** The turn that the fleet has granted to this supervisor. */
export const grantedTurn = (state: RunState): Directive["turn"] =>
  state.isDirected ? state.lastDirective?.turn : undefined

/** What outlives a state. */
export const factsOf = ({ terms, lastDirective, isDirected }: RunState): RunFacts => ({
  terms,
  lastDirective,
  isDirected,
})
