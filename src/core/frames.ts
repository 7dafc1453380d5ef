import { z } from "zod"
import { beatSchema } from "./beat.ts"
import { directiveSchema } from "./directive.ts"
import { reportedSchema } from "./event.ts"
import { mailSchema, receiptSchema } from "./mail.ts"

/**
 * The wire between supervisor and gateway: two levels, of which the last counts (directive, beat),
 * and two streams (mail, events).
 */

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
/**
 * The link's credential has ended or is refused: connect again, which asks the endpoint for another
 * one.
 */
export const closeUnauthenticated = 4005
