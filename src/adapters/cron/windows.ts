import { Cron } from "croner"
import { LRUCache } from "lru-cache"
import { Fault } from "../../core/faults.ts"
import type { Schedule } from "../../core/instance.ts"
import type { Windows } from "../../core/ports.ts"

/**
 * Schedules as cron(5) writes them, in a time zone, read by croner. Each moment that matches opens
 * a window of so many minutes.
 */

const minuteMs = 60_000
/** Patterns that are kept parsed; the scheduler looks at each scheduled instance in each pass. */
const parsedMax = 1000
/**
 * A pattern that matches no moment any more (a date in the past) opens never: said as a day from
 * now, then looked at again.
 */
const neverMs = 86_400_000

export function cronWindows(): Windows {
  const parsed = new LRUCache<string, Cron>({ max: parsedMax })
  const cronOf = ({ cron, timezone }: Schedule): Cron => {
    const key = `${timezone} ${cron}`
    const known = parsed.get(key) ?? new Cron(cron, { timezone, mode: "5-part" })
    parsed.set(key, known)
    return known
  }
  return {
    check(schedule) {
      try {
        cronOf(schedule).nextRun()
      } catch (error) {
        throw new Fault(
          "Invalid",
          `Invalid schedule: ${error instanceof Error ? error.message : String(error)}`,
          'Write five fields and a time zone, like {"cron":"0 22 * * 1-5","minutes":480,"timezone":"Europe/Berlin"}.',
        )
      }
    },
    at(schedule, nowMs) {
      const cron = cronOf(schedule)
      const lengthMs = schedule.minutes * minuteMs
      // nextRun gives moments after the one it is given: a window that opens just now began after
      // this one.
      const opened = cron.nextRun(new Date(nowMs - lengthMs))?.getTime()
      if (opened === undefined) return { open: false, untilMs: nowMs + neverMs }
      return opened <= nowMs
        ? { open: true, untilMs: opened + lengthMs }
        : { open: false, untilMs: opened }
    },
  }
}
