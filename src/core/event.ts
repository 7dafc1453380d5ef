import { z } from "zod"
import { momentSchema } from "./beat.ts"
import type { BucketRate } from "./bucket.ts"
import { outcomeSchema, type uidSchema } from "./instance.ts"

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
export const reportedSchema = emittedSchema.omit({ outcome: true }).extend({
  id: z.string().min(1).max(64),
  atMs: momentSchema,
  kind: eventKindSchema.extract(reportedKinds),
})
export type Reported = z.output<typeof reportedSchema>
/**
 * How many events one instance may report: an iteration has two and takes seconds, and a bad day
 * tells some dozen at once. Its supervisor keeps to it, so that its own spool is not flooded; the
 * gateway enforces it, because an agent may hold its supervisor's credential.
 */
export const eventRate: BucketRate = { max: 600, perSecond: 1 }
export type Emitted = z.output<typeof emittedSchema>
/** A fact in the timeline. `uid` is absent for facts about the fleet. */
export interface Event extends Emitted {
  readonly cursor: string
  readonly uid?: z.output<typeof uidSchema>
}
