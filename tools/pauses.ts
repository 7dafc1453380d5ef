import type { Spec } from "../src/core/instance.ts"
import { nameOf, type Principal } from "../src/core/principal.ts"
import type { ToolContext } from "../src/core/tool.ts"

/**
 * A batch names the pauses that one call made. That of an instance carries its uid, which is how the pause of a person or of an
 * ancestor is known from its own: nobody but the server writes a batch.
 */
export const newBatch = ({ who, newId }: Pick<ToolContext, "who" | "newId">): string =>
  (who.kind === "human" ? newId("b") : `${newId("b")}.${who.uid}`).slice(0, 64)

/** An instance never lifts or changes what a person or an ancestor paused. */
export function mayLift(who: Principal, pause: Spec["pause"]): boolean {
  if (who.kind === "human") return true
  const batch = pause?.batch ?? ""
  const dot = batch.indexOf(".")
  const by = batch.slice(dot + 1)
  return dot > 0 && by !== "" && !who.lineage.some((uid) => uid.startsWith(by))
}

/** Why such a pause stands, for `who` asked. */
export const standsFor = (who: Principal): string =>
  `A person or an ancestor of ${nameOf(who)} paused it: ask with message_instances {"to":["@operators"],"text":"…"}.`
