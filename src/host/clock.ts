import type { Clock } from "../core/ports.ts"

export const systemClock: Clock = {
  nowMs: () => Date.now(),
  after(ms, then) {
    const timer = setTimeout(then, ms)
    return () => clearTimeout(timer)
  },
}
