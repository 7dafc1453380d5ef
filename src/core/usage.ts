import { z } from "zod"

/**
 * More than any run can use. Sums of what all runs say must stay numbers that can be counted with,
 * whatever one of them says.
 */
export const usageMax = { usd: 1e9, count: 1e12 }
export const usageSchema = z.strictObject({
  usd: z.number().min(0).max(usageMax.usd),
  tokens: z.int().min(0).max(usageMax.count),
  iterations: z.int().min(0).max(usageMax.count),
  ms: z.int().min(0).max(usageMax.count),
})
/**
 * US dollars at list price; tokens of all kinds (input, output, cache read and write); iterations
 * finished; milliseconds of iterations.
 */
export type Usage = z.output<typeof usageSchema>
export const noUsage: Usage = Object.freeze({ usd: 0, tokens: 0, iterations: 0, ms: 0 })
/** The larger of each: what is told again, or of before, never counts less. */
export const maxUsage = (a: Usage, b: Usage): Usage => ({
  usd: Math.max(a.usd, b.usd),
  tokens: Math.max(a.tokens, b.tokens),
  iterations: Math.max(a.iterations, b.iterations),
  ms: Math.max(a.ms, b.ms),
})
export const addUsage = (a: Usage, b: Usage): Usage => ({
  usd: a.usd + b.usd,
  tokens: a.tokens + b.tokens,
  iterations: a.iterations + b.iterations,
  ms: a.ms + b.ms,
})
export const lessUsage = (a: Usage, b: Usage): Usage => ({
  usd: a.usd - b.usd,
  tokens: a.tokens - b.tokens,
  iterations: a.iterations - b.iterations,
  ms: a.ms - b.ms,
})
