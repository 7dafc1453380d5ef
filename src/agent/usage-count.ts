import { type Usage, usageMax } from "../core/usage.ts"
import type { UsageFile } from "../run/usage-file.ts"
import { countedMax, type MeteredRequest, usedBy, weightedTokens } from "./meter.ts"
import type { RecoveredUsage } from "./reconciliation.ts"

/** Sums of what requests used, as telemetry and transcripts tell them. Pure. */

/**
 * Of one iteration: three hours of requests, one every three seconds. Beyond, nobody could tell
 * what was counted.
 */
export const requestsMax = 4000
const recoveredMax = 500
const modelsMax = 20

const plus = (used: Usage, more: Pick<Usage, "usd" | "tokens">): Usage => ({
  ...used,
  usd: Math.min(usageMax.usd, used.usd + more.usd),
  tokens: Math.min(usageMax.count, used.tokens + more.tokens),
})

/** Adds requests that telemetry tells. */
export function countRequests(
  file: UsageFile,
  requests: readonly MeteredRequest[],
): Partial<UsageFile> {
  const recovered = [...file.recovered]
  const prices = { ...file.prices }
  let used = file.used
  for (const request of requests) {
    used = plus(used, newUse(request, recovered))
    const before = Object.hasOwn(prices, request.model) ? prices[request.model] : undefined
    if (before || Object.keys(prices).length < modelsMax)
      prices[request.model] = {
        usd: (before?.usd ?? 0) + request.usd,
        weighted: (before?.weighted ?? 0) + weightedTokens(request.tokens),
      }
  }
  const shown = requests.map(({ id, tokens }) => ({ id, tokens }))
  return {
    used,
    prices,
    recovered,
    counted: [...file.counted, ...requests.map(({ key }) => key)].slice(-countedMax),
    requests: [...file.requests, ...shown].slice(0, requestsMax),
  }
}

/**
 * What a request adds: of one that the transcript told of before, only what telemetry says beyond
 * that. Takes it out of `recovered`.
 */
function newUse(
  request: MeteredRequest,
  recovered: UsageFile["recovered"],
): Pick<Usage, "usd" | "tokens"> {
  const index = recovered.findIndex(({ id, tokens }) =>
    id === "" || request.id === "" ? String(tokens) === String(request.tokens) : id === request.id,
  )
  const [before] = index < 0 ? [] : recovered.splice(index, 1)
  const [metered, known] = [usedBy([request]), usedBy(before ? [before] : [])]
  return {
    usd: Math.max(0, metered.usd - known.usd),
    tokens: Math.max(0, metered.tokens - known.tokens),
  }
}

/** Adds requests that only a transcript tells. */
export function countRecovered(
  file: UsageFile,
  added: RecoveredUsage["added"],
): Partial<UsageFile> {
  const more = usedBy(added)
  const fresh = added.map(({ id, tokens, usd }) => ({ id, tokens, usd }))
  return {
    used: plus(file.used, more),
    recovered: [...file.recovered, ...fresh].slice(-recoveredMax),
    recoveredTokens: file.recoveredTokens + more.tokens,
  }
}
