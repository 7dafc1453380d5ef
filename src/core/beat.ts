import { z } from "zod"
import { reasonSchema } from "./reason.ts"
import { usageSchema } from "./usage.ts"

/**
 * Milliseconds of a moment that a Date can be: a supervisor may say anything, and who shows it must
 * not fail.
 */
export const momentSchema = z.int().min(0).max(8_640_000_000_000_000)

export const markerSchema = z.enum(["COMPLETE", "BLOCKED", "PARTIAL", "FAILED", "NONE"])
export type Marker = z.output<typeof markerSchema>

export const lastSchema = z.strictObject({
  /** The turn it ran under. */
  turn: z.string().max(64),
  iteration: z.int(),
  outcome: markerSchema,
  text: z.string().max(4000),
  atMs: momentSchema,
})
/** How an iteration ended: the model's last word, and what it marks. */
export type Last = z.output<typeof lastSchema>

export const holdSchema = z.strictObject({
  reason: reasonSchema,
  message: z.string().max(1000),
  untilMs: momentSchema.optional(),
})
/**
 * A reason, seen by the supervisor, to withhold the next turn. Without an end it lasts as long as
 * the attempt: until a person resumes it.
 */
export type ReportedHold = z.output<typeof holdSchema>

export const beatSchema = z.strictObject({
  place: z.string().max(128),
  turn: z
    .strictObject({
      id: z.string().max(64),
      state: z.enum(["Wanted", "Running"]),
      sinceMs: momentSchema,
      /**
       * Which grant of it the supervisor knows: a freeze told before a new grant arrived says
       * nothing about that one.
       */
      grantedAtMs: momentSchema.optional(),
    })
    .optional(),
  frozen: z.boolean(),
  /** Used by this place since it began: a running maximum. */
  used: usageSchema,
  activity: z
    .strictObject({
      tool: z.string().max(120),
      summary: z.string().max(120),
      sinceMs: momentSchema,
    })
    .optional(),
  /** The last finished iteration of this attempt. */
  last: lastSchema.optional(),
  /**
   * What the next iteration would be told that the last one was not: an operator's word (mail,
   * goal, order), or other mail alone.
   */
  news: z.enum(["instruction", "mail"]).optional(),
  /**
   * Its work tree, as it was at the end of the last iteration: `commits` beyond where it began.
   * `own`: no other works in it. Without git neither `commits` nor `dirty` is known.
   */
  work: z
    .strictObject({
      path: z.string().max(4096),
      own: z.boolean(),
      branch: z.string().max(300).optional(),
      commits: z.int().min(0).optional(),
      dirty: z.boolean().optional(),
    })
    .optional(),
  hold: holdSchema.optional(),
  atMs: momentSchema,
  /**
   * When it was sent, by the supervisor's steady clock: of two beats of a place the later one
   * counts, whichever link brings it. Absent from supervisors of before 0.5.
   */
  sentAtSteadyMs: z.number().min(0).optional(),
})
/** An instance's latest self-report. */
export type Beat = z.output<typeof beatSchema>

/**
 * An instance's work tree: path and branch, commits beyond where it began, and whether anything in
 * it is not committed.
 */
export type Work = NonNullable<Beat["work"]>

/** Whether a later beat of the same place is known: an older link may have been slower. */
export const isOutdatedBeat = (beat: Beat, known: Beat | undefined): boolean =>
  known?.place === beat.place &&
  known.sentAtSteadyMs !== undefined &&
  beat.sentAtSteadyMs !== undefined &&
  beat.sentAtSteadyMs < known.sentAtSteadyMs

/** A supervisor beats every 5 s; three missed beats are a silence. */
export const silentMs = 15_000

/**
 * True when a beat says something that others act on, or ends a silence. Time alone (`used.ms`,
 * `atMs`), its work tree and the activity concern only those who look.
 */
export function isBeatNews(before: Beat | undefined, now: Beat | undefined): boolean {
  if (!before || !now) return before !== now
  return Math.abs(now.atMs - before.atMs) > silentMs || beatNews(before) !== beatNews(now)
}
const beatNews = ({ place, turn, frozen, hold, last, news, used }: Beat): string =>
  JSON.stringify([
    place,
    turn,
    frozen,
    hold,
    last?.turn,
    news,
    used.usd,
    used.tokens,
    used.iterations,
  ])
