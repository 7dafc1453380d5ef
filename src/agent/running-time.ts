import { uptime } from "node:os"

/**
 * Milliseconds since the machine was started, the time that it slept included (Linux: /proc/uptime,
 * CLOCK_BOOTTIME). Nobody sets this clock, and unlike `performance.now()`, which stands still while
 * the machine sleeps, it shows that there was a sleep.
 */
export const sinceBootMs = (): number => uptime() * 1000

/** How long an iteration really ran: without the time in which its processes stood still. */
export interface RunningTime {
  ms(): number
  /** Begins anew, with what is known to have run already. */
  start(ranMs: number): void
  freeze(isFrozen: boolean): void
  /**
   * How long everything stood still unordered since the last call: the machine slept, or this
   * process itself was stopped.
   */
  standstillMs(): number
}

/**
 * A supervisor looks twice a second. Where it did not for so long, it stood still itself, and most
 * likely all else with it.
 */
const stepMsMax = 10_000

export function measureRunning(steadyMs: () => number): RunningTime {
  let ranMs = 0
  let standstillMs = 0
  let isStill = false
  let lastMs = steadyMs()
  const advance = (): void => {
    const nowMs = steadyMs()
    const stepMs = nowMs - lastMs
    lastMs = nowMs
    if (isStill) return
    if (stepMs > stepMsMax) standstillMs += stepMs
    else ranMs += stepMs
  }
  return {
    ms() {
      advance()
      return Math.round(ranMs)
    },
    start(already) {
      advance()
      standstillMs = 0
      ranMs = already
    },
    freeze(isFrozen) {
      advance()
      isStill = isFrozen
    },
    standstillMs() {
      advance()
      const stoodMs = standstillMs
      standstillMs = 0
      return stoodMs
    },
  }
}
