import { z } from "zod"
import { finished } from "../src/core/instance.ts"
import { targetsOf } from "../src/core/selector.ts"
import { defineTool } from "../src/core/tool.ts"
import { changeAll, changeFields, changeOutput, nextOf, type Step, showChanges } from "./changes.ts"

export default defineTool({
  name: "stop_instances",
  title: "Stop instances",
  description:
    "Ends instances and their running iteration; resume_instances starts them afresh. remove: true also deletes them for good, and their name becomes free. To halt work for a while use pause_instances.",
  toolset: "fleet",
  route: "POST /v1/instances:stop",
  verb: "operate",
  input: z.strictObject({ ...changeFields, remove: z.boolean().default(false) }),
  output: z.strictObject(changeOutput),
  hints: { readOnlyHint: false, destructiveHint: true, idempotentHint: true, openWorldHint: false },
  targets: targetsOf,
  async handler(ctx, input) {
    const changes = await changeAll(ctx, input, {
      past: input.remove ? "Removed" : "Stopped",
      step(instance): Step {
        if (instance.deletedAtMs !== undefined) return { why: "It is being removed already." }
        if (input.remove) return { remove: true }
        if (instance.spec.state === "Stopped") return { why: "It was told to stop already." }
        if (finished(instance)) return { why: "Its loop has ended by itself: nothing of it runs." }
        return { spec: { ...instance.spec, state: "Stopped" } }
      },
    })
    const after = input.remove
      ? "A name is free again when list_instances {} no longer shows it."
      : "resume_instances starts them afresh; stop_instances with remove: true deletes them."
    return { ...changes, next: nextOf(changes, input, after) }
  },
  show: showChanges("stopped"),
})
