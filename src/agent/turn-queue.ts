import { Fault } from "../core/faults.ts"
import { isAlive, type ProcessId } from "../host/processes.ts"

/** A loop that starts more side by side has lost count of them. */
export const waitingMax = 64
/** One question of the claude shim waits at most this long; it asks again, and keeps its place. */
const askMsMax = 50_000

export interface Waiting {
  readonly id: string
  readonly shim: ProcessId
  readonly sinceMs: number
}
/**
 * The claudes of one run that wait for its turn, in the order in which they first asked: an
 * instance has one turn at a time.
 */
export interface TurnQueue<Grant> {
  first(): Waiting | undefined
  has(id: string): boolean
  /**
   * Resolves with what it is given; undefined when the wait was too long for one call, or the
   * caller is gone. @throws Fault when the queue is full.
   */
  ask(question: Waiting, signal: AbortSignal): Promise<Grant | undefined>
  /** Takes the first out, with an answer if there is one. */
  answer(grant: Grant | undefined): void
  /** Forgets those that died; true when there were any. */
  dropDead(): boolean
  /**
   * After the clock was set back. Instances wait for turns by who asked first: what was counted
   * from a later moment would wait for as long as the clock went back.
   */
  shift(ms: number): void
}

export function createTurnQueue<Grant>(): TurnQueue<Grant> {
  let waiting: { question: Waiting; settle(grant: Grant | undefined): void }[] = []
  return {
    first: () => waiting[0]?.question,
    has: (id) => waiting.some(({ question }) => question.id === id),
    ask(question, signal) {
      const known = waiting.find((one) => one.question.id === question.id)
      if (!known && waiting.length >= waitingMax)
        throw new Fault(
          "TooLarge",
          `${waitingMax} calls of claude are already waiting for this instance's turn.`,
          "Start fewer at the same time.",
        )
      return new Promise((resolve) => {
        const settle = (grant: Grant | undefined): void => {
          clearTimeout(timer)
          resolve(grant)
        }
        const timer = setTimeout(() => settle(undefined), askMsMax)
        signal.addEventListener("abort", () => settle(undefined), { once: true })
        known?.settle(undefined)
        if (known) known.settle = settle
        else waiting.push({ question, settle })
      })
    },
    answer(grant) {
      waiting.shift()?.settle(grant)
    },
    dropDead() {
      const left = waiting.filter(({ question, settle }) => {
        const lives = isAlive(question.shim)
        if (!lives) settle(undefined)
        return lives
      })
      const dropped = left.length < waiting.length
      waiting = left
      return dropped
    },
    shift(ms) {
      for (const one of waiting)
        one.question = { ...one.question, sinceMs: Math.round(one.question.sinceMs - ms) }
    },
  }
}
