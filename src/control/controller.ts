import { backoffMs } from "../core/decide.ts"
import { DiskFull, Fault } from "../core/faults.ts"
import type { Clock } from "../core/ports.ts"
import type { Source } from "../core/source.ts"

/**
 * Brings one key to what it should be, from what it reads now; `afterMs` asks to be called again
 * although nothing changed.
 */
export type Reconcile<K> = (key: K, signal: AbortSignal) => Promise<{ readonly afterMs?: number }>

export interface ControllerOptions<K extends string> {
  readonly sources: readonly Source<K>[]
  readonly reconcile: Reconcile<K>
  readonly workersMax: number
  /** Such a key goes before all others that wait. */
  isUrgent?(key: K): boolean
  readonly clock: Clock
  report(key: K, error: unknown): void
}

const fullDiskMs = 2000
/** setTimeout's own limit is 2^31 - 1 ms: it fires at once beyond it. */
const timerMsMax = 2_000_000_000

/**
 * The one keyed loop: a key waits once, runs once at a time, and reruns if it was dirtied
 * meanwhile. It carries keys only and knows no domain. Ends with the signal, after what runs has
 * returned.
 */
export async function control<K extends string>(
  { sources, reconcile, workersMax, isUrgent = () => false, clock, report }: ControllerOptions<K>,
  signal: AbortSignal,
): Promise<void> {
  const urgent = new Set<K>()
  const waiting = new Set<K>()
  const again = new Set<K>()
  const running = new Map<K, Promise<void>>()
  const timers = new Map<K, () => void>()
  const failures = new Map<K, number>()

  const add = (key: K): void => {
    timers.get(key)?.()
    timers.delete(key)
    if (running.has(key)) again.add(key)
    else queue(key)
    pump()
  }
  const queue = (key: K): void => {
    const list = isUrgent(key) ? urgent : waiting
    if (list === urgent) waiting.delete(key)
    list.add(key)
  }
  const later = (key: K, ms: number): void => {
    if (again.has(key) || signal.aborted) return
    timers.set(
      key,
      clock.after(Math.min(Math.max(0, ms), timerMsMax), () => add(key)),
    )
  }
  const pump = (): void => {
    while (running.size < workersMax && !signal.aborted) {
      const [key] = urgent.size > 0 ? urgent : waiting
      if (key === undefined) return
      urgent.delete(key)
      waiting.delete(key)
      // In a turn of the event loop of its own: a key that dirties itself without end must not keep
      // everything else from its I/O.
      running.set(
        key,
        new Promise((resolve) => setImmediate(resolve)).then(() => run(key)),
      )
    }
  }
  const run = async (key: K): Promise<void> => {
    try {
      const { afterMs } = await reconcile(key, signal)
      failures.delete(key)
      if (afterMs !== undefined) later(key, afterMs)
    } catch (error) {
      report(key, error)
      if (error instanceof Fault && error.terminal)
        failures.delete(key) // only a change can help
      else if (error instanceof DiskFull)
        later(key, fullDiskMs) // no failure of this key's: it goes on as soon as there is room
      else {
        const count = failures.get(key) ?? 0
        failures.set(key, count + 1)
        later(key, backoffMs(count))
      }
    } finally {
      running.delete(key)
      if (again.delete(key)) queue(key)
      pump()
    }
  }

  await Promise.all(
    sources.map(async (source) => {
      for await (const key of source(signal)) add(key)
    }),
  )
  for (const cancel of timers.values()) cancel()
  await Promise.all(running.values())
}
