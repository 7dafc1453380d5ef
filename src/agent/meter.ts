import { z } from "zod"
import type { Usage } from "../core/link.ts"

/** Usage from Claude Code's own telemetry: OpenTelemetry logs, OTLP http/json (opentelemetry.io, "OTLP specification"). Integers come as strings. */
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
    .array(z.looseObject({ scopeLogs: z.array(z.looseObject({ logRecords: z.array(record).default([]) })).default([]) }))
    .default([]),
})

export type Logs = z.output<typeof logsSchema>

export interface Metered {
  /** What these records add. */
  readonly used: Pick<Usage, "usd" | "tokens">
  /** Ids of the requests counted, so that a repeated export counts once. */
  readonly counted: readonly string[]
  /** When answered requests of the main agent began. */
  readonly mainBeganAtMs: readonly number[]
}
/** How many ids are remembered: a repeat comes within seconds. */
export const countedMax = 500

export function meter(logs: Logs, already: readonly string[]): Metered {
  const known = new Set(already)
  const used = { usd: 0, tokens: 0 }
  const counted: string[] = []
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
      // The sequence begins anew with each process, also when the session is continued.
      const id = `${fields.get("session.id")}:${fields.get("event.sequence")}:${fields.get("event.timestamp")}`
      if (known.has(id)) continue
      known.add(id)
      counted.push(id)
      used.usd += number("cost_usd")
      used.tokens +=
        number("input_tokens") + number("output_tokens") + number("cache_read_tokens") + number("cache_creation_tokens")
      const endedAtMs = Number(timeUnixNano ?? 0) / 1e6 // a record carries the moment of the answer
      if (isMain(fields)) mainBeganAtMs.push(endedAtMs - number("duration_ms"))
    }
  return { used, counted, mainBeganAtMs }
}

/** `sdk` is the main agent of `claude -p`; sub-agents, compaction and other side requests have names of their own. */
const isMain = (fields: ReadonlyMap<string, string | number>): boolean => fields.get("query_source") === "sdk"
