import { z } from "zod"
import { usageSchema } from "../core/usage.ts"

/** What a run has used, as its supervisors keep it in the run directory. */

/**
 * Claude's own record of an iteration: the file, and how long it was before the model was asked.
 */
export const transcriptSchema = z.strictObject({
  path: z.string().max(4096),
  offset: z.int().min(0),
})
/** Input, output, cache read, cache write: the four prices of a model. */
const tokenCountsSchema = z.tuple([z.number(), z.number(), z.number(), z.number()])
export type TokenCounts = z.output<typeof tokenCountsSchema>
/** One answered request: the digest of its id, empty where claude has none, and its tokens. */
const countedRequestSchema = z.strictObject({ id: z.string(), tokens: tokenCountsSchema })
export type CountedRequest = z.output<typeof countedRequestSchema>
export const usageFileSchema = z.strictObject({
  used: usageSchema,
  /** Keys of the telemetry records counted last, so that a repeated export counts once. */
  counted: z.array(z.string()),
  /** What telemetry told of the iteration that runs. */
  requests: z.array(countedRequestSchema).default([]),
  /** Dollars and weighted tokens by model, as telemetry told them: together they are its price. */
  prices: z
    .record(z.string(), z.strictObject({ usd: z.number(), weighted: z.number() }))
    .default({}),
  /**
   * Requests that only a transcript told of, with what was counted for each: their telemetry may
   * still come.
   */
  recovered: z.array(countedRequestSchema.extend({ usd: z.number() })).default([]),
  /** Tokens of this run that only transcripts told of. */
  recoveredTokens: z.number().default(0),
  /** Finished iterations whose transcript is still to be compared. */
  pending: z
    .array(
      z.strictObject({
        iteration: z.int(),
        sinceMs: z.int(),
        endedAtMs: z.int(),
        /** Another supervisor saw it begin: telemetry may have found nobody. */
        adopted: z.boolean(),
        transcript: transcriptSchema.optional(),
        requests: z.array(countedRequestSchema),
      }),
    )
    .default([]),
})
export type UsageFile = z.output<typeof usageFileSchema>
