import type { Principal } from "./principal.ts"

/** Who a bearer stands for. */
export interface Authenticated {
  readonly who: Principal
  /**
   * For an instance: the place that the credential was made for. It counts only while that place is
   * the current one.
   */
  readonly place?: string
  /** The credential ends then, by the control plane's clock; absent when no time ends it. */
  readonly untilMs?: number
  /** It counts on this machine alone, not through a listener that other machines reach. */
  readonly localOnly?: boolean
}
/**
 * Finds out who has a bearer: a person's token, an issuer's, an instance's credential. Undefined
 * when it is none that is known here. It may ask over the network, so whoever implements it bounds
 * and caches it; it rejects when the signal fires. @throws Unauthenticated for a bearer that is
 * known to be worthless, Forbidden for somebody without a role here, Unavailable when nobody can
 * tell now.
 */
export type Authenticate = (
  bearer: string,
  signal: AbortSignal,
) => Promise<Authenticated | undefined>
