import { z } from "zod"
import { finished } from "../src/core/instance.ts"
import type { Work } from "../src/core/link.ts"
import { beatOf } from "../src/core/outline.ts"
import { targetsOf } from "../src/core/selector.ts"
import { defineTool } from "../src/core/tool.ts"
import { changeAll, changeFields, changeOutput, nextOf, type Step, showChanges } from "./changes.ts"

/** What its removal leaves, as far as its last report goes; the event of the removal says what was really kept. */
function keptOf(work: Work | undefined): string {
  if (!work?.own) return ""
  if (work.dirty)
    return ` Its tree ${work.path} holds work that is not committed: it is kept${work.branch === undefined ? "" : `, with branch ${work.branch}`}.`
  return work.commits > 0 && work.branch !== undefined
    ? ` Its ${work.commits === 1 ? "1 commit is" : `${work.commits} commits are`} kept on branch ${work.branch}.`
    : ""
}

export default defineTool({
  name: "stop_instances",
  title: "Stop instances",
  description:
    "Ends instances and their running iteration; resume_instances starts them afresh. remove: true also deletes them for good. To halt work for a while use pause_instances.",
  toolset: "fleet",
  route: "POST /v1/instances:stop",
  verb: "operate",
  input: z.strictObject({ ...changeFields, remove: z.boolean().default(false) }),
  output: z.strictObject(changeOutput),
  hints: { readOnlyHint: false, destructiveHint: true, idempotentHint: true, openWorldHint: false },
  targets: targetsOf,
  confirm(input) {
    if (input.dryRun || !(input.remove || input.all)) return undefined
    const { names = [], project, selector, expect } = input
    const which = input.all
      ? "all instances of the fleet"
      : names.length > 0
        ? `${names.slice(0, 10).join(", ")}${names.length > 10 ? ` and ${names.length - 10} more` : ""}`
        : `the instances of ${[project && `project ${project}`, selector && `label ${selector}`].filter(Boolean).join(", ")}`
    const count = expect === undefined || names.length > 0 ? "" : ` (${expect})`
    return input.remove
      ? `Remove ${which}${count} for good? Running iterations end, and the names become free.`
      : `Stop ${which}${count}? Running iterations end.`
  },
  async handler(ctx, input) {
    const changes = await changeAll(ctx, input, {
      past: input.remove ? "Removed" : "Stopped",
      ...(input.remove && { weight: "final" as const }),
      step(instance, readings): Step {
        if (instance.deletedAtMs !== undefined) return { why: "It is being removed already." }
        if (input.remove) return { remove: true, kept: keptOf(beatOf(instance, readings)?.work) }
        if (instance.spec.state === "Stopped") return { why: "It was told to stop already." }
        if (finished(instance)) return { why: "Its loop has ended by itself: nothing of it runs." }
        return { spec: { ...instance.spec, state: "Stopped" } }
      },
    })
    const after = input.remove
      ? "A name is free again when list_instances {} no longer shows it. What they committed, or have not committed yet, is kept."
      : "resume_instances starts them afresh; stop_instances with remove: true deletes them."
    return { ...changes, next: nextOf(changes, input, after, ctx) }
  },
  show: showChanges("stopped"),
})
