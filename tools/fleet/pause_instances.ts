import { z } from "zod"
import {
  type ChangeDecision,
  changeAll,
  changeFields,
  changeOutput,
  expectSchema,
} from "../../src/core/bulk-change.ts"
import { nextAfterChange, showChanges } from "../../src/core/change-report.ts"
import { desiredState, hasFinished, type Instance, type Spec } from "../../src/core/instance.ts"
import { momentTextSchema, untilOf } from "../../src/core/moment.ts"
import { targetsOf } from "../../src/core/selector.ts"
import { authorOf, currentActs, overrides, refusalToLift } from "../../src/core/stops.ts"
import { defineTool } from "../../src/core/tool.ts"

type Pause = NonNullable<Spec["pause"]>

/**
 * The pause as it should read now. A frozen iteration is never woken to finish, so "now" outlives
 * "iteration-end". Of an overridden pause nothing else stays, neither its end nor its note.
 */
const merged = (earlier: Pause | undefined, wanted: Pause, isOverridden: boolean): Pause => ({
  ...(isOverridden ? {} : earlier),
  ...wanted,
  when: earlier?.when === "now" ? "now" : wanted.when,
})
const isSame = (a: Pause, b: Pause): boolean =>
  a.when === b.when && a.untilMs === b.untilMs && a.note === b.note

export default defineTool({
  name: "pause_instances",
  title: "Pause instances",
  description:
    "Freezes instances at once, or after their iteration; they keep their work and place. until ends the pause by itself. The returned batch resumes exactly those paused.",
  toolset: "fleet",
  route: "POST /v1/instances:pause",
  verb: "operate",
  input: z.strictObject({
    ...changeFields,
    expect: expectSchema.describe("count of a dryRun"),
    when: z.enum(["now", "iteration-end"]).default("now"),
    until: momentTextSchema.optional().describe("8h, 30m, or an ISO time"),
    note: z.string().min(1).max(500).optional(),
  }),
  output: z.strictObject({ ...changeOutput, batch: z.string().optional() }),
  hints: {
    readOnlyHint: false,
    destructiveHint: false,
    idempotentHint: true,
    openWorldHint: false,
  },
  targets: targetsOf,
  outcome: ({ batch }) => ({ ...(batch !== undefined && { made: [batch] }) }),
  async handler(ctx, input) {
    const batch = ctx.newId("b")
    const wanted: Pause = {
      when: input.when,
      ...(input.until !== undefined && { untilMs: untilOf(input.until, ctx.clock.nowMs()) }),
      ...(input.note !== undefined && { note: input.note }),
    }
    const decide = (instance: Instance, { nowMs }: { nowMs: number }): ChangeDecision => {
      const { spec } = instance
      if (instance.deletedAtMs !== undefined) return { why: "It is being removed." }
      const state = desiredState(spec, nowMs)
      if (state === "Stopped") return { why: "It is stopped, so there is nothing to pause." }
      if (hasFinished(instance))
        return { why: "Its loop has finished, so there is nothing to pause." }
      const earlier: Pause | undefined =
        state === "Paused" ? (spec.pause ?? { when: "now" }) : undefined
      const [act] = currentActs(spec, nowMs)
      const isOverridden = act !== undefined && overrides(ctx.who, act, spec.lineage)
      const pause = merged(earlier, wanted, isOverridden)
      const refusal = refusalToLift(ctx.who, spec, nowMs)
      if (refusal !== undefined) return { why: refusal }
      if (earlier && !isOverridden && isSame(earlier, pause))
        return {
          why: `It was already paused${earlier.batch === undefined ? "" : `, in batch ${earlier.batch}`}.`,
        }
      return {
        spec: {
          ...spec,
          state: "Paused",
          pause: { ...pause, batch, by: authorOf(ctx.who), atMs: nowMs },
        },
      }
    }
    const changes = await changeAll(ctx, input, {
      past: "paused",
      detail: ` (${input.when})`,
      weight: "urgent",
      decide,
    })
    return {
      ...changes,
      batch: changes.changed > 0 && !input.dryRun ? batch : undefined,
      next: nextAfterChange(changes, `resume_instances {"batch":"${batch}"} resumes them.`, ctx),
    }
  },
  show: showChanges("paused"),
})
