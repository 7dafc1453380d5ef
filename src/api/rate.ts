import { RateLimiterMemory, RateLimiterRes } from "rate-limiter-flexible"
import { type AuditedCall, namesIn } from "../core/audit.ts"
import { RateLimited } from "../core/faults.ts"
import type { Invoke } from "../core/invoke.ts"
import { nameOf, type Principal } from "../core/principal.ts"

/** How many calls a principal may make in the window. */
export interface Rates {
  /**
   * This machine's own admin: a bound against programs that run wild, far above what anybody does.
   */
  readonly local: number
  readonly human: number
  readonly instance: number
}
export const windowSeconds = 10
/**
 * Guesses, not measured needs: a person's client makes a few calls a second, an agent a few a
 * minute; ten of either at once stay below.
 */
export const rates: Rates = { local: 500_000, human: 1000, instance: 200 }

export interface RateOptions {
  invokeAs(who: Principal): Invoke
  isLocal(who: Principal): boolean
  /**
   * Told of the first call above the limit in each window: one for each would be the flood that is
   * to be kept out.
   */
  refused(call: AuditedCall): Promise<void>
  readonly allowed?: Rates
}

/**
 * Before any call, whatever its face. One small record for each principal that called in the
 * window, and only those who are known come this far: so its memory is bounded by the fleet and its
 * people.
 */
export function limitRate({ invokeAs, isLocal, refused, allowed = rates }: RateOptions) {
  const limiterOf = (points: number) => new RateLimiterMemory({ points, duration: windowSeconds })
  const limiters = {
    local: limiterOf(allowed.local),
    human: limiterOf(allowed.human),
    instance: limiterOf(allowed.instance),
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
          `${nameOf(who)} made more than ${allowed[kind]} calls in ${windowSeconds} s.`,
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
