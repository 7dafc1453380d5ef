import { createHash } from "node:crypto"
import { LRUCache } from "lru-cache"
import type { Authenticate, Authenticated } from "../core/authenticate-port.ts"
import { Fault } from "../core/faults.ts"

/** For whoever authenticates over the network: asks no more, and for no longer, than it must. */

export interface QuestionBounds {
  /** Callers that may wait for an answer at once: each holds a connection. */
  readonly waitingMax: number
  /** A question without an answer by then has failed. */
  readonly answerMs: number
  /** A good answer is believed for so long, or until the credential ends. */
  readonly believedMs: number
  readonly believedMax: number
}

interface Question {
  readonly answer: Promise<Authenticated | undefined>
  readonly stop: AbortController
  waiting: number
}

const unavailable = (why: string, cause?: unknown): Fault =>
  new Fault(
    "Unavailable",
    `Your credential cannot be checked now: ${why}.`,
    "Try again in 5 seconds.",
    cause,
  )

/** Rejects when the signal fires, whatever becomes of the answer. */
const unlessAborted = <T>(answer: Promise<T>, signal: AbortSignal): Promise<T> =>
  new Promise((resolve, reject) => {
    const abort = (): void => reject(unavailable("the caller has gone away"))
    signal.addEventListener("abort", abort, { once: true })
    if (signal.aborted) abort()
    answer.then(resolve, reject).finally(() => signal.removeEventListener("abort", abort))
  })

/**
 * Answers from what is believed; else callers with the same bearer share one question, which ends
 * when the last of them has gone away. Refusals are never kept.
 */
export function shareQuestions(
  ask: Authenticate,
  { waitingMax, answerMs, believedMs, believedMax }: QuestionBounds,
  nowMs: () => number,
): Authenticate {
  const believed = new LRUCache<string, Authenticated>({ max: believedMax })
  const questions = new Map<string, Question>()
  let waiting = 0

  const begin = (key: string, bearer: string): Question => {
    const stop = new AbortController()
    const timer = setTimeout(
      () => stop.abort(unavailable(`there was no answer within ${answerMs / 1000} s`)),
      answerMs,
    )
    const outcome = Promise.withResolvers<Authenticated | undefined>()
    stop.signal.addEventListener("abort", () => outcome.reject(stop.signal.reason))
    ask(bearer, stop.signal).then(outcome.resolve, outcome.reject)
    const answer = outcome.promise
      .then((found) => {
        const ttl = Math.min(believedMs, (found?.untilMs ?? Number.POSITIVE_INFINITY) - nowMs())
        if (found && ttl > 0) believed.set(key, found, { ttl })
        return found
      })
      .finally(() => {
        clearTimeout(timer)
        if (questions.get(key) === question) questions.delete(key)
      })
    answer.catch(() => {}) // when all callers have gone away, nobody is left to hear of it
    const question: Question = { answer, stop, waiting: 0 }
    questions.set(key, question)
    return question
  }

  return async (bearer, signal) => {
    const key = createHash("sha256").update(bearer).digest("base64url")
    const known = believed.get(key)
    if (known && nowMs() < (known.untilMs ?? Number.POSITIVE_INFINITY)) return known
    if (waiting >= waitingMax) throw unavailable("too many callers are waiting")
    const question = questions.get(key) ?? begin(key, bearer)
    waiting++
    question.waiting++
    try {
      return await unlessAborted(question.answer, signal)
    } finally {
      waiting--
      if (--question.waiting === 0) {
        if (questions.get(key) === question) questions.delete(key)
        question.stop.abort(unavailable("nobody waits for the answer any more"))
      }
    }
  }
}
