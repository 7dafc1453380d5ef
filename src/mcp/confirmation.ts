import { Fault } from "../core/faults.ts"
import { type Answer, failed } from "./surface.ts"

/** Asking the person at a client before a call that cannot be taken back. */

/** Time to read and decide; a client that shows no form is not waited for longer. */
export const confirmMs = 120_000

/**
 * Nobody reads a question and dismisses it in less. `claude -p` says that it can ask, has nobody to
 * ask, and cancels after 6 ms (2.1.197, measured).
 */
export const readingMs = 300

/** A form without fields: to accept it is the confirmation. */
export const jsonForm = (question: string) => ({
  mode: "form" as const,
  message: question,
  requestedSchema: { type: "object" as const, properties: {} },
})

type Action = "accept" | "decline" | "cancel"
/** `silence`: the client answered nothing in time, or broke. `unasked`: it has nobody to ask. */
export type Confirmation = Action | "silence" | "unasked"

/** How often a question was put, and when it was put last, in milliseconds of the steady clock. */
export interface Asking {
  readonly asked: number
  readonly atMs: number
}

/**
 * What an answer means; undefined when it must be asked once more. A key that was pressed as the
 * form appeared cancels as fast as a client without a person does, but not twice.
 */
export function confirmationOf(action: Action, { asked, atMs }: Asking): Confirmation | undefined {
  const isUnread = action === "cancel" && performance.now() - atMs < readingMs
  if (!isUnread) return action
  return asked < 2 ? undefined : "unasked"
}

/**
 * Anything but an acceptance refuses the call; undefined lets it go on. Where nobody can be asked,
 * the number of instances that the caller expects stands in for a person: the call is refused when
 * another number matches.
 */
export function refusedBy(
  confirmation: Confirmation,
  input: Record<string, unknown>,
): Answer | undefined {
  switch (confirmation) {
    case "accept":
      return undefined
    case "decline":
      return refused("The person declined; nothing was changed.")
    case "cancel":
      return refused("The person dismissed the question; nothing was changed.")
    case "silence":
      return refused(
        `The client did not ask, or nobody answered within ${confirmMs / 1000} s; nothing was changed.`,
      )
    default:
      if (typeof input.expect === "number") return undefined
      return refused(
        "This client has nobody to confirm it; nothing was changed.",
        "Call it with dryRun: true, then again with the count it gives as expect. That count stands in for a confirmation.",
      )
  }
}

const refused = (
  why: string,
  next = "Ask the person what they want before you call it again.",
): Answer => failed(new Fault("Forbidden", why, next))
