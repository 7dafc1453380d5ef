import { setTimeout as sleep } from "node:timers/promises"
import {
  endFound,
  entryOf,
  freeze,
  instanceVariable,
  isAlive,
  isFirstOfNamespace,
  isMarked,
  members,
  type Process,
  type ProcessId,
  processesOfTurn,
  read,
  type Search,
  turnVariable,
} from "../host/processes.ts"
import type { TurnFile } from "../run/run-directory.ts"
import type { ClaudeProgram } from "./claude-program.ts"
import { graceSeconds } from "./launch.ts"

/**
 * The end of an iteration, as its processes show it. Whoever has the port's token can say that a
 * turn is over; it is over when its claudes are gone. Other programs that it left running, a server
 * for example, live on.
 */

export interface TurnEnd {
  /**
   * Somebody says that the iteration is over. `conclude` is called once nothing of it runs, unless
   * its own claude shim has yet to tell its end.
   */
  said(turn: TurnFile, conclude: () => void): Promise<void>
  /** Ends an iteration from outside, with all of its processes. */
  force(turn: TurnFile): Promise<void>
  /** Ends claudes that what an iteration left behind started after it. */
  sweep(): void
}
export interface TurnEndOptions {
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
  /** The iteration that runs. */
  running(): TurnFile | undefined
  isFrozen(): boolean
  warn(message: string): void
  ended(id: string, code: number): void
}
/** What claude forked last ends with it: it is looked at again before anybody is accused. */
const settleMs = 200
/** A claude shim whose claude was ended tells that within milliseconds. */
const tellMsMax = 5000
/** From when on what starts claude again and again is ended with it. */
const patienceMs = (graceSeconds + 2) * 1000
const killed = 137

export function createTurnEnd(options: TurnEndOptions): TurnEnd {
  const { search, below, self, program, loop, running, isFrozen, warn, ended } = options
  /** The turn whose end was said too early, as people were told. */
  let accused: string | undefined
  /** The turn in which people were told of a sweep: once is enough for each. */
  let swept: string | undefined
  let sweeping = false

  const isClaude = ({ pid }: ProcessId): boolean => program.isRunBy(pid)
  const processesOf = (where: Search): ReadonlyMap<number, Process> => {
    program.learn(options.claude())
    return new Map([...where()].map((one) => [one.pid, one]))
  }
  /**
   * True for what the loop itself started, not something that an iteration left to the namespace's
   * first process, or to the system's.
   */
  const isLoops = (one: Process, all: ReadonlyMap<number, Process>): boolean => {
    let top = one
    for (let up = all.get(top.parent); up && !isFirstOfNamespace(up.pid); up = all.get(top.parent))
      top = up
    if (top.pid === loop()?.pid) return true
    const siblings = all.has(top.parent)
      ? [...all.values()].filter(({ parent }) => parent === top.parent)
      : []
    const isOlder = ({ startTicks, pid }: Process): boolean =>
      startTicks < top.startTicks || (startTicks === top.startTicks && pid < top.pid)
    return siblings.length > 0 && !siblings.some(isOlder)
  }
  const look = (turn: TurnFile) => {
    const all = processesOf(search)
    const { shim } = turn
    const isBelow = ({ parent }: Process): boolean => {
      if (parent === shim.pid) return true
      const up = all.get(parent)
      return up !== undefined && isBelow(up)
    }
    const main = isAlive(shim) ? [...all.values()].filter(isBelow) : []
    const entry = entryOf(processesOfTurn(turn.id))
    const isOfTurn = (one: Process): boolean =>
      isMarked(one.pid, entry) ||
      (one.startTicks >= shim.startTicks && one.pid !== shim.pid && !isLoops(one, all))
    const others = [...all.values()].filter(
      (one) => !main.includes(one) && isClaude(one) && isOfTurn(one),
    )
    /** All that began with it, whatever it is. */
    const whole = (): readonly Process[] => [
      ...members(processesOfTurn(turn.id), self),
      ...[...all.values()].filter(isOfTurn),
    ]
    return { main, others, whole }
  }
  const left = (turn: TurnFile): readonly Process[] => {
    const { main, others } = look(turn)
    return [...main, ...others]
  }
  const grace = (): number => (isFrozen() ? 0 : graceSeconds)

  /** Its claude shim tells how its claude ended. One that does not is none, and is ended too. */
  const heard = async (turn: TurnFile): Promise<void> => {
    const isRunning = (): boolean => running()?.id === turn.id
    for (
      let waitedMs = 0;
      isRunning() && isAlive(turn.shim) && waitedMs < tellMsMax;
      waitedMs += 20
    )
      await sleep(20)
    if (!isRunning()) return
    await endFound(0, () => {
      const shim = isAlive(turn.shim) ? read(turn.shim.pid) : undefined
      return shim ? [shim] : []
    })
    if (isRunning()) ended(turn.id, killed)
  }

  return {
    async said(turn, conclude) {
      const first = look(turn)
      if (first.main.length + first.others.length === 0) return conclude()
      await sleep(settleMs)
      const { main, others } = look(turn)
      const { id, iteration } = turn
      if (running()?.id !== id) return
      // Its own claude shim speaks when its claude is gone: who spoke before was somebody else.
      const over = (): void | Promise<void> => (first.main.length > 0 ? heard(turn) : conclude())
      if (main.length + others.length === 0) return over()
      if (accused !== id)
        warn(
          main.length > 0
            ? `It said that iteration ${iteration} was over while its claude still ran: that claude was ended.`
            : `Iteration ${iteration} left a claude running behind: it was ended.`,
        )
      accused = id
      const beganMs = performance.now()
      await endFound(grace(), () => {
        if (performance.now() - beganMs < patienceMs) return left(turn)
        const all = (): readonly Process[] => [...left(turn), ...look(turn).whole()]
        freeze(all) // nothing of it starts another one meanwhile
        return all()
      })
      return over()
    },
    async force(turn) {
      await endFound(grace(), () => [...members(processesOfTurn(turn.id), self), ...left(turn)])
      await heard(turn)
    },
    sweep() {
      if (sweeping) return
      const find = (): readonly Process[] => {
        const all = processesOf(below)
        const turn = running()
        const now = turn && entryOf(processesOfTurn(turn.id))
        const isOver = (one: Process): boolean => {
          if (isMarked(one.pid, anyTurn)) return !now || !isMarked(one.pid, now)
          return !turn && !isMarked(one.pid, anyRun) && !isLoops(one, all)
        }
        return [...all.values()].filter((one) => isClaude(one) && isOver(one))
      }
      const turn = running()?.id
      if (find().length === 0) return
      sweeping = true
      if (swept !== `${turn}`)
        warn(
          "Something that an iteration left behind started a claude without a turn: it was ended.",
        )
      swept = `${turn}`
      void endFound(grace(), find).finally(() => {
        sweeping = false
      })
    },
  }
}
const anyTurn = Buffer.from(`${turnVariable}=`)
const anyRun = Buffer.from(`${instanceVariable}=`)
