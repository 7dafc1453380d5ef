import fc from "fast-check"
import { describe, expect, it } from "vitest"
import { resetTime } from "../../src/core/reset-time.ts"

const minuteMs = 60_000
const hourMs = 60 * minuteMs
const dayMs = 24 * hourMs
const lateMs = 2 * minuteMs
/** The machine's own zone in the tables: five hours behind UTC in winter. */
const local = "America/New_York"

const iso = (ms: number | undefined): string | undefined =>
  ms === undefined ? undefined : new Date(ms).toISOString()

describe("the moment at which a limit ends", () => {
  it.each<[string, string, string]>([
    // Printed by Claude Code 2.1.197, in answer to 429s with the headers of each limit.
    [
      "2026-11-25T15:33:00Z",
      "You've hit your session limit · resets 4:57pm (UTC)",
      "2026-11-25T16:57:00.000Z",
    ],
    [
      "2026-11-25T15:33:00Z",
      "You've hit your session limit · resets 4:47pm (Europe/Zurich)",
      "2026-11-25T15:47:00.000Z",
    ],
    [
      "2026-11-25T15:33:00Z",
      "You've hit your weekly limit · resets Nov 29, 5:47pm (Europe/Zurich)",
      "2026-11-29T16:47:00.000Z",
    ],
    [
      "2026-11-25T15:33:00Z",
      "You've hit your weekly limit · resets Nov 29, 1:30pm (UTC)",
      "2026-11-29T13:30:00.000Z",
    ],
    [
      "2026-11-25T15:33:00Z",
      "You've hit your Opus limit · resets Jan 14, 2027, 10:33am (America/New_York)",
      "2027-01-14T15:33:00.000Z",
    ],
    [
      "2026-11-25T15:33:00Z",
      "You're out of usage credits · resets Dec 1",
      "2026-12-01T05:00:00.000Z",
    ],
    [
      "2026-11-25T15:33:00Z",
      "Fast limit reached and temporarily disabled · resets in 1h 5m",
      "2026-11-25T16:38:00.000Z",
    ],
    // Of former versions.
    [
      "2026-11-25T15:33:00Z",
      "Claude AI usage limit reached|1764090000",
      "2025-11-25T17:00:00.000Z",
    ],
    [
      "2026-11-25T15:33:00Z",
      "Claude AI usage limit reached|1795626000",
      "2026-11-25T17:00:00.000Z",
    ],
    [
      "2026-11-25T15:33:00Z",
      "Claude AI usage limit reached|1795626000000",
      "2026-11-25T17:00:00.000Z",
    ],
    [
      "2026-11-25T15:33:00Z",
      "5-hour limit reached ∙ resets 11:06am (UTC)",
      "2026-11-26T11:06:00.000Z",
    ],
    ["2026-11-25T15:33:00Z", "Weekly limit reached ∙ resets Mon 4pm", "2026-11-30T21:00:00.000Z"],
    [
      "2026-11-25T15:33:00Z",
      "Claude usage limit reached. Your limit will reset at 3pm (America/Santiago).",
      "2026-11-25T18:00:00.000Z",
    ],
    // Without a zone it is the machine's.
    ["2026-11-25T15:33:00Z", "resets 4pm", "2026-11-25T21:00:00.000Z"],
    ["2026-11-25T15:33:00Z", "resets at 16:00", "2026-11-25T21:00:00.000Z"],
    ["2026-11-25T15:33:00Z", "resets 4\u202fPM", "2026-11-25T21:00:00.000Z"],
    ["2026-11-25T15:33:00Z", "resets at 4:05 p.m. (UTC+02:00)", "2026-11-26T14:05:00.000Z"],
    ["2026-11-25T15:33:00Z", "resets tomorrow at 9am (UTC)", "2026-11-26T09:00:00.000Z"],
    ["2026-11-25T15:33:00Z", "resets Wednesday, 4pm (UTC)", "2026-11-25T16:00:00.000Z"],
    ["2026-11-25T16:33:00Z", "resets Wed 4pm (UTC)", "2026-12-02T16:00:00.000Z"],
    ["2026-11-25T15:33:00Z", "resets November 29th at 1:30pm (UTC)", "2026-11-29T13:30:00.000Z"],
    ["2026-11-25T15:33:00Z", "resets at 2026-11-29T13:30:00Z", "2026-11-29T13:30:00.000Z"],
    ["2026-11-25T15:33:00Z", "resets 2026-11-29 13:30", "2026-11-29T18:30:00.000Z"],
    ["2026-11-25T15:33:00Z", "Please try again in 90 seconds.", "2026-11-25T15:34:30.000Z"],
    ["2026-11-25T15:33:00Z", "resets in 2 days and 3 hours", "2026-11-27T18:33:00.000Z"],
    // Noon and midnight, and over midnight.
    ["2026-11-25T10:00:00Z", "resets 12pm (UTC)", "2026-11-25T12:00:00.000Z"],
    ["2026-11-25T10:00:00Z", "resets 12am (UTC)", "2026-11-26T00:00:00.000Z"],
    ["2026-01-31T23:30:00Z", "resets 12:15am (UTC)", "2026-02-01T00:15:00.000Z"],
    // Seconds are cut off, so the minute may have passed: it is not tomorrow's.
    ["2026-11-25T16:47:40Z", "resets 4:47pm (UTC)", "2026-11-25T16:47:00.000Z"],
    ["2026-11-25T00:00:30Z", "resets 11:59pm (UTC)", "2026-11-24T23:59:00.000Z"],
    // The year's end, without a year; and an old text, which is of the year that has passed.
    ["2026-12-30T12:00:00Z", "resets Jan 2, 1pm (UTC)", "2027-01-02T13:00:00.000Z"],
    ["2026-12-31T23:30:00Z", "resets 12:15am (UTC)", "2027-01-01T00:15:00.000Z"],
    ["2027-01-02T12:00:00Z", "resets Dec 31, 1pm (UTC)", "2026-12-31T13:00:00.000Z"],
    ["2027-11-25T15:33:00Z", "resets Feb 29, 2028, 1pm (UTC)", "2028-02-29T13:00:00.000Z"],
    // Clocks that are set: a time that they skip is that of the day after; one that comes twice is
    // the next of the two.
    ["2026-03-28T12:00:00Z", "resets 2:30am (Europe/Zurich)", "2026-03-30T00:30:00.000Z"],
    ["2026-10-24T20:00:00Z", "resets 2:30am (Europe/Zurich)", "2026-10-25T00:30:00.000Z"],
    ["2026-10-25T00:45:00Z", "resets 2:30am (Europe/Zurich)", "2026-10-25T01:30:00.000Z"],
    ["2026-03-28T12:00:00Z", "resets Mar 30, 9am (Europe/Zurich)", "2026-03-30T07:00:00.000Z"],
    ["2026-11-25T15:33:00Z", "resets 4:30am (Asia/Kathmandu)", "2026-11-25T22:45:00.000Z"],
    ["2026-11-25T15:33:00Z", "resets 6am (Pacific/Kiritimati)", "2026-11-25T16:00:00.000Z"],
  ])("at %s: %j", (now, text, expected) => {
    expect(iso(resetTime(text, Date.parse(now), local))).toBe(expected)
  })

  it.each([
    "",
    "This request would exceed your rate limit",
    "resets soon",
    "it resets next month",
    "resets 4",
    "resets 25:00",
    "resets 13pm (UTC)",
    "resets 4:75pm",
    "resets Feb 30, 2027, 1pm (UTC)",
    "resets 4pm (Mars/Base)",
    "resets Jan 14, 2099, 1pm (UTC)",
    "usage limit reached|12",
    "presets 4pm",
    `resets ${" ".repeat(100_000)}4pm`,
  ])("is none in %j", (text) => {
    expect(resetTime(text, Date.parse("2026-11-25T15:33:00Z"), local)).toBeUndefined()
  })
})

/**
 * As Claude Code 2.1.197 writes a moment: its own function, with the clock and the zone as
 * arguments.
 */
function asClaudeWrites(atMs: number, nowMs: number, timeZone: string): string {
  const at = new Date(atMs)
  const year = (date: Date): string => date.toLocaleString("en-US", { timeZone, year: "numeric" })
  const minuteOf = Number(at.toLocaleString("en-US", { timeZone, minute: "numeric" }))
  const minute = minuteOf === 0 ? {} : { minute: "2-digit" as const }
  const lower = (text: string): string =>
    text.replace(/\s([AP]M)/i, (_match, half: string) => half.toLowerCase())
  if (atMs - nowMs <= dayMs)
    return lower(
      at.toLocaleTimeString("en-US", { timeZone, hour: "numeric", hour12: true, ...minute }),
    )
  const dated = {
    timeZone,
    month: "short",
    day: "numeric",
    hour: "numeric",
    hour12: true,
    ...minute,
  } as const
  return lower(
    at.toLocaleString(
      "en-US",
      year(at) === year(new Date(nowMs)) ? dated : { ...dated, year: "numeric" },
    ),
  )
}

describe("the moment at which a limit ends, as Claude Code writes it", () => {
  const zones = Intl.supportedValuesOf("timeZone")
  const zone = fc.oneof(
    fc.constantFrom(
      "UTC",
      "Europe/Zurich",
      "America/New_York",
      "Australia/Lord_Howe",
      "Asia/Kathmandu",
      "America/Santiago",
    ),
    fc.constantFrom(...zones),
  )
  /** Also around the moments at which clocks are set, and around the year's end. */
  const now = fc.oneof(
    fc.integer({ min: Date.UTC(2025, 0), max: Date.UTC(2031, 0) }),
    fc
      .tuple(
        fc.constantFrom(
          Date.UTC(2026, 2, 29, 1),
          Date.UTC(2026, 9, 25, 1),
          Date.UTC(2026, 10, 1, 6),
          Date.UTC(2027, 0, 1),
        ),
        fc.integer({ min: -26 * hourMs, max: 26 * hourMs }),
      )
      .map(([around, more]) => around + more),
  )
  const ahead = fc.oneof(
    fc.integer({ min: 0, max: 26 * hourMs }),
    fc.integer({ min: 0, max: 60 * dayMs }),
  )
  const shown = (ms: number, timeZone: string): string =>
    new Date(ms).toLocaleString("en-US", { timeZone, dateStyle: "medium", timeStyle: "short" })

  it("is that minute in every zone; only where clocks show it twice it may be the earlier one", () => {
    fc.assert(
      fc.property(zone, now, ahead, fc.boolean(), (timeZone, nowMs, aheadMs, named) => {
        const atMs = nowMs + aheadMs
        const text = `You've hit your weekly limit · resets ${asClaudeWrites(atMs, nowMs, timeZone)}${named ? ` (${timeZone})` : ""}`
        const found = resetTime(text, nowMs, named ? "Asia/Tokyo" : timeZone) ?? Number.NaN
        const minute = Math.floor(atMs / minuteMs) * minuteMs
        if (found === minute) return
        // The same on the clock, earlier, and not over yet: an hour that comes twice, or a day of
        // 23 hours.
        expect(found).toBeLessThan(minute)
        expect(found).toBeGreaterThan(nowMs - lateMs)
        // The same minute of yesterday, just now: asked again soon, it is read as today's.
        if (found <= nowMs && aheadMs <= dayMs) return
        const written = (ms: number): string =>
          shown(ms, timeZone).replace(aheadMs <= dayMs ? /^.*, (?=\d+:)/ : /^/, "")
        expect(written(found)).toBe(written(minute))
        const offset = (ms: number): string =>
          new Date(ms).toLocaleString("en-US", { timeZone, timeZoneName: "longOffset" }).slice(-9)
        expect(offset(found)).not.toBe(offset(minute))
      }),
      { numRuns: 500 },
    )
  })

  it("is never farther than it was written, nor an error, whatever the text", () => {
    const part = fc.constantFrom(
      "resets ",
      "at ",
      "in ",
      "Nov 29",
      "Mon",
      ", ",
      "4pm",
      "16:00",
      "2h ",
      "(UTC)",
      "(x)",
      "|1795626000",
      "limit reached",
      " ",
    )
    fc.assert(
      fc.property(fc.array(part), zone, now, (parts, timeZone, nowMs) => {
        const found = resetTime(parts.join(""), nowMs, timeZone) ?? nowMs
        expect(Math.abs(found - nowMs)).toBeLessThan(400 * dayMs)
      }),
    )
  })
})
