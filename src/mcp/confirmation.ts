import { Fault } from "../core/faults.ts"
import { type Answer, failed } from "./surface.ts"

/** Asks the person at the client before a call that cannot be undone. */

/** How long to wait for an answer. */
export const confirmMs = 120_000

/**
 * No person reads and dismisses a question faster. `claude -p` claims that it can ask, but has
 * nobody to ask, and cancels after 6 ms (measured with 2.1.197).
 */
export const readingMs = 300

/** A form without fields: accepting it is the confirmation. */
export const jsonForm = (question: string) => ({
  mode: "form" as const,
  message: question,
  requestedSchema: { type: "object" as const, properties: {} },
})

type Action = "accept" | "decline" | "cancel"
/** `silence`: the client failed, or did not answer in time. `unasked`: it has nobody to ask. */
export type Confirmation = Action | "silence" | "unasked"

/** How often a question was asked, and when last, in milliseconds of the steady clock. */
export interface Asking {
  readonly attempts: number
  readonly atMs: number
}

/**
 * What an answer means; undefined when the question must be asked again. A key pressed just as the
 * form appears cancels as fast as a client without a person, but not twice in a row.
 */
export function confirmationOf(
  action: Action,
  { attempts, atMs }: Asking,
): Confirmation | undefined {
  const isUnread = action === "cancel" && performance.now() - atMs < readingMs
  if (!isUnread) return action
  return attempts < 2 ? undefined : "unasked"
}

/**
 * The refusal of a call that was not confirmed; undefined lets it proceed. When nobody can be
 * asked, the number of instances that the caller expects stands in for a person: the tool refuses
 * the call when another number matches.
 */
export function refusedBy(
  confirmation: Confirmation,
  input: Record<string, unknown>,
): Answer | undefined {
  switch (confirmation) {
    case "accept":
      return undefined
    case "decline":
      return refused("The person declined. Nothing was changed.")
    case "cancel":
      return refused("The person dismissed the question. Nothing was changed.")
    case "silence":
      return refused(`Nobody confirmed within ${confirmMs / 1000} s. Nothing was changed.`)
    default:
      if (typeof input.expect === "number") return undefined
      return refused(
        "This client cannot ask a person to confirm. Nothing was changed.",
        "Call it with dryRun: true, then again with the count from its answer as expect, which stands in for a confirmation.",
      )
  }
}

const refused = (
  why: string,
  next = "Ask the person what they want before you call this again.",
): Answer => failed(new Fault("Forbidden", why, next))
