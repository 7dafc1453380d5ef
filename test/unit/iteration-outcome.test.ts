import fc from "fast-check"
import { describe, expect, it } from "vitest"
import { holdFor } from "../../src/agent/failures.ts"
import type { Marker } from "../../src/core/beat.ts"
import {
  concludeIteration,
  describeExit,
  describeFailure,
  type ExitReport,
  type Failure,
  type FinalMessage,
} from "../../src/core/iteration-outcome.ts"

const minuteMs = 60_000
const failure = (error: string, message: string, details = ""): Failure => ({
  error,
  message,
  details,
})

/**
 * What Claude Code 2.1.197 posted to its hook StopFailure when the API answered so: error, message,
 * details.
 */
const measured = {
  400: failure(
    "invalid_request",
    "Prompt is too long · this conversation is a single exchange and cannot be compacted — the request size comes mostly from system prompt, tool definitions, or attachments.",
    '400 {"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 3 > 2"}}',
  ),
  "400 credit": failure("billing_error", "Credit balance is too low"),
  "400 disabled": failure(
    "invalid_request",
    "Your ANTHROPIC_API_KEY belongs to a disabled organization · Update or unset the environment variable",
  ),
  401: failure("authentication_failed", "Invalid API key · Fix external API key"),
  402: failure("unknown", "API Error: 402 billing"),
  403: failure(
    "authentication_failed",
    "Failed to authenticate. API Error: 403 Your organization does not have access to Claude. Please login again or contact your administrator.",
  ),
  "403 oauth": failure(
    "oauth_org_not_allowed",
    "Your organization has disabled Claude subscription access for Claude Code · Use an Anthropic API key instead, or ask your admin to enable access",
  ),
  404: failure(
    "model_not_found",
    "There's an issue with the selected model (claude-opus-4-8[1m]). It may not exist or you may not have access to it. Run --model to pick a different model.",
  ),
  413: failure(
    "invalid_request",
    "Request too large (max 32MB). Try with a smaller file.",
    'request_too_large: 413 {"type":"error","error":{"type":"request_too_large","message":"Request exceeds the maximum size"}}',
  ),
  429: failure(
    "rate_limit",
    "API Error: Request rejected (429) · This request would exceed your rate limit",
  ),
  "429 weekly": failure(
    "rate_limit",
    "You've hit your weekly limit · resets Nov 29, 5:47pm (Europe/Zurich)",
  ),
  "429 session": failure("rate_limit", "You've hit your session limit · resets 4:57pm (UTC)"),
  500: failure(
    "server_error",
    "API Error: 500 Internal server error. This is a server-side issue, usually temporary — try again in a moment. If it persists, check your inference gateway (127.0.0.1:44149).",
  ),
  529: failure(
    "server_error",
    "API Error: 529 Overloaded. This is a server-side issue, usually temporary — try again in a moment.",
  ),
  "no answer": failure("server_error", "API Error: Unable to connect to API (ConnectionRefused)"),
} as const
type Case = `${keyof typeof measured}`

describe("the reason of a failure", () => {
  it("is claude's own, with what the API said besides", () => {
    expect(describeFailure(measured[404])).toBe(measured[404].message)
    expect(describeFailure(measured[413])).toBe(
      "Request too large (max 32MB). Try with a smaller file. (413: Request exceeds the maximum size)",
    )
    expect(describeFailure(failure("unknown", "", "socket hang up"))).toBe("socket hang up")
    expect(describeFailure(failure("unknown", ""))).toBe('claude gave no reason but "unknown".')
    expect(describeFailure(failure("unknown", "two\nlines \u001b[31mred"))).toBe("two lines red")
  })

  it("is another one for each answer of the API", () => {
    const reasons = Object.values(measured).map(describeFailure)
    expect(new Set(reasons).size).toBe(reasons.length)
  })

  it.each<[number, boolean, readonly string[], RegExp]>([
    [137, false, [], /^claude was ended by SIGKILL \(exit code 137\) before .* out of memory\.$/],
    [143, true, ["x"], /^claude was ended by SIGTERM \(exit code 143\) .*timeout\(1\)/],
    [139, false, [], /SIGSEGV .* It crashed\.$/],
    [
      1,
      true,
      ["error: unknown option '--nope'", "(Did you mean --name?)"],
      /^claude refused to start \(exit code 1\)\. It printed: error: unknown option '--nope' \(Did you mean --name\?\)$/,
    ],
    [1, true, [], /^claude refused to start \(exit code 1\)\. Its own words are in the log\.$/],
    [1, false, [], /^claude ended with exit code 1 before the model had finished/],
    [255, false, [], /exit code 255/],
  ])("where claude told none is its exit: code %i, unheard %s", (code, unheard, printed, words) => {
    expect(describeExit({ code, unheard, printed })).toMatch(words)
  })
})

describe("how an iteration ended", () => {
  const exited = (code: number): ExitReport => ({ code, unheard: false, printed: [] })
  const said = (marker: Marker, superseded = false): FinalMessage => ({
    marker,
    text: `I say ${marker}`,
    superseded,
  })
  it.each<[string, FinalMessage | undefined, Failure | undefined, number, Marker, RegExp]>([
    ["as the model said", said("COMPLETE"), undefined, 0, "COMPLETE", /^I say COMPLETE$/],
    [
      "as the model said, whose claude was killed only then",
      said("PARTIAL"),
      undefined,
      137,
      "PARTIAL",
      /^I say/,
    ],
    ["without a marker, and killed only then", said("NONE"), undefined, 143, "NONE", /^I say/],
    ["failed after the last word", said("COMPLETE"), measured[500], 1, "FAILED", /500 Internal/],
    [
      "failed after the last word, with exit code 0",
      said("COMPLETE"),
      measured[500],
      0,
      "FAILED",
      /500 Internal/,
    ],
    [
      "killed while it worked on after a word",
      said("COMPLETE", true),
      undefined,
      137,
      "FAILED",
      /SIGKILL/,
    ],
    [
      "ended while it worked on after a word",
      said("COMPLETE", true),
      undefined,
      0,
      "NONE",
      /^I say/,
    ],
    [
      "with an error after a word that marks nothing",
      said("NONE"),
      undefined,
      1,
      "FAILED",
      /exit code 1 after its last message: I say/,
    ],
    ["killed before any word", undefined, undefined, 137, "FAILED", /SIGKILL/],
    ["without a word", undefined, undefined, 0, "NONE", /^$/],
  ])("%s", (_name, message, failed, code, outcome, text) => {
    const end = concludeIteration(message, failed, exited(code))
    expect(end.outcome).toBe(outcome)
    expect(end.text).toMatch(text)
  })

  it("is FAILED whenever claude gave up after the last word", () => {
    const marker = fc.constantFrom<Marker>("COMPLETE", "BLOCKED", "PARTIAL", "NONE")
    fc.assert(
      fc.property(
        fc.option(marker),
        fc.boolean(),
        fc.nat(255),
        fc.string(),
        (word, superseded, code, message) => {
          const before = word === null ? undefined : said(word, superseded)
          expect(concludeIteration(before, failure("unknown", message), exited(code)).outcome).toBe(
            "FAILED",
          )
        },
      ),
    )
  })
})

describe("what a failure means for the next iteration", () => {
  const nowMs = Date.UTC(2026, 10, 25, 15, 33)
  const hold = (
    failed: Failure,
    more: { failures?: number; jitterMs?: number; zone?: string } = {},
  ) => holdFor(failed, { failures: 1, nowMs, zone: "UTC", jitterMs: 0, ...more })

  it.each<[Case, string | undefined, number | undefined, RegExp]>([
    ["400", undefined, undefined, /^$/],
    ["400 credit", "AccountProblem", 30, /cannot pay.*"Credit balance is too low".*Add credit/],
    [
      "400 disabled",
      "AccountProblem",
      30,
      /organization.*"Your ANTHROPIC_API_KEY belongs to a disabled organization.*administrator/,
    ],
    ["401", "LoginRequired", 10, /refused the login: "Invalid API key/],
    ["402", "AccountProblem", 30, /"API Error: 402 billing"/],
    ["403", "LoginRequired", 10, /403/],
    ["403 oauth", "AccountProblem", 30, /organization.*has disabled Claude subscription access/],
    ["404", undefined, undefined, /^$/],
    ["413", undefined, undefined, /^$/],
    [
      "429",
      "RateLimited",
      1,
      /"API Error: Request rejected \(429\).*names no reset time.*up to an hour/,
    ],
    [
      "429 weekly",
      "RateLimited",
      4 * 24 * 60 + 75,
      /"You've hit your weekly limit · resets Nov 29, 5:47pm \(Europe\/Zurich\)"\.$/,
    ],
    ["429 session", "RateLimited", 85, /"You've hit your session limit/],
    ["500", "ServiceUnavailable", 64 / 60, /service failed: "API Error: 500 Internal server error/],
    ["529", "ServiceUnavailable", 64 / 60, /529 Overloaded/],
    ["no answer", "ServiceUnavailable", 64 / 60, /ConnectionRefused/],
  ])("%s", (name, reason, minutes, message) => {
    const found = hold(measured[name])
    expect(found?.reason).toBe(reason)
    expect(found?.untilMs).toBe(minutes === undefined ? undefined : nowMs + minutes * minuteMs)
    expect(found?.message ?? "").toMatch(message)
    expect(found?.message.length ?? 0).toBeLessThanOrEqual(1000)
  })

  it("waits longer each time where the limit gives no time, up to an hour", () => {
    const waits = Array.from({ length: 9 }, (_, index) =>
      hold(measured[429], { failures: index + 1 }),
    )
    expect(waits.map((one) => ((one?.untilMs ?? 0) - nowMs) / minuteMs)).toEqual([
      1, 2, 4, 8, 16, 32, 60, 60, 60,
    ])
  })

  it("waits longer each time, too, where the time that the limit gives has passed", () => {
    const passed = failure("rate_limit", "Claude AI usage limit reached|1795620000") // 15:20
    const waits = [1, 2, 3].map((failures) => hold(passed, { failures }))
    expect(waits.map((one) => ((one?.untilMs ?? 0) - nowMs) / minuteMs)).toEqual([1, 2, 4])
  })

  it("asks for credit where a limit is one of money, unless it says when it ends", () => {
    expect(hold(failure("rate_limit", "You're out of usage credits"))?.reason).toBe(
      "AccountProblem",
    )
    expect(
      hold(failure("rate_limit", "Your org is out of usage · add funds to continue"))?.reason,
    ).toBe("AccountProblem")
    expect(hold(failure("rate_limit", "You're out of usage credits · resets Dec 1"))?.reason).toBe(
      "RateLimited",
    )
  })

  it("reads a time without a zone in that of the machine, and adds the jitter", () => {
    const found = hold(failure("rate_limit", "limit reached ∙ resets 4pm"), {
      zone: "America/New_York",
      jitterMs: 1234,
    })
    expect(found?.untilMs).toBe(Date.UTC(2026, 10, 25, 21, 1) + 1234)
  })

  it("keeps to its bounds whatever claude says", () => {
    const kind = fc.constantFrom(
      "rate_limit",
      "server_error",
      "authentication_failed",
      "billing_error",
      "oauth_org_not_allowed",
      "unknown",
    )
    const text = fc.oneof(
      fc.string(),
      fc.string({ unit: "grapheme", maxLength: 2000 }),
      fc.constant("x".repeat(2000)),
    )
    fc.assert(
      fc.property(
        kind,
        text,
        text,
        fc.integer({ min: 1, max: 10_000 }),
        (error, message, details, failures) => {
          const found = hold(failure(error, message, details), { failures })
          if (!found) return
          expect(found.message.length).toBeLessThanOrEqual(1000)
          expect(found.message).not.toContain("\n")
          expect(found.message).not.toContain("\u001b")
          expect(found.untilMs).toBeGreaterThan(nowMs)
        },
      ),
    )
  })
})
