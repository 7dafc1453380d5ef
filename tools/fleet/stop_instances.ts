import { z } from "zod"
import type { Work } from "../../src/core/beat.ts"
import {
  type ChangeDecision,
  type ChangeRow,
  changeAll,
  changeFields,
  changeOutput,
  shownRows,
} from "../../src/core/bulk-change.ts"
import { nextAfterChange, showChanges } from "../../src/core/change-report.ts"
import { watchChanges } from "../../src/core/fleet-changes.ts"
import { hasFinished, type Instance, type Uid } from "../../src/core/instance.ts"
import { type TargetInput, targetsOf } from "../../src/core/selector.ts"
import { authorOf, byWhom, overrides, refusalToLift } from "../../src/core/stops.ts"
import { defineTool, type ToolContext } from "../../src/core/tool.ts"
import { counted, listed } from "../../src/core/view.ts"

/** For a loop's grace and the last look at its tree. What takes longer, an event tells. */
const endMs = 15_000

/** What its removal leaves, by its last report: for a dry run, and where the end comes late. */
function keptOf(work: Work | undefined): { why: string; untrusted?: string } {
  if (!work?.own) return { why: "" }
  const { dirty, branch, commits = 0 } = work
  const place = branch === undefined ? "" : `branch ${branch}`
  if (dirty)
    return {
      why: ` Its tree has uncommitted work, so it is kept${branch === undefined ? "" : ", with its branch"}.`,
      untrusted: [`tree ${work.path}`, place].filter(Boolean).join(", "),
    }
  return commits > 0 && branch !== undefined
    ? {
        why: ` Its ${counted(commits, "commit is", "commits are")} kept on its branch.`,
        untrusted: place,
      }
    : { why: "" }
}

export default defineTool({
  name: "stop_instances",
  title: "Stop instances",
  description:
    "Ends instances and their running iteration; resume_instances starts them over. remove: true also deletes them for good. To halt work for a while use pause_instances.",
  toolset: "fleet",
  route: "POST /v1/instances:stop",
  verb: "operate",
  input: z.strictObject({ ...changeFields, remove: z.boolean().default(false) }),
  output: z.strictObject(changeOutput),
  hints: { readOnlyHint: false, destructiveHint: true, idempotentHint: true, openWorldHint: false },
  targets: targetsOf,
  confirm(input) {
    if (input.dryRun || !(input.remove || input.all)) return undefined
    const { names = [], expect } = input
    const count = expect === undefined || names.length > 0 ? "" : ` (${expect})`
    return input.remove
      ? `Remove ${whichOf(input)}${count} for good? Running iterations end, and the names become free.`
      : `Stop ${whichOf(input)}${count}? Running iterations end.`
  },
  async handler(ctx, input) {
    const awaited = new Map<string, Uid>()
    const changes = await changeAll(ctx, input, {
      past: input.remove ? "removed" : "stopped",
      weight: input.remove ? "final" : undefined,
      decide(instance, readings): ChangeDecision {
        const { name, uid, spec } = instance
        const { who } = ctx
        if (instance.deletedAtMs !== undefined) return { why: "It is already being removed." }
        if (input.remove) {
          // Removing and spawning it again would start it after all.
          const refusal = refusalToLift(who, spec, readings.nowMs)
          if (refusal !== undefined) return { why: refusal }
          const work = readings.beats.get(uid)?.work
          if (work?.own ?? hasOwnTree(instance)) awaited.set(name, uid)
          return { remove: true, kept: keptOf(work) }
        }
        const isStopped = spec.state === "Stopped"
        const before =
          isStopped || spec.stop ? { what: "stopped" as const, ...spec.stop } : undefined
        const stop = { by: authorOf(who), atMs: readings.nowMs }
        const counts = overrides(who, before, spec.lineage)
        if (isStopped && !counts)
          return { why: `It was already told to stop${byWhom(spec.stop ?? {}, readings.nowMs)}.` }
        if (isStopped || !hasFinished(instance))
          return { spec: { ...spec, state: "Stopped", stop } }
        // Nothing is left to stop, but somebody below could start it afresh.
        return counts ? { spec: { ...spec, stop } } : { why: "Its loop has already finished." }
      },
    })
    const ended = input.dryRun ? new Map<string, string>() : await endOf(ctx, awaited)
    const rows = changes.instances.map((row): ChangeRow => {
      const kept = ended.get(row.name)
      const { name, changed } = row
      if (kept === undefined) return row
      const why = `${name} was removed.${kept === "" ? "" : " Work that exists nowhere else was kept."}`
      return { name, changed, phase: "Removed", why, ...(kept !== "" && { untrusted: kept }) }
    })
    const instances = shownRows(rows)
    const late =
      ended.size < awaited.size
        ? ' Some are still ending: read_events {"kinds":["Removed"]} will tell what was kept.'
        : ""
    const after = input.remove
      ? `A name is free again when list_instances {} no longer shows it. \`blackbox5 trees\` lists and removes what was kept.${late}`
      : "resume_instances starts them over; stop_instances with remove: true deletes them."
    const shown = { ...changes, instances }
    return { ...shown, next: nextAfterChange(shown, after, ctx) }
  },
  show: showChanges("stopped"),
})

/** Whom a person is asked about. */
function whichOf({ names = [], project, selector, all }: TargetInput): string {
  if (all) return "all instances of the fleet"
  if (names.length > 0) return listed(names, 10)
  const parts = [project && `project ${project}`, selector && `label ${selector}`].filter(Boolean)
  return `the instances of ${parts.join(", ")}`
}

/** It has one by what was asked for, also before its supervisor reports it. */
const hasOwnTree = ({ spec, status }: Instance): boolean =>
  status.run !== undefined &&
  (spec.workspace === "worktree" || spec.repository !== undefined || spec.ref !== undefined)

/**
 * Waits until nothing runs any more of instances with trees of their own and their trees were
 * looked at, because only then it is known what had to be kept: a loop may write until it ends. Of
 * those that are gone, by name, what the timeline says was kept; empty where nothing was.
 */
async function endOf(
  ctx: ToolContext,
  awaited: ReadonlyMap<string, Uid>,
): Promise<ReadonlyMap<string, string>> {
  const { store, timeline } = ctx
  const left = new Map(awaited)
  const gone = new Map<string, Uid>()
  if (left.size === 0) return new Map()
  const changes = watchChanges(ctx, new Set(left.keys()), new Set(), endMs)
  try {
    do {
      for (const [name, uid] of left)
        if (store.replica.get(name)?.uid !== uid) {
          gone.set(name, uid)
          left.delete(name)
        }
      ctx.progress(gone.size, `${gone.size} of ${counted(awaited.size, "instance")} ended`)
    } while (left.size > 0 && (await changes.next()))
  } finally {
    changes.end()
  }
  if (gone.size === 0) return new Map()
  const query = { uids: [...gone.values()], kinds: ["Removed" as const], limit: 3 * gone.size }
  const { events } = await timeline.lastEvents(query)
  const kept = [...gone].map(([name, uid]) => {
    const ours = `${name} was removed.`
    const event = events.find((one) => one.uid === uid && one.message.startsWith(ours))
    return [name, event?.message.slice(ours.length).trim() ?? ""] as const
  })
  return new Map(kept)
}
