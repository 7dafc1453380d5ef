import {
  entryOf,
  instanceVariable,
  isAlive,
  isFirstOfNamespace,
  isMarked,
  members,
  type Process,
  type ProcessId,
  processesOfTurn,
  type Search,
  turnVariable,
} from "../host/processes.ts"
import type { TurnFile } from "../run/run-directory.ts"
import type { ClaudeProgram } from "./claude-program.ts"

/** Which processes of a run belong to an iteration, and which of them run claude. */
export interface TurnProcesses {
  find(turn: TurnFile): FoundTurn
  /** Claudes that run without the turn that is there now, if there is one. */
  strays(running: TurnFile | undefined): readonly Process[]
}
export interface FoundTurn {
  /** What its claude shim started. */
  readonly main: readonly Process[]
  /** Claudes elsewhere. */
  readonly others: readonly Process[]
  /** Everything that began with it, whatever it is. */
  everything(): readonly Process[]
}
export interface TurnProcessesOptions {
  /** The run's processes. */
  readonly search: Search
  /**
   * Those of them that are found by a walk down from the loop: cheap enough for every few seconds.
   */
  readonly below: Search
  readonly self: ReadonlySet<number>
  readonly program: ClaudeProgram
  loop(): ProcessId | undefined
  /** Where the real claude is. */
  claude(): string
}

type ProcessTable = ReadonlyMap<number, Process>

export function createTurnProcesses(options: TurnProcessesOptions): TurnProcesses {
  const { search, below, self, program, loop } = options
  const isClaude = ({ pid }: ProcessId): boolean => program.isRunBy(pid)
  const tableOf = (where: Search): ProcessTable => {
    program.learn(options.claude())
    return new Map([...where()].map((one) => [one.pid, one]))
  }
  return {
    find({ id, shim }) {
      const all = tableOf(search)
      const main = isAlive(shim) ? [...all.values()].filter((one) => isBelow(one, shim, all)) : []
      const entry = entryOf(processesOfTurn(id))
      const isOfTurn = (one: Process): boolean =>
        isMarked(one.pid, entry) ||
        (one.startTicks >= shim.startTicks && one.pid !== shim.pid && !isLoops(one, loop(), all))
      return {
        main,
        others: [...all.values()].filter(
          (one) => !main.includes(one) && isClaude(one) && isOfTurn(one),
        ),
        everything: () => [
          ...members(processesOfTurn(id), self),
          ...[...all.values()].filter(isOfTurn),
        ],
      }
    },
    strays(running) {
      const all = tableOf(below)
      const entry = running && entryOf(processesOfTurn(running.id))
      const isStray = (one: Process): boolean => {
        if (isMarked(one.pid, anyTurn)) return !entry || !isMarked(one.pid, entry)
        return !running && !isMarked(one.pid, anyRun) && !isLoops(one, loop(), all)
      }
      return [...all.values()].filter((one) => isClaude(one) && isStray(one))
    },
  }
}
const anyTurn = Buffer.from(`${turnVariable}=`)
const anyRun = Buffer.from(`${instanceVariable}=`)

function isBelow({ parent }: Process, shim: ProcessId, all: ProcessTable): boolean {
  if (parent === shim.pid) return true
  const up = all.get(parent)
  return up !== undefined && isBelow(up, shim, all)
}

/**
 * True for what the loop itself started, not something that an iteration left to the namespace's
 * first process, or to the system's.
 */
function isLoops(one: Process, loop: ProcessId | undefined, all: ProcessTable): boolean {
  let top = one
  for (let up = all.get(top.parent); up && !isFirstOfNamespace(up.pid); up = all.get(top.parent))
    top = up
  if (top.pid === loop?.pid) return true
  const siblings = all.has(top.parent)
    ? [...all.values()].filter(({ parent }) => parent === top.parent)
    : []
  const isOlder = ({ startTicks, pid }: Process): boolean =>
    startTicks < top.startTicks || (startTicks === top.startTicks && pid < top.pid)
  return siblings.length > 0 && !siblings.some(isOlder)
}
