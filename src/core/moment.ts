import { z } from "zod"
import { Fault } from "./faults.ts"

/**
 * The one place that reads a caller's text for a moment: a span like `30m`, or an ISO time with its
 * zone.
 */

const units: Readonly<Record<string, number>> = { s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 }
const spanPattern = /^(\d{1,6})([smhd])$/
// The zone is required: without it the time would be that of the machine the fleet runs on, which
// the caller does not know.
const isoPattern = /^\d{4}-\d\d-\d\dT\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?(?:Z|[+-]\d\d:?\d\d)$/
/** How far ahead a pause may reach. */
const pauseDaysMax = 30

export const momentTextSchema = z.string().max(40)

function read(text: string, nowMs: number, direction: 1 | -1): number {
  const [, count, unit] = spanPattern.exec(text) ?? []
  if (count !== undefined && unit !== undefined)
    return nowMs + direction * Number(count) * (units[unit] ?? 0)
  const atMs = isoPattern.test(text) ? Date.parse(text) : Number.NaN
  if (!Number.isNaN(atMs)) return atMs
  throw new Fault(
    "Invalid",
    `${JSON.stringify(text)} is neither a span nor a time.`,
    "Write 90s, 30m, 8h or 2d, or an ISO time with its zone like 2026-11-03T07:00:00Z.",
  )
}

/** @throws Invalid for what is not in the coming days, 30 unless told. */
export function untilOf(text: string, nowMs: number, daysMax = pauseDaysMax): number {
  const atMs = read(text, nowMs, 1)
  if (atMs <= nowMs)
    throw new Fault(
      "Invalid",
      `${JSON.stringify(text)} is not in the future.`,
      "Give a later time, or leave it out.",
    )
  if (atMs > nowMs + daysMax * 86_400_000)
    throw new Fault(
      "Invalid",
      `${JSON.stringify(text)} is more than ${daysMax} days away.`,
      "Give an earlier time, or leave it out for no end.",
    )
  return atMs
}

/** @throws Invalid for what is still to come. */
export function sinceOf(text: string, nowMs: number): number {
  const atMs = read(text, nowMs, -1)
  if (atMs > nowMs)
    throw new Fault(
      "Invalid",
      `${JSON.stringify(text)} is in the future.`,
      "Give an earlier time, or a span like 30m.",
    )
  return atMs
}

/** To the second, as an answer shows it. */
export const isoOf = (ms: number): string => `${new Date(ms).toISOString().slice(0, 19)}Z`
