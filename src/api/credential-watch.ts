import type { Authenticate, Authenticated } from "../core/authenticate-port.ts"
import { Fault } from "../core/faults.ts"
import type { Source } from "../core/source.ts"

/** How often what is due is looked for. */
const tickMs = 1000
/** An answer that lasts authenticates again so often: that is how an expiry is noticed. */
const streamMs = 1000
/** A link authenticates again this long before its credential ends, and once more when it does. */
const beforeEndMs = 10_000
/** Whoever cannot answer by then is asked again later. */
const answerMs = 10_000

/** Watches over what lasts (streams, waits, links): it ends with the credential that began it. */
export interface CredentialWatch {
  /**
   * For an answer: `end` is called once when the bearer is refused, at the latest a second after it
   * ended and at once after a revocation. The result stops the watch.
   */
  whileValid(bearer: string, found: Authenticated, end: () => void): () => void
  /**
   * For a link, of which there are thousands: only the end that the credential itself has is
   * watched for. What else ends a link, its gateway sees.
   */
  untilExpired(bearer: string, found: Authenticated, end: () => void): () => void
}

interface Watched {
  readonly bearer: string
  readonly end: () => void
  /** When to authenticate again, given the end that is known now; infinite: never. */
  readonly nextMs: (untilMs: number, nowMs: number) => number
  untilMs: number
  dueMs: number
  isAsking: boolean
}

const endOf = ({ untilMs = Number.POSITIVE_INFINITY }: Authenticated): number => untilMs

/** @param revoked fires when people's credentials may have ended. */
export function watchCredentials(
  authenticate: Authenticate,
  revoked: Source,
  signal: AbortSignal,
  nowMs: () => number = Date.now,
): CredentialWatch {
  const streams = new Set<Watched>()
  const links = new Set<Watched>()
  let timer: NodeJS.Timeout | undefined

  const askAgain = async (watched: Watched): Promise<"valid" | "refused"> => {
    try {
      const found = await authenticate(watched.bearer, AbortSignal.timeout(answerMs))
      if (!found) return "refused"
      watched.untilMs = endOf(found)
      return watched.untilMs > nowMs() ? "valid" : "refused"
    } catch (error) {
      // Who cannot answer now has not refused; but a credential ends when it said that it would.
      const isUndecided = !(error instanceof Fault) || error.code === "Unavailable"
      return isUndecided && watched.untilMs > nowMs() ? "valid" : "refused"
    }
  }
  const look = async (all: Set<Watched>, watched: Watched): Promise<void> => {
    if (watched.isAsking) return
    watched.isAsking = true
    const answer = await askAgain(watched)
    watched.isAsking = false
    watched.dueMs = watched.nextMs(watched.untilMs, nowMs())
    if (answer === "refused" && all.delete(watched)) watched.end()
  }
  const lookAtDue = (): void => {
    const now = nowMs()
    for (const all of [streams, links])
      for (const watched of all) if (watched.dueMs <= now) void look(all, watched)
  }
  const follow = async (): Promise<void> => {
    for await (const _ of revoked(signal)) for (const one of streams) void look(streams, one)
  }
  void follow()
  signal.addEventListener("abort", () => clearInterval(timer))

  const add = (
    all: Set<Watched>,
    bearer: string,
    found: Authenticated,
    nextMs: Watched["nextMs"],
    end: () => void,
  ): (() => void) => {
    const untilMs = endOf(found)
    const dueMs = nextMs(untilMs, nowMs())
    if (dueMs === Number.POSITIVE_INFINITY) return () => {}
    const watched: Watched = { bearer, end, nextMs, untilMs, dueMs, isAsking: false }
    all.add(watched)
    if (!timer && !signal.aborted) timer = setInterval(lookAtDue, tickMs).unref()
    return () => {
      all.delete(watched)
      if (streams.size + links.size > 0) return
      clearInterval(timer)
      timer = undefined
    }
  }
  return {
    whileValid: (bearer, found, end) =>
      add(streams, bearer, found, (_, now) => now + streamMs, end),
    untilExpired: (bearer, found, end) =>
      add(
        links,
        bearer,
        found,
        (until, now) => (until - beforeEndMs > now ? until - beforeEndMs : until),
        end,
      ),
  }
}
