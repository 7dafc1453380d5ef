import { z } from "zod"
import { desiredState, type Instance, type Spec, type Verdict } from "./instance.ts"
import { type Reason, reasonSchema } from "./reason.ts"

/** Four hours: longer than an iteration that still gets somewhere. */
export const iterationMinutesMaxDefault = 240

const grantSchema = z.strictObject({ id: z.string().max(64), grantedAtMs: z.int() })
/**
 * Not strict: a gateway of a newer version may say more than this supervisor knows, and what it
 * does know must still reach it.
 */
export const directiveSchema = z.object({
  freeze: z.union([reasonSchema, z.literal("Paused")]).optional(),
  /** The granted turn; a running iteration whose id it is not is frozen. */
  turn: grantSchema.optional(),
  /** What the loop is told at the start of each iteration. */
  goal: z.string().optional(),
  orders: z.array(z.strictObject({ id: z.string(), text: z.string() })),
  /**
   * Minutes that an iteration may run, unfrozen. Absent for the default: supervisors of before
   * would not understand it.
   */
  iterationMinutesMax: z.number().positive().optional(),
})
/** What the fleet wants of a running instance now. */
export type Directive = z.output<typeof directiveSchema>

/**
 * Why the processes of an instance are to stand still, if they are. The other holds only withhold
 * the next turn.
 */
export function freezes(
  spec: Spec,
  verdict: Verdict | undefined,
  nowMs: number,
): Reason | "Paused" | undefined {
  if (desiredState(spec, nowMs) === "Paused") return "Paused"
  return verdict?.verdict === "Held" && verdict.reason === "BudgetReached"
    ? "BudgetReached"
    : undefined
}

/** Never stored: derived anew on every change and connect, so a pause survives anything. */
export function directive(
  { spec, status: { admission } }: Instance,
  turn: z.output<typeof grantSchema> | undefined,
  nowMs: number,
  iterationMinutesMax = iterationMinutesMaxDefault,
): Directive {
  const reason = freezes(spec, admission, nowMs)
  const finishing =
    reason === "Paused" && spec.pause?.when === "iteration-end" && turn !== undefined
  return {
    ...(reason !== undefined && !finishing && { freeze: reason }),
    ...(turn && { turn: { id: turn.id, grantedAtMs: turn.grantedAtMs } }),
    ...(spec.goal !== undefined && { goal: spec.goal }),
    orders: spec.orders,
    ...(iterationMinutesMax !== iterationMinutesMaxDefault && { iterationMinutesMax }),
  }
}
