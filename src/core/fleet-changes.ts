import type { Uid } from "./instance.ts"
import type { Source } from "./source.ts"
import type { ToolContext } from "./tool.ts"

/** The least time between two looks: a busy agent sends many beats a second. */
const settleMs = 100
/** The most between two looks: some phases change by time alone (a silence, the end of a pause). */
const lookMs = 5000

export interface ChangeStream {
  /** True when one of them may have changed; false when the time is over or the caller is gone. */
  next(): Promise<boolean>
  end(): void
}

/**
 * Changes of some instances, by spec, status, beat or turn. Begins before it returns, so that none
 * is missed after it.
 */
export function watchChanges(
  { store, reports, turns, clock, signal }: ToolContext,
  names: ReadonlySet<string>,
  uids: ReadonlySet<Uid>,
  waitMs: number,
): ChangeStream {
  const stop = new AbortController()
  const both = AbortSignal.any([signal, stop.signal])
  let dirty = false
  let isOver = waitMs <= 0
  let wake = (): void => {}
  // By the clock's timer, not by its reading, which may be set back meanwhile.
  const cancelEnd = clock.after(waitMs, () => {
    isOver = true
    wake()
  })
  const aborted = (): void => wake()
  both.addEventListener("abort", aborted)
  const follow = async <K extends string>(
    source: Source<K>,
    ours: ReadonlySet<K>,
  ): Promise<void> => {
    for await (const key of source(both))
      if (ours.has(key)) {
        dirty = true
        wake()
      }
  }
  // A source never throws; it ends with the signal.
  void follow(store.replica.watch, names)
  void follow(reports.beats.watch, uids)
  void follow(reports.waits.watch, uids)
  void follow(turns.replica.watch, uids)
  const rest = (ms: number, enough: () => boolean): Promise<void> =>
    new Promise((resolve) => {
      const cancel = clock.after(ms, () => resolve())
      wake = () => {
        if (!isOver && !both.aborted && !enough()) return
        cancel()
        resolve()
      }
      wake()
    })
  return {
    async next() {
      if (isOver || both.aborted) return false
      await rest(lookMs, () => dirty)
      if (dirty && !isOver) await rest(settleMs, () => false)
      dirty = false
      return !both.aborted
    },
    end() {
      cancelEnd()
      stop.abort()
    },
  }
}
