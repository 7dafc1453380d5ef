import { cut } from "./view.ts"

/**
 * When a limit ends, from the words of Claude Code. It cuts seconds off, gives a date only where
 * the moment is more than a day away, and a year only where that is another one (read in 2.1.197,
 * whose texts and older ones are in the tests).
 */

const minuteMs = 60_000
const dayMs = 86_400_000
/**
 * A moment that has just passed is that moment, not the same one of tomorrow: seconds are cut off,
 * and the text took its time to get here.
 */
const lateMs = 2 * minuteMs

const months = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
const weekdays = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]

/** As much of a text as is looked at: an error is a line or two. */
const charactersMax = 4000
/** "usage limit reached|1760000000": seconds, or milliseconds, since 1970. */
const epoch = /limit reached\|(?<number>\d{9,13})\b/i
const verb = String.raw`\b(?:resets?|try again|retry|available again)(?:\s+(?:at|on))?[\s:]+`
/** "resets in 2h 5m", "try again in 30 seconds". */
const span = new RegExp(
  `${verb}in\\s+(?<spans>(?:\\d{1,5}\\s*(?:d|h|m|s)[a-z]*[\\s,]*(?:and\\s+)?){1,4})`,
  "i",
)
const iso = new RegExp(
  `${verb}(?<date>\\d{4}-\\d\\d-\\d\\d)[T ](?<hour>\\d\\d):(?<minute>\\d\\d)(?::\\d\\d(?:\\.\\d{1,9})?)?\\s*(?<zone>Z|[+-]\\d\\d:?\\d\\d)?`,
  "i",
)
const monthDay = String.raw`(?<month>${months.join("|")})[a-z]{0,6}\.?\s+(?<date>\d{1,2})(?:st|nd|rd|th)?\b(?:,?\s+(?<year>\d{4})\b)?`
const weekday = String.raw`(?<weekday>${weekdays.join("|")})(?:s|r|rs|(?:s|nes|rs|ur)?day)?\b\.?`
/** A bare number is no time: "resets Dec 1, 3 seats left". */
const time = String.raw`(?=\d{1,2}(?::\d\d|\s*[ap]\.?m\b))(?<hour>\d{1,2})(?::(?<minute>\d\d))?(?::\d\d)?(?:\s*(?<half>[ap])\.?m\b\.?)?`
const wall = new RegExp(
  `${verb}(?:(?:${monthDay}|${weekday}|(?<tomorrow>tomorrow)|today)\\s*,?\\s*(?:at\\s+)?)?(?:${time})?\\s*(?:\\((?<zone>[^()]{1,60})\\))?`,
  "gi",
)
/** Nothing that Claude Code counts resets as seldom as this: what is farther away was misread. */
const farthestMs = 400 * dayMs

/**
 * The moment, in milliseconds since 1970, to the minute; undefined where the text gives none. It
 * may have passed already. `zone` (IANA) is that of this machine: it counts where the text names
 * none.
 */
export function resetTime(text: string, nowMs: number, zone: string): number | undefined {
  const found = readTime(cut(text, charactersMax), nowMs, zone)
  return found !== undefined && Math.abs(found - nowMs) < farthestMs ? found : undefined
}

function readTime(text: string, nowMs: number, zone: string): number | undefined {
  const seconds = epoch.exec(text)?.groups?.number
  if (seconds !== undefined) return Number(seconds) * (seconds.length > 11 ? 1 : 1000)
  const spans = span.exec(text)?.groups?.spans
  if (spans !== undefined) return nowMs + spanMs(spans)
  const exact = iso.exec(text)?.groups
  if (exact) return isoTime(exact, zone)
  for (const { groups } of text.matchAll(wall)) {
    const found = groups && wallTime(groups, nowMs, zone)
    if (found !== undefined) return found
  }
  return undefined
}

const unitMs: Readonly<Record<string, number>> = {
  d: dayMs,
  h: 60 * minuteMs,
  m: minuteMs,
  s: 1000,
}
const spanMs = (text: string): number =>
  [...text.matchAll(/(\d+)\s*([dhms])/gi)].reduce(
    (sum, [, count, unit = ""]) => sum + Number(count) * (unitMs[unit.toLowerCase()] ?? 0),
    0,
  )

type Groups = Readonly<Record<string, string | undefined>>

function isoTime({ date, hour, minute, zone }: Groups, local: string): number | undefined {
  const clock = Date.parse(`${date}T${hour}:${minute}Z`)
  if (Number.isNaN(clock)) return undefined
  if (zone === undefined) return moments(clock, local)[0]
  const offset = zone.toUpperCase() === "Z" ? 0 : offsetMs(zone, clock)
  return offset === undefined ? undefined : clock - offset
}

function wallTime(groups: Groups, nowMs: number, local: string): number | undefined {
  const { month, date, year, weekday, tomorrow, hour } = groups
  const zone = groups.zone?.trim() ?? local
  // Of a day alone, its beginning counts.
  const minutes = minutesOfDay(groups)
  if (minutes === undefined || (month ?? weekday ?? tomorrow ?? hour) === undefined)
    return undefined
  const offset = offsetMs(zone, nowMs)
  if (offset === undefined) return undefined
  /** Clocks are counted as if they stood at UTC, so that days have no length but 24 hours. */
  const today = Math.floor((nowMs + offset) / dayMs) * dayMs
  const at = (dayClock: number): readonly number[] => moments(dayClock + minutes * minuteMs, zone)
  const next = (days: readonly number[]): number | undefined =>
    days.flatMap(at).find((ms) => ms > nowMs - lateMs)

  if (month !== undefined) {
    const years =
      year === undefined
        ? [-1, 0, 1].map((more) => new Date(today).getUTCFullYear() + more)
        : [Number(year)]
    const days = years.flatMap((each) =>
      dayOf(each, months.indexOf(month.toLowerCase()), Number(date)),
    )
    // Without a year it is the nearest: at the year's end the one to come, and of an old text the
    // one that has passed.
    return days
      .flatMap(at)
      .toSorted((a, b) => distance(a, nowMs) - distance(b, nowMs))
      .at(0)
  }
  if (weekday !== undefined) {
    const ahead = (weekdays.indexOf(weekday.toLowerCase()) - new Date(today).getUTCDay() + 7) % 7
    return next([ahead - 7, ahead, ahead + 7].map((days) => today + days * dayMs))
  }
  if (tomorrow !== undefined) return at(today + dayMs)[0]
  return next([-1, 0, 1, 2].map((days) => today + days * dayMs))
}

/**
 * A moment that has passed by more than that is a little farther than it is: of two equally far,
 * the one to come counts.
 */
const distance = (ms: number, nowMs: number): number =>
  ms > nowMs - lateMs ? Math.abs(ms - nowMs) : nowMs - ms + 1

function minutesOfDay({ hour = "0", minute = "0", half }: Groups): number | undefined {
  const [hours, minutes] = [Number(hour), Number(minute)]
  if (minutes > 59) return undefined
  if (half === undefined) return hours > 23 ? undefined : hours * 60 + minutes
  if (hours < 1 || hours > 12) return undefined
  return ((hours % 12) + (half.toLowerCase() === "p" ? 12 : 0)) * 60 + minutes
}

/** The beginning of that day as if it were of UTC, if there is such a day. */
function dayOf(year: number, month: number, date: number): readonly number[] {
  const clock = Date.UTC(year, month, date)
  const found = new Date(clock)
  return found.getUTCMonth() === month && found.getUTCDate() === date ? [clock] : []
}

/**
 * The moments at which clocks in the zone show this (given as if of UTC): one; two where they are
 * set back; none where they are set forward over it.
 */
function moments(clock: number, zone: string): readonly number[] {
  const offsets = [offsetMs(zone, clock - dayMs), offsetMs(zone, clock + dayMs)].filter(
    (offset) => offset !== undefined,
  )
  return [...new Set(offsets.map((offset) => clock - offset))]
    .filter((ms) => ms + (offsetMs(zone, ms) ?? 0) === clock)
    .toSorted((a, b) => a - b)
}

/** How far clocks in the zone are ahead of UTC then. */
function offsetMs(zone: string, atMs: number): number | undefined {
  const fixed = /^(?:UTC|GMT)?(?<sign>[+-])(?<hours>\d{1,2}):?(?<minutes>\d\d)?$/i.exec(
    zone,
  )?.groups
  if (fixed)
    return (
      (fixed.sign === "-" ? -1 : 1) *
      (Number(fixed.hours) * 60 + Number(fixed.minutes ?? 0)) *
      minuteMs
    )
  try {
    const parts = new Intl.DateTimeFormat("en-US", {
      timeZone: zone,
      hourCycle: "h23",
      year: "numeric",
      month: "numeric",
      day: "numeric",
      hour: "numeric",
      minute: "numeric",
      second: "numeric",
    }).formatToParts(new Date(atMs))
    const number = (type: Intl.DateTimeFormatPartTypes): number =>
      Number(parts.find((part) => part.type === type)?.value)
    const [hour, minute, second] = [number("hour"), number("minute"), number("second")]
    const clock = Date.UTC(number("year"), number("month") - 1, number("day"), hour, minute, second)
    return clock - Math.floor(atMs / 1000) * 1000
  } catch {
    return undefined // RangeError: no such zone, or a moment that no calendar has
  }
}
