import { Fault } from "../core/faults.ts"
import type { Source } from "../core/source.ts"
import type { Arrival, Authenticate } from "./auth.ts"

/** How soon an end by time is noticed; a revocation is at once. */
const lookMs = 1000

/**
 * Watches over answers that last (streams, waits): they end with the credential that they were
 * asked for with.
 */
export interface CredentialWatch {
  /**
   * Calls `end` once when the credential is worth nothing any more. The result stops the watching.
   */
  whileValid(arrival: Arrival, end: () => void): () => void
}

/** @param changed fires when credentials may have ended. */
export function watchCredentials(
  authenticate: Authenticate,
  changed: Source,
  signal: AbortSignal,
): CredentialWatch {
  const watched = new Map<object, { readonly arrival: Arrival; readonly end: () => void }>()
  const lookAt = async (
    key: object,
    { arrival, end }: { arrival: Arrival; end: () => void },
  ): Promise<void> => {
    const valid = await authenticate(arrival).then(
      (who) => who !== undefined,
      // Who cannot be asked now has not said no.
      (error: unknown) => error instanceof Fault && error.code === "Unavailable",
    )
    if (!valid && watched.delete(key)) end()
  }
  const look = (): void => {
    for (const [key, one] of watched) void lookAt(key, one)
  }
  let timer: NodeJS.Timeout | undefined
  const follow = async (): Promise<void> => {
    for await (const _ of changed(signal)) look()
  }
  void follow()
  signal.addEventListener("abort", () => clearInterval(timer))
  return {
    whileValid(arrival, end) {
      // Whoever comes through the socket without a bearer is there by the directory's mode, which
      // does not end.
      if (arrival.authorization === undefined) return () => {}
      const key = {}
      watched.set(key, { arrival, end })
      if (!timer && !signal.aborted) timer = setInterval(look, lookMs).unref()
      return () => {
        watched.delete(key)
        if (watched.size > 0) return
        clearInterval(timer)
        timer = undefined
      }
    },
  }
}
