import type { Emitted } from "./event.ts"
import type { Uid } from "./instance.ts"
import type { ToolContext } from "./tool.ts"

/**
 * Tells the timeline what a call did. What was done stands, and the audit names it, also when the
 * timeline cannot be told.
 */
export async function announce(
  { timeline, newId }: Pick<ToolContext, "timeline" | "newId">,
  event: Omit<Emitted, "id"> & { readonly uid?: Uid },
): Promise<void> {
  await timeline.append({ ...event, id: newId("e") }).catch(() => undefined)
}
