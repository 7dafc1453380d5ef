import type { CountedRequest, UsageFile } from "../run/usage-file.ts"
import { tokenSum, tokensOf, weightedTokens } from "./meter.ts"
import type { TranscriptRequest, TranscriptUsage } from "./transcript-usage.ts"

/**
 * Telemetry that finds no supervisor is not told again, and a claude that is killed tells nothing
 * of its last half second: claude's transcript fills the gap. It can only add: what telemetry told
 * stays as it is, and a request that telemetry told of is not counted again. An agent can write its
 * transcript, so what that alone tells of may at most double what a run used by telemetry, or be
 * `aloneTokensMax`.
 */

/**
 * A run whose supervisor was away from its start has nothing to be compared with: this is what a
 * minute of hard work uses.
 */
export const aloneTokensMax = 5_000_000

export interface RecoveredUsage {
  /** What is to be added, with its price. */
  readonly added: readonly (TranscriptRequest & { readonly usd: number })[]
  /** What a person should know: the count may be too low. */
  readonly warning: string | undefined
}
/** An iteration as telemetry told it. */
export interface MeteredIteration {
  readonly usage: Pick<UsageFile, "used" | "prices" | "recoveredTokens">
  readonly iteration: number
  /** Another supervisor saw it begin, so that telemetry may have found nobody. */
  readonly adopted: boolean
  /** What telemetry told of this iteration. */
  readonly requests: readonly CountedRequest[]
}

export function reconcile(
  { usage, iteration, requests, adopted }: MeteredIteration,
  transcript: TranscriptUsage,
): RecoveredUsage {
  const lost = unmatched(requests, transcript.requests)
  const byTelemetry = usage.used.tokens - usage.recoveredTokens
  let room = Math.max(aloneTokensMax, byTelemetry) - usage.recoveredTokens
  const added = lost.flatMap((request) => {
    room -= tokenSum(request.tokens)
    return room < 0
      ? []
      : [{ ...request, usd: priceOf(usage.prices, request.model) * weightedTokens(request.tokens) }]
  })
  const reasons = [
    transcript.whole || (lost.length === 0 && !adopted)
      ? ""
      : "part of the transcript could not be read",
    added.length < lost.length
      ? "more is not taken from a transcript alone, because the agent can write it"
      : "",
    added.some(({ usd }) => usd === 0)
      ? "telemetry has reported no price yet, so dollars are missing"
      : "",
  ].filter(Boolean)
  if (reasons.length === 0) return { added, warning: undefined }
  const counted = tokensOf(requests) + tokensOf(added)
  return {
    added,
    warning: `The usage of iteration ${iteration} may be too low: its transcript shows ${tokensOf(transcript.requests)} tokens, but ${counted} were counted (${tokensOf(requests)} from telemetry). ${sentence(reasons)}`,
  }
}

const sentence = (reasons: readonly string[]): string => {
  const text = reasons.join("; ")
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}.`
}

/**
 * The requests that telemetry did not tell of: matched by id, and by equal tokens where one of the
 * two has no id.
 */
function unmatched(
  counted: readonly CountedRequest[],
  shown: readonly TranscriptRequest[],
): readonly TranscriptRequest[] {
  const ids = new Set(counted.map(({ id }) => id).filter(Boolean))
  const rest = shown.filter(({ id }) => !ids.has(id))
  const shownIds = new Set(shown.map(({ id }) => id))
  const left = new Map<string, { named: number; nameless: number }>()
  for (const { id, tokens } of counted) {
    if (shownIds.has(id) && id !== "") continue
    const entry = left.get(String(tokens)) ?? { named: 0, nameless: 0 }
    if (id === "") entry.nameless++
    else entry.named++
    left.set(String(tokens), entry)
  }
  return rest.filter(({ id, tokens }) => {
    const entry = left.get(String(tokens))
    if (entry && entry.nameless > 0) entry.nameless--
    else if (entry && entry.named > 0 && id === "") entry.named--
    else return true
    return false
  })
}

/**
 * Dollars for one weighted token: as telemetry told of this model, else of all models together; 0
 * when it told of none.
 */
function priceOf(prices: UsageFile["prices"], model: string): number {
  const known = Object.hasOwn(prices, model) ? [prices[model]] : Object.values(prices)
  const sum = { usd: 0, weighted: 0 }
  for (const price of known) {
    sum.usd += price?.usd ?? 0
    sum.weighted += price?.weighted ?? 0
  }
  return sum.weighted > 0 ? sum.usd / sum.weighted : 0
}
