import { z } from "zod"
import { renamedField } from "./renamed-field.ts"

/** Messages to and from instances, and what became of them. */

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
/** Supervisors up to 0.2 call the hook a door. */
export const receiptSchema = z.preprocess(
  renamedField("door", "hook"),
  z.strictObject({
    mail: z.string().max(64),
    state: z.enum(["Queued", "Delivered", "Answered", "Returned"]),
    iteration: z.int().optional(),
    hook: hookSchema.optional(),
  }),
)
/** What became of a mail. `iteration` and `hook` say where the model got it. */
export type Receipt = z.output<typeof receiptSchema>

const receiptRank: Record<Receipt["state"], number> = {
  Queued: 0,
  Delivered: 1,
  Returned: 1,
  Answered: 2,
}
/** A receipt only moves up, and Delivered and Returned exclude each other. */
export const receiptAdvances = (from: Receipt["state"], to: Receipt["state"]): boolean =>
  receiptRank[to] > receiptRank[from]
