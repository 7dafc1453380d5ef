import { backoffMs } from "../core/decide.ts"
import type { ReportedHold } from "../core/link.ts"

/** What a failed iteration means for the next one: a rate limit is a wait, never a crash or a retry storm. */

const minuteMs = 60_000
const waitMsMax = 6 * 60 * minuteMs

/**
 * The hold for an error of Claude Code's StopFailure hook; undefined where the loop's own retry is the right answer.
 * `failures` counts failed iterations in a row.
 */
export function holdFor(
  error: string,
  details: string,
  failures: number,
  nowMs: number,
): (ReportedHold & { untilMs: number }) | undefined {
  const growing = nowMs + Math.max(minuteMs, backoffMs(failures + 5))
  switch (error) {
    case "rate_limit":
      return {
        reason: "RateLimited",
        message: "The model's rate limit is reached.",
        untilMs: resetTime(details, nowMs) ?? growing,
      }
    case "overloaded":
    case "server_error":
      return { reason: "RateLimited", message: "The model's service is overloaded.", untilMs: growing }
    case "authentication_failed":
    case "oauth_org_not_allowed":
      return { reason: "LoginRequired", message: "The model's service refused the login.", untilMs: nowMs + 10 * minuteMs }
    case "billing_error":
      return {
        reason: "LoginRequired",
        message: "The model's service reports a billing problem.",
        untilMs: nowMs + 30 * minuteMs,
      }
    default:
      return undefined
  }
}

/** "resets 11:06am (UTC)", as Claude Code writes a subscription's limit; other zones are left to the growing wait. */
export function resetTime(text: string, nowMs: number): number | undefined {
  const groups = /resets\s+(?<hour>\d{1,2})(?::(?<minute>\d{2}))?\s*(?<half>am|pm)\s*\(UTC\)/i.exec(text)?.groups
  if (!groups) return undefined
  const hour = (Number(groups.hour) % 12) + (groups.half?.toLowerCase() === "pm" ? 12 : 0)
  const day = new Date(nowMs)
  const atMs = Date.UTC(day.getUTCFullYear(), day.getUTCMonth(), day.getUTCDate(), hour, Number(groups.minute ?? 0))
  const next = atMs > nowMs ? atMs : atMs + 24 * 60 * minuteMs
  return next - nowMs <= waitMsMax ? next : undefined
}
