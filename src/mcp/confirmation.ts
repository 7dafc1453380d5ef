import { Fault } from "../core/faults.ts"
import { type Answer, failed } from "./surface.ts"

/** Asking the person at a client before a call that cannot be taken back. */

/** Time to read and decide; a client that shows no form is not waited for longer. */
export const confirmMs = 120_000

/** A form without fields: to accept it is the confirmation. */
export const formOf = (question: string) => ({
  mode: "form" as const,
  message: question,
  requestedSchema: { type: "object" as const, properties: {} },
})

/** Anything but an acceptance refuses the call; undefined lets it go on. */
export function refusedBy(action: "accept" | "decline" | "cancel" | "silence"): Answer | undefined {
  if (action === "accept") return undefined
  const why = {
    decline: "The person declined; nothing was changed.",
    cancel: "The person did not confirm it; nothing was changed.",
    silence: `Nobody confirmed it within ${confirmMs / 1000} s; nothing was changed.`,
  }[action]
  return failed(
    new Fault(
      "Forbidden",
      why,
      "Ask the person what is meant before calling it again; without anybody to ask, `blackbox5 stop-instances` in a shell does it.",
    ),
  )
}
