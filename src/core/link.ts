import { z } from "zod"
import {
  desiredState,
  type Instance,
  outcomeSchema,
  type Reason,
  reasonSchema,
  type Spec,
  type uidSchema,
  type Verdict,
} from "./instance.ts"

/**
 * The wire between supervisor and gateway: two levels, of which the last counts (directive, beat),
 * and two streams (mail, events).
 */

export const urgencySchema = z.enum(["now", "next-iteration"])
export const mailSchema = z.strictObject({
  id: z.string().min(1).max(64),
  /**
   * Who wrote it, as a person would read it: `operator root`, `instance shop-1`. Set from the
   * caller's identity.
   */
  from: z.string().max(128),
  /** Operators' mail is instruction; all other mail is data. */
  authority: z.enum(["operator", "peer"]),
  text: z.string().min(1).max(65_536),
  urgency: urgencySchema,
  replyTo: z.string().max(64).optional(),
  /**
   * It wants an answer: the instance that asked starts no iteration until there is one, for a
   * while.
   */
  question: z.boolean().optional(),
  atMs: z.int(),
})
export type Mail = z.output<typeof mailSchema>

export const hookSchema = z.enum(["UserPromptSubmit", "PostToolUse", "Stop"])
export type Hook = z.output<typeof hookSchema>
export const receiptSchema = z.strictObject({
  mail: z.string().max(64),
  state: z.enum(["Queued", "Delivered", "Answered", "Returned"]),
  iteration: z.int().optional(),
  door: hookSchema.optional(),
})
/** What became of a mail. `iteration` and `door` say where the model got it. */
export type Receipt = z.output<typeof receiptSchema>

/** Four hours: longer than an iteration that still gets somewhere. */
export const iterationMinutesMaxDefault = 240

const grantSchema = z.strictObject({ id: z.string().max(64), grantedAtMs: z.int() })
/**
 * Not strict: a gateway of a newer version may say more than this supervisor knows, and what it
 * does know must still reach it.
 */
export const directiveSchema = z.object({
  freeze: z.union([reasonSchema, z.literal("Paused")]).optional(),
  /** The granted turn; a running iteration whose id it is not is frozen. */
  turn: grantSchema.optional(),
  /** What the loop is told at the start of each iteration. */
  goal: z.string().optional(),
  orders: z.array(z.strictObject({ id: z.string(), text: z.string() })),
  /**
   * Minutes that an iteration may run, unfrozen. Absent for the default: supervisors of before
   * would not understand it.
   */
  iterationMinutesMax: z.number().positive().optional(),
})
/** What the fleet wants of a running instance now. */
export type Directive = z.output<typeof directiveSchema>

/**
 * Why the processes of an instance are to stand still, if they are. The other holds only withhold
 * the next turn.
 */
export function freezes(
  spec: Spec,
  verdict: Verdict | undefined,
  nowMs: number,
): Reason | "Paused" | undefined {
  if (desiredState(spec, nowMs) === "Paused") return "Paused"
  return verdict?.verdict === "Held" && verdict.reason === "BudgetReached"
    ? "BudgetReached"
    : undefined
}

/** Never stored: derived anew on every change and connect, so a pause survives anything. */
export function directive(
  { spec, status: { admission } }: Instance,
  turn: z.output<typeof grantSchema> | undefined,
  nowMs: number,
  iterationMinutesMax = iterationMinutesMaxDefault,
): Directive {
  const reason = freezes(spec, admission, nowMs)
  const finishing =
    reason === "Paused" && spec.pause?.when === "iteration-end" && turn !== undefined
  return {
    ...(reason !== undefined && !finishing && { freeze: reason }),
    ...(turn && { turn: { id: turn.id, grantedAtMs: turn.grantedAtMs } }),
    ...(spec.goal !== undefined && { goal: spec.goal }),
    orders: spec.orders,
    ...(iterationMinutesMax !== iterationMinutesMaxDefault && { iterationMinutesMax }),
  }
}

/**
 * Milliseconds of a moment that a Date can be: a supervisor may say anything, and who shows it must
 * not fail.
 */
const momentSchema = z.int().min(0).max(8_640_000_000_000_000)

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
})
/** An instance's latest self-report. */
export type Beat = z.output<typeof beatSchema>

/**
 * An instance's work tree: path and branch, commits beyond where it began, and whether anything in
 * it is not committed.
 */
export type Work = NonNullable<Beat["work"]>

export const eventKindSchema = z.enum([
  "Spawned",
  "Changed",
  "Removed",
  "Started",
  "Exited",
  "IterationStarted",
  "IterationEnded",
  "MailSent",
  "MailDelivered",
  "Warning",
])
export type EventKind = z.output<typeof eventKindSchema>
export const emittedSchema = z.strictObject({
  /** Chosen by the sender, so that a repeat after a reconnect counts once. */
  id: z.string().min(1).max(80),
  kind: eventKindSchema,
  message: z.string().max(4000),
  /**
   * Of an Exited one: how the run ended, where the loop's own word decides that it is not started
   * again.
   */
  outcome: outcomeSchema.optional(),
  atMs: z.int(),
})
/**
 * What a supervisor may tell. It speaks for an agent, so what the control plane itself witnesses
 * (calls, starts, ends) is not its to say.
 */
export const reportedKinds = ["IterationStarted", "IterationEnded", "Warning"] as const
const reportedSchema = emittedSchema.omit({ outcome: true }).extend({
  id: z.string().min(1).max(64),
  atMs: momentSchema,
  kind: eventKindSchema.extract(reportedKinds),
})
export type Reported = z.output<typeof reportedSchema>
export type Emitted = z.output<typeof emittedSchema>
/** A fact in the timeline. `uid` is absent for facts about the fleet. */
export interface Event extends Emitted {
  readonly cursor: string
  readonly uid?: z.output<typeof uidSchema>
}

/**
 * Frames of the WebSocket `/v1/link`, one JSON text each. A frame with a `seq` is acknowledged and
 * sent again after a reconnect until it is.
 */
const receiptFrameSchema = z.strictObject({
  type: z.literal("receipt"),
  seq: z.int(),
  receipt: receiptSchema,
})
const eventFrameSchema = z.strictObject({
  type: z.literal("event"),
  seq: z.int(),
  event: reportedSchema,
})
export const sequencedSchema = z.discriminatedUnion("type", [receiptFrameSchema, eventFrameSchema])
export type Sequenced = z.output<typeof sequencedSchema>
/** A receipt or an event before it has its number. */
export type Spooled = Sequenced extends infer F
  ? F extends Sequenced
    ? Omit<F, "seq">
    : never
  : never
export const upFrameSchema = z.discriminatedUnion("type", [
  z.strictObject({ type: z.literal("beat"), beat: beatSchema }),
  receiptFrameSchema,
  eventFrameSchema,
])
export type UpFrame = z.output<typeof upFrameSchema>
export const downFrameSchema = z.discriminatedUnion("type", [
  z.strictObject({ type: z.literal("directive"), directive: directiveSchema }),
  z.strictObject({ type: z.literal("mail"), mail: mailSchema }),
  z.strictObject({ type: z.literal("ack"), seq: z.int() }),
])
export type DownFrame = z.output<typeof downFrameSchema>
/** One frame at most: a mail of 64 KiB, escaped. */
export const frameBytesMax = 1_048_576

// Why a gateway closes a link: 1001 as RFC 6455 means it, the others from its private range, 4000
// to 4999.

/** The gateway is shut down on purpose; whoever did that starts it again. */
export const closeGoingAway = 1001
/** The place is no longer the instance's current one: the supervisor ends what it runs. */
export const closeReplaced = 4001
/** A frame that is none; the supervisor connects again. */
export const closeMalformed = 4002
/** A frame could not be taken now: connect again, later. */
export const closeUnavailable = 4003
/** The same supervisor connected again, while its former link still seemed open. */
export const closeAgain = 4004
