import { z } from "zod"
import {
  type ChangeStep,
  changeAll,
  changeFields,
  changeOutput,
  expectSchema,
  nextOf,
  showChanges,
} from "../../src/core/bulk-change.ts"
import { desiredState, hasFinished, type Instance, type Spec } from "../../src/core/instance.ts"
import { momentTextSchema, untilOf } from "../../src/core/moment.ts"
import { targetsOf } from "../../src/core/selector.ts"
import { authorOf, overrides, refusalToLift, standingActs } from "../../src/core/stops.ts"
import { defineTool } from "../../src/core/tool.ts"

type Pause = NonNullable<Spec["pause"]>

/**
 * The pause as it should read now. What stands still is never woken to finish its iteration, so
 * "now" outlives "iteration-end". Of somebody whose pause is overridden nothing else is left:
 * neither an end nor a note.
 */
const merged = (earlier: Pause | undefined, asked: Pause, isOverridden: boolean): Pause => ({
  ...(isOverridden ? {} : earlier),
  ...asked,
  when: earlier?.when === "now" ? "now" : asked.when,
})
const same = (a: Pause, b: Pause): boolean =>
  a.when === b.when && a.untilMs === b.untilMs && a.note === b.note

export default defineTool({
  name: "pause_instances",
  title: "Pause instances",
  description:
    "Freezes instances at once, or after their iteration; they keep their work and place. until ends the pause by itself. The batch in the result resumes exactly those this call paused.",
  toolset: "fleet",
  route: "POST /v1/instances:pause",
  verb: "operate",
  input: z.strictObject({
    ...changeFields,
    expect: expectSchema.describe("how many a dryRun counted"),
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
    const asked: Pause = {
      when: input.when,
      ...(input.until !== undefined && { untilMs: untilOf(input.until, ctx.clock.nowMs()) }),
      ...(input.note !== undefined && { note: input.note }),
    }
    const step = (instance: Instance, { nowMs }: { nowMs: number }): ChangeStep => {
      const { spec } = instance
      if (instance.deletedAtMs !== undefined) return { why: "It is being removed." }
      const state = desiredState(spec, nowMs)
      if (state === "Stopped") return { why: "It is stopped: there is nothing to pause." }
      if (hasFinished(instance)) return { why: "Its loop has ended: there is nothing to pause." }
      const earlier: Pause | undefined =
        state === "Paused" ? (spec.pause ?? { when: "now" }) : undefined
      const [act] = standingActs(spec, nowMs)
      const isOverridden = act !== undefined && overrides(ctx.who, act, spec.lineage)
      const pause = merged(earlier, asked, isOverridden)
      const refusal = refusalToLift(ctx.who, spec, nowMs)
      if (refusal !== undefined) return { why: refusal }
      if (earlier && !isOverridden && same(earlier, pause))
        return {
          why: `It was paused already${earlier.batch === undefined ? "" : `, in batch ${earlier.batch}`}.`,
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
      past: `Paused (${input.when})`,
      weight: "urgent",
      step,
    })
    const used = changes.changed > 0 && !input.dryRun
    return {
      ...changes,
      ...(used && { batch }),
      next: nextOf(changes, input, `resume_instances {"batch":"${batch}"} lets them go on.`, ctx),
    }
  },
  show: showChanges("paused"),
})
