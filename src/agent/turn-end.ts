import { setTimeout as sleep } from "node:timers/promises"
import { endFound, freeze } from "../host/process-signals.ts"
import { isAlive, members, type Process, processesOfTurn, read } from "../host/processes.ts"
import type { TurnFile } from "../run/run-directory.ts"
import { graceSeconds } from "./launch.ts"
import { createTurnProcesses, type TurnProcessesOptions } from "./turn-processes.ts"

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
  /** Ends claudes that were started after an iteration by what it left behind. */
  sweep(): void
}
export interface TurnEndOptions extends TurnProcessesOptions {
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
const lookMs = 20
/** From when on what starts claude again and again is ended with it. */
const patienceMs = (graceSeconds + 2) * 1000
const killed = 137

export function createTurnEnd(options: TurnEndOptions): TurnEnd {
  const { self, running, isFrozen, warn, ended } = options
  const processes = createTurnProcesses(options)
  /** The turn whose early or untidy end people know. */
  let accusedTurn: string | undefined
  /** The turn whose strays people know: once is enough for each. */
  let sweptTurn: string | undefined
  let isSweeping = false

  const claudesOf = (turn: TurnFile): readonly Process[] => {
    const { main, others } = processes.find(turn)
    return [...main, ...others]
  }
  const grace = (): number => (isFrozen() ? 0 : graceSeconds)
  const awaitShim = (turn: TurnFile): Promise<void> => endByShim(turn, running, ended)

  return {
    async said(turn, conclude) {
      const first = processes.find(turn)
      if (first.main.length + first.others.length === 0) return conclude()
      await sleep(settleMs)
      const { main, others } = processes.find(turn)
      const { id, iteration } = turn
      if (running()?.id !== id) return
      // Its own claude shim speaks when its claude is gone: who spoke before was somebody else.
      const finish = (): void | Promise<void> =>
        first.main.length > 0 ? awaitShim(turn) : conclude()
      if (main.length + others.length === 0) return finish()
      if (accusedTurn !== id)
        warn(
          main.length > 0
            ? `Something reported the end of iteration ${iteration} while its claude was still running; that claude was ended.`
            : `Iteration ${iteration} left a claude running; it was ended.`,
        )
      accusedTurn = id
      const beganMs = performance.now()
      await endFound(grace(), () => {
        if (performance.now() - beganMs < patienceMs) return claudesOf(turn)
        const all = (): readonly Process[] => [
          ...claudesOf(turn),
          ...processes.find(turn).everything(),
        ]
        freeze(all) // nothing of it starts another one meanwhile
        return all()
      })
      return finish()
    },
    async force(turn) {
      await endFound(grace(), () => [
        ...members(processesOfTurn(turn.id), self),
        ...claudesOf(turn),
      ])
      await awaitShim(turn)
    },
    sweep() {
      if (isSweeping) return
      const find = (): readonly Process[] => processes.strays(running())
      const turn = running()?.id
      if (find().length === 0) return
      isSweeping = true
      if (sweptTurn !== `${turn}`)
        warn("Something that an iteration left behind started claude without a turn; it was ended.")
      sweptTurn = `${turn}`
      void endFound(grace(), find).finally(() => {
        isSweeping = false
      })
    },
  }
}

/** Its claude shim reports how its claude ended. One that does not is none, and is ended too. */
async function endByShim(
  { id, shim }: TurnFile,
  running: TurnEndOptions["running"],
  ended: TurnEndOptions["ended"],
): Promise<void> {
  const isRunning = (): boolean => running()?.id === id
  for (let waitedMs = 0; isRunning() && isAlive(shim) && waitedMs < tellMsMax; waitedMs += lookMs)
    await sleep(lookMs)
  if (!isRunning()) return
  await endFound(0, () => {
    const left = isAlive(shim) ? read(shim.pid) : undefined
    return left ? [left] : []
  })
  if (isRunning()) ended(id, killed)
}
