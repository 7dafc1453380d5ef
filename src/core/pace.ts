import type { Invoke } from "./invoke.ts"

/**
 * Lets work begin a few pieces at a time, so that between them all else has its turn: sixty clients
 * whose looks at the fleet all came at once would else keep a mail, or the word of a supervisor,
 * from the processor until the last of them was answered.
 */
export interface PaceOptions {
  /** Pieces that may begin in one turn of the event loop. */
  readonly perTurn: number
  /** Calls in the next turn, after what has come meanwhile. */
  nextTurn(then: () => void): void
}

/** Resolves when the caller may begin: at once while few do. The callers bound how many wait. */
export function createPace({ perTurn, nextTurn }: PaceOptions): () => Promise<void> {
  const waiting: (() => void)[] = []
  let begun = 0
  const next = (): void => {
    const now = waiting.splice(0, perTurn)
    begun = now.length
    if (begun > 0) nextTurn(next)
    for (const begin of now) begin()
  }
  return () => {
    if (begun === 0) nextTurn(next)
    if (begun < perTurn && waiting.length === 0) {
      begun += 1
      return Promise.resolve()
    }
    return new Promise((resolve) => void waiting.push(resolve))
  }
}

/** Calls that only look keep to the pace; what steers the fleet does not wait for them. */
export const paced =
  (invoke: Invoke, isLook: (tool: string) => boolean, begin: () => Promise<void>): Invoke =>
  async (tool, input, call) => {
    if (isLook(tool)) await begin()
    return invoke(tool, input, call)
  }
