import { iterationMinutesMaxDefault } from "../core/directive.ts"
import type { Guarded } from "../host/guarded.ts"
import { thaw } from "../host/process-signals.ts"
import { find, processesOfTurn, tickMs } from "../host/processes.ts"
import { adoptedExit, startLoop } from "./launch.ts"
import type { RunMachine } from "./run-machine.ts"
import type { RunParts } from "./run-parts.ts"
import { isEnding, type RunEffect, type RunExit } from "./run-state.ts"
import type { PortAccess } from "./settings.ts"
import type { SupervisedRun } from "./supervised-run.ts"

export interface RunEffectsOptions {
  readonly found: SupervisedRun
  readonly parts: RunParts
  readonly take: RunMachine["take"]
  readonly state: RunMachine["state"]
  /** What the instance's processes must not change. */
  guarded(): Guarded
  /** The loop's stdout and stderr. */
  openForLoop(): number
  access(): PortAccess
  /** How long passes between two looks. */
  readonly lookMs: number
  endRun(exit: RunExit, problem: Extract<RunEffect, { type: "endRun" }>["problem"]): void
  leave(): void
  /** Something failed that nobody foresaw: the supervisor ends, and its runtime starts another. */
  failed(error: unknown): void
}

type Performers = {
  readonly [K in RunEffect["type"]]: (effect: Extract<RunEffect, { type: K }>) => void
}

/** Does what `run-step.ts` decides. */
export function createRunEffects(options: RunEffectsOptions): (effect: RunEffect) => void {
  const { found, parts, take } = options
  const { link, disk, iterations, workspace, turnEnd, activity } = parts
  const performers: Performers = {
    prepareTree() {
      workspace
        .prepare()
        .then((problem) => take({ type: "treePrepared", problem }))
        .catch(options.failed)
    },
    inspectTree: () => void workspace.look(),
    startLoop: () => void start(options).catch(options.failed),
    freeze: () => take({ type: "processesFrozen", all: found.freezeAll() }),
    thaw: () => thaw(found.search),
    countStandstill: ({ isFrozen }) => activity.postpone(iterations.time.still(isFrozen)),
    beat: link.beat,
    reportChange: link.changed,
    keepDirective: ({ directive }) => void disk.set("directive", directive),
    grantTurn: ({ directive }) => iterations.grant(directive),
    warn: ({ message }) => link.warn(message),
    findLoopExit() {
      const code = found.loop && adoptedExit(found.directory, found.loop)
      if (code !== undefined) take(loopEnded(parts, code))
    },
    findLateTurn: () => findLateTurn(options),
    findOrphan() {
      const turn = iterations.orphaned()
      if (turn) take({ type: "turnToEnd", turn, why: "orphaned" })
    },
    sweep: turnEnd.sweep,
    retryDisk: () => void disk.retry(),
    followClock: iterations.look,
    endTurn: ({ turn }) => void turnEnd.force(turn),
    judgeIteration() {
      activity.set(undefined)
      void workspace.look().then(() => iterations.judge(workspace.report().work?.commits))
    },
    endRun: ({ exit, problem }) => options.endRun(exit, problem),
    leave: options.leave,
  }
  // TypeScript does not follow the type from the effect to its own entry of the table.
  return (effect) => (performers[effect.type] as (effect: RunEffect) => void)(effect)
}

const loopEnded = ({ iterations }: RunParts, code: number) =>
  ({
    type: "loopEnded",
    code,
    hasRunClaude: iterations.ran(),
    lastOutcome: iterations.lastOutcome(),
    isUncontrolled: iterations.uncontrolled(),
  }) as const

async function start(options: RunEffectsOptions): Promise<void> {
  const { found, parts, take, state } = options
  const { disk, link } = parts
  const outside = { guarded: options.guarded, warn: link.warn }
  const over = (code: number): void => take(loopEnded(parts, code))
  const failure = await disk.whenThereIsRoom(() =>
    // While there was no room, somebody may have stopped the run.
    isEnding(state())
      ? undefined
      : startLoop(found.directory, disk, options, options.access(), over, outside),
  )
  if (failure === "Rival") take({ type: "rivalFound" })
  else if (failure) take({ type: "loopNotStarted", problem: failure })
  else take({ type: "loopStarted" })
}

function findLateTurn({ found, parts, take, state, lookMs }: RunEffectsOptions): void {
  const { iterations } = parts
  const unheard = iterations.unheard(lookMs)
  if (unheard) take({ type: "turnToEnd", turn: unheard, why: "unheard" })
  const minutesMax = state().lastDirective?.iterationMinutesMax ?? iterationMinutesMaxDefault
  const beganSince = (turn: string, sinceBootMs: number): boolean =>
    find(processesOfTurn(turn), found.self).some(
      ({ startTicks }) => startTicks * tickMs >= sinceBootMs,
    )
  const overdue = iterations.time.overdue(minutesMax, beganSince)
  if (overdue) take({ type: "turnToEnd", turn: overdue, why: "overdue" })
}
