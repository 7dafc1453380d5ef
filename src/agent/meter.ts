import { createHash } from "node:crypto"
import { z } from "zod"
import type { Usage } from "../core/usage.ts"
import { cut } from "../core/view.ts"
import type { CountedRequest, TokenCounts } from "../run/usage-file.ts"

/**
 * Usage from Claude Code's own telemetry: OpenTelemetry logs, OTLP http/json (opentelemetry.io,
 * "OTLP specification"). Integers come as strings.
 */
const value = z.looseObject({
  stringValue: z.string().optional(),
  intValue: z.union([z.string(), z.number()]).optional(),
  doubleValue: z.number().optional(),
})
const record = z.looseObject({
  timeUnixNano: z.union([z.string(), z.number()]).optional(),
  body: value.optional(),
  attributes: z.array(z.looseObject({ key: z.string(), value })).default([]),
})
export const logsSchema = z.looseObject({
  resourceLogs: z
    .array(
      z.looseObject({
        scopeLogs: z.array(z.looseObject({ logRecords: z.array(record).default([]) })).default([]),
      }),
    )
    .default([]),
})

/** The largest context of a model is a million tokens, and an answer is shorter. */
export const requestTokensMax = 2_000_000
/** Of one request: that context, written anew by the dearest model, costs a tenth of it. */
const requestUsdMax = 1000
const keyCharactersMax = 200
const modelCharactersMax = 200

export type TelemetryLogs = z.output<typeof logsSchema>

/** An answered request that telemetry told of. */
export interface MeteredRequest extends CountedRequest {
  /** The same in a repeated export. */
  readonly key: string
  readonly model: string
  /** What claude says that it costs, at list price. */
  readonly usd: number
}
export interface Metered {
  /** Those that were not known before. */
  readonly requests: readonly MeteredRequest[]
  /** When answered requests of the main agent began. */
  readonly mainBeganAtMs: readonly number[]
}
/** How many keys are remembered: a repeat comes within seconds. */
export const countedMax = 500

/**
 * Ids are compared, never shown: eight characters keep the file small that is written with each
 * export.
 */
export const requestDigest = (id: string): string =>
  id === "" ? "" : createHash("sha256").update(id).digest("base64url").slice(0, 8)
export const tokenSum = (tokens: TokenCounts): number =>
  tokens.reduce((sum, count) => sum + count, 0)
export const tokensOf = (requests: readonly { readonly tokens: TokenCounts }[]): number =>
  requests.reduce((sum, { tokens }) => sum + tokenSum(tokens), 0)

/**
 * Tokens in units of one input token's price. Measured against the costs that claude 2.1.197 tells,
 * and Anthropic's price list: output costs five times as much, a cache read a tenth, a cache write
 * a quarter more.
 */
export const weightedTokens = ([input, output, cacheRead, cacheWrite]: TokenCounts): number =>
  input + 5 * output + 0.1 * cacheRead + 1.25 * cacheWrite

export function meter(logs: TelemetryLogs, already: readonly string[]): Metered {
  const known = new Set(already)
  const requests: MeteredRequest[] = []
  const mainBeganAtMs: number[] = []
  for (const { logRecords } of logs.resourceLogs.flatMap(({ scopeLogs }) => scopeLogs))
    for (const { attributes, timeUnixNano } of logRecords) {
      const fields = new Map(
        attributes.map(({ key, value: { stringValue, intValue, doubleValue } }) => [
          key,
          stringValue ?? intValue ?? doubleValue ?? "",
        ]),
      )
      if (fields.get("event.name") !== "api_request") continue
      const number = (key: string): number => {
        const parsed = Number(fields.get(key) ?? 0)
        return Number.isFinite(parsed) && parsed > 0 ? parsed : 0
      }
      const tokens = (key: string): number => Math.min(requestTokensMax, Math.round(number(key)))
      // The sequence begins anew with each process, also when the session is continued.
      const named = `${fields.get("session.id")}:${fields.get("event.sequence")}:${fields.get("event.timestamp")}`
      const key =
        named.length > keyCharactersMax
          ? createHash("sha256").update(named).digest("base64url")
          : named
      if (known.has(key)) continue
      known.add(key)
      requests.push({
        key,
        id: requestDigest(String(fields.get("request_id") ?? "")),
        model: cut(String(fields.get("model") ?? ""), modelCharactersMax),
        usd: Math.min(requestUsdMax, number("cost_usd")),
        tokens: [
          tokens("input_tokens"),
          tokens("output_tokens"),
          tokens("cache_read_tokens"),
          tokens("cache_creation_tokens"),
        ],
      })
      const endedAtMs = Number(timeUnixNano ?? 0) / 1e6 // a record carries the moment of the answer
      if (isMain(fields)) mainBeganAtMs.push(endedAtMs - number("duration_ms"))
    }
  return { requests, mainBeganAtMs }
}

/** What these requests add. */
export const usedBy = (
  requests: readonly { readonly usd: number; readonly tokens: TokenCounts }[],
): Pick<Usage, "usd" | "tokens"> => ({
  usd: requests.reduce((sum, { usd }) => sum + usd, 0),
  tokens: tokensOf(requests),
})

/**
 * `sdk` is the main agent of `claude -p`; sub-agents, compaction and other side requests have names
 * of their own.
 */
const isMain = (fields: ReadonlyMap<string, string | number>): boolean =>
  fields.get("query_source") === "sdk"
