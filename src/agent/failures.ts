import type { ReportedHold } from "../core/beat.ts"
import { backoffMs } from "../core/decide.ts"
import { describeFailure, type Failure } from "../core/iteration-outcome.ts"
import { resetTime } from "../core/reset-time.ts"
import { oneLine } from "../core/view.ts"

/**
 * What a failed iteration means for the next one: a rate limit is a wait, never a crash or a retry
 * storm.
 */

const minuteMs = 60_000
/** A limit that names no end is asked again after 1, 2, 4, ... minutes, and then once an hour. */
const unknownWaitMsMax = 60 * minuteMs

export interface FailureContext {
  /** Failed iterations in a row, this one included. */
  readonly failures: number
  readonly nowMs: number
  /** The time zone of this machine (IANA), for a limit that names none. */
  readonly zone: string
  /** Added to the end of a limit: agents that met it together do not all ask in the same second. */
  readonly jitterMs: number
}

/**
 * The hold for what Claude Code's hook StopFailure told; undefined where the loop's own retry is
 * the right answer.
 */
export function holdFor(failure: Failure, context: FailureContext): ReportedHold | undefined {
  const { nowMs, failures } = context
  const quote = `"${oneLine(describeFailure(failure), 400)}"`
  switch (kindOf(failure)) {
    case "limit":
      return limitHold(failure, quote, context)
    case "service":
      return {
        reason: "ServiceUnavailable",
        message: `The model's service failed: ${quote}.`,
        untilMs: nowMs + Math.max(minuteMs, backoffMs(failures + 5)),
      }
    case "login":
      return {
        reason: "LoginRequired",
        message: `The model's service refused the login: ${quote}.`,
        untilMs: nowMs + 10 * minuteMs,
      }
    case "billing":
      return {
        reason: "AccountProblem",
        message: `The account cannot pay for the model: ${quote}. Add credit, or correct its billing.`,
        untilMs: nowMs + 30 * minuteMs,
      }
    case "organization":
      return {
        reason: "AccountProblem",
        message: `The organization of this login may not use the model: ${quote}. Ask its administrator, or use another login or API key.`,
        untilMs: nowMs + 30 * minuteMs,
      }
    default:
      return undefined
  }
}

type Kind = "limit" | "service" | "login" | "billing" | "organization" | undefined

/**
 * Claude Code gives a disabled organization as `invalid_request`, a 402 as `unknown` (measured,
 * 2.1.197): there only the words tell.
 */
function kindOf(failure: Failure): Kind {
  const { error } = failure
  const words = describeFailure(failure)
  if (
    /\bdisabled organization\b|\borganization has (?:been )?disabled\b|\bdisabled for your org/i.test(
      words,
    )
  )
    return "organization"
  switch (error) {
    case "rate_limit":
      return "limit"
    case "overloaded":
    case "server_error":
      return "service"
    case "authentication_failed":
      return "login"
    case "oauth_org_not_allowed":
      return "organization"
    case "billing_error":
      return "billing"
    default:
      return /\bAPI Error: 402\b|\bcredit balance is too low\b/i.test(words) ? "billing" : undefined
  }
}

/** A limit that only money or an administrator lifts. */
const unpaid =
  /\bout of (?:extra )?usage\b|\badd funds\b|\blimit is set to \$0|\bseat type doesn't include\b|\brequires usage credits\b/i

function limitHold(
  failure: Failure,
  quote: string,
  { failures, nowMs, zone, jitterMs }: FailureContext,
): ReportedHold {
  const growing =
    nowMs + Math.min(unknownWaitMsMax, minuteMs * 2 ** Math.min(failures - 1, 10)) + jitterMs
  const resetMs = resetTime(`${failure.message}\n${failure.details}`, nowMs, zone)
  const message = `The model's limit is reached: ${quote}.`
  // The text cuts seconds off: a minute later it is certain. A moment that has passed did not help,
  // so the waits grow.
  if (resetMs !== undefined)
    return {
      reason: "RateLimited",
      message,
      untilMs: resetMs > nowMs ? resetMs + minuteMs + jitterMs : growing,
    }
  if (unpaid.test(quote))
    return {
      reason: "AccountProblem",
      message: `The account's usage is used up: ${quote}. Add credit, or ask its administrator.`,
      untilMs: nowMs + 30 * minuteMs,
    }
  return {
    reason: "RateLimited",
    message: `${message} It names no reset time, so the agent tries again after growing waits of up to an hour.`,
    untilMs: growing,
  }
}

/** What nobody can talk to, count or stop at its end does not go on by itself. */
export const uncontrolledAfter = (iteration: number, ended: boolean): ReportedHold => ({
  reason: "Uncontrolled",
  message: `Uncontrolled: in iteration ${iteration} claude ${ended ? "called none of its hooks for a minute and was ended" : "ended without calling any of its hooks"}, so no mail could reach it. Something turns hooks off: --bare, --safe-mode or another --settings in the loop's call of claude, allowedHttpHookUrls in a settings file, or managed settings.`,
})
