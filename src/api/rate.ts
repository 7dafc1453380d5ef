import { RateLimiterMemory, RateLimiterRes } from "rate-limiter-flexible"
import { type AuditedCall, namesIn } from "../core/audit.ts"
import { RateLimited } from "../core/faults.ts"
import type { Invoke } from "../core/invoke.ts"
import { nameOf, type Principal } from "../core/principal.ts"

/** How many calls a principal may make in the window. */
export interface Rates {
  /** This machine's own admin: far above what anybody needs, it only stops a runaway program. */
  readonly local: number
  readonly human: number
  readonly instance: number
}
export const windowSeconds = 10
/**
 * Estimates, not measurements: a person's client makes a few calls a second, an agent a few a
 * minute, and ten of either at once stay below.
 */
export const rates: Rates = { local: 500_000, human: 1000, instance: 200 }

export interface RateOptions {
  invokeAs(who: Principal): Invoke
  isLocal(who: Principal): boolean
  /**
   * Told of the first call above the limit in each window: one for each would be the very flood
   * that the limit keeps out.
   */
  refused(call: AuditedCall): Promise<void>
  readonly allowed?: Rates
}

/**
 * Limits calls of every face. It keeps one small record for each principal that called in the
 * window. Callers are authenticated by then, so the fleet and its people bound its memory.
 */
export function limitRate({ invokeAs, isLocal, refused, allowed = rates }: RateOptions) {
  const createLimiter = (points: number) =>
    new RateLimiterMemory({ points, duration: windowSeconds })
  const limiters = {
    local: createLimiter(allowed.local),
    human: createLimiter(allowed.human),
    instance: createLimiter(allowed.instance),
  }
  return (who: Principal): Invoke => {
    const kind = isLocal(who) ? "local" : who.kind
    const key = who.kind === "instance" ? who.uid : who.id
    const invoke = invokeAs(who)
    return async (tool, input, call) => {
      try {
        await limiters[kind].consume(key)
      } catch (error) {
        if (!(error instanceof RateLimiterRes)) throw error
        const seconds = Math.max(1, Math.ceil(error.msBeforeNext / 1000))
        const fault = new RateLimited(
          `${nameOf(who)} made more than ${allowed[kind]} calls within ${windowSeconds} s.`,
          seconds,
        )
        if (error.consumedPoints === allowed[kind] + 1)
          await refused({ who, tool, on: namesIn(input), fault })
        throw fault
      }
      return invoke(tool, input, call)
    }
  }
}
