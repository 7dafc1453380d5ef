import { z } from "zod"
import {
  type ChangeDecision,
  changeAll,
  changeFields,
  changeOutput,
} from "../../src/core/bulk-change.ts"
import { nextAfterChange, showChanges } from "../../src/core/change-report.ts"
import { Fault } from "../../src/core/faults.ts"
import { describeInstance, type Readings } from "../../src/core/fleet-view.ts"
import { desiredState, type Instance, type Spec } from "../../src/core/instance.ts"
import type { Phase } from "../../src/core/phase-report.ts"
import { targetsOf } from "../../src/core/selector.ts"
import { refusalToLift } from "../../src/core/stops.ts"
import { defineTool } from "../../src/core/tool.ts"

/** What a resume starts over, because letting it go on would change nothing. */
const startedOver: ReadonlySet<Phase> = new Set<Phase>([
  "Blocked",
  "CrashLoop",
  "Completed",
  "Failed",
  "Held",
  "NeedsAnswer",
])

export default defineTool({
  name: "resume_instances",
  title: "Resume instances",
  description:
    "Lets paused instances go on, and starts stopped, completed, failed, blocked and crash-looping ones over. Give the batch of a pause_instances call, or say which.",
  toolset: "fleet",
  route: "POST /v1/instances:resume",
  verb: "operate",
  input: z.strictObject({ ...changeFields, batch: z.string().min(1).max(64).optional() }),
  output: z.strictObject(changeOutput),
  hints: {
    readOnlyHint: false,
    destructiveHint: false,
    idempotentHint: true,
    openWorldHint: false,
  },
  targets({ batch, ...described }) {
    if (batch === undefined) return targetsOf(described)
    if (described.names)
      throw new Fault("Invalid", "Give names or a batch, not both.", "Leave one of them out.")
    const { project, selector } = described
    return {
      batch,
      ...(project !== undefined && { project }),
      ...(selector !== undefined && { selector }),
    }
  },
  async handler(ctx, input) {
    const decide = (instance: Instance, readings: Readings): ChangeDecision => {
      const { pause: _pause, stop: _stop, ...spec } = instance.spec
      if (instance.deletedAtMs !== undefined) return { why: "It is being removed." }
      const refusal = refusalToLift(ctx.who, instance.spec, readings.nowMs)
      if (refusal !== undefined) return { why: refusal }
      const state = desiredState(instance.spec, readings.nowMs)
      const running: Spec = { ...spec, state: "Running" }
      const startsOver =
        state === "Stopped" ||
        startedOver.has(describeInstance({ ...instance, spec: running }, readings).phase)
      const report = describeInstance(instance, readings)
      if (state === "Running" && !startsOver)
        return { ...report, why: `It is not paused. ${report.why}` }
      return { spec: { ...running, attempt: spec.attempt + (startsOver ? 1 : 0) } }
    }
    const changes = await changeAll(ctx, input, { past: "resumed", decide })
    if (changes.count === 0 && input.batch !== undefined)
      return {
        ...changes,
        next: "No instance is paused in this batch any more: list_instances {} shows how they are doing.",
      }
    return {
      ...changes,
      next: nextAfterChange(
        changes,
        "list_instances {} shows in a moment how they are doing.",
        ctx,
      ),
    }
  },
  show: showChanges("resumed"),
})
