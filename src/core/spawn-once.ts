import { Fault } from "./faults.ts"
import { indexOf } from "./fleet-index.ts"
import type { Readings } from "./fleet-view.ts"
import { type Instance, type Spec, uidSchema } from "./instance.ts"
import type { Naming } from "./instance-names.ts"
import { nameTaken } from "./spawn-repeats.ts"
import type { ToolContext } from "./tool.ts"

/** Making an instance once: under a free name, whoever else makes one, and not for nobody. */

/** Between finding a free name and taking it another spawn may have taken it. */
const racesMax = 10

/** What a spawn knows before it makes anything. */
export interface SpawnPlan {
  readonly project: string
  readonly naming: Naming
  /** The instances that the caller may know. */
  readonly others: readonly Instance[]
  readonly readings: Readings
}

/** What an earlier call with the same key made. */
export async function madeWithKey(
  ctx: ToolContext,
  { project, naming: { keyed } }: SpawnPlan,
): Promise<Instance | undefined> {
  const one = keyed === undefined ? undefined : await ctx.store.read(keyed)
  const isIt = one?.spec.project === project && one.deletedAtMs === undefined
  return isIt && indexOf(await ctx.visible()).byUid.get(one.uid) ? one : undefined
}

const conflictOn = (
  ctx: ToolContext,
  { naming, ...plan }: SpawnPlan,
  name: string,
): Promise<Fault> => nameTaken(ctx, name, { ...plan, free: naming.free })

/** What a dry run shows. @throws Conflict when its name is taken. */
export async function foreseenInstance(
  ctx: ToolContext,
  plan: SpawnPlan,
  spec: Spec,
): Promise<Instance> {
  const { wanted, free } = plan.naming
  if (wanted !== undefined && (await ctx.store.read(wanted)))
    throw await conflictOn(ctx, plan, wanted)
  return {
    name: wanted ?? (await free()),
    uid: uidSchema.parse("dry-run"),
    version: "",
    createdAtMs: plan.readings.nowMs,
    spec,
    status: {},
  }
}

/** @throws Unavailable, with nothing left, when nobody waits for the answer any more. */
export async function createOnce(
  ctx: ToolContext,
  plan: SpawnPlan,
  spec: Spec,
): Promise<{ readonly instance: Instance; readonly isEarlier: boolean }> {
  const { wanted, free } = plan.naming
  for (let race = 0; ; race++) {
    const name = wanted ?? (await free())
    checkWanted(ctx)
    const instance = await createUnlessTaken(ctx, name, spec)
    if (instance) {
      // Whoever cancelled it knows of nothing that was made.
      if (ctx.signal.aborted) await forget(ctx, instance)
      checkWanted(ctx)
      return { instance, isEarlier: false }
    }
    const twin = await madeWithKey(ctx, plan)
    if (twin) return { instance: twin, isEarlier: true }
    if (wanted !== undefined || race >= racesMax) throw await conflictOn(ctx, plan, name)
  }
}

async function createUnlessTaken(
  { store }: Pick<ToolContext, "store">,
  name: string,
  spec: Spec,
): Promise<Instance | undefined> {
  try {
    return await store.create(name, spec)
  } catch (error) {
    if (error instanceof Fault && error.code === "Conflict") return undefined
    throw error
  }
}

/** As it is now: somebody may have paused it, with all others, since it was made. */
async function forget(
  { store }: Pick<ToolContext, "store">,
  { name, uid }: Instance,
): Promise<void> {
  const now = await store.read(name)
  if (now?.uid === uid) await store.delete(now)
}

function checkWanted({ signal }: Pick<ToolContext, "signal">): void {
  if (signal.aborted)
    throw new Fault(
      "Unavailable",
      "The call was cancelled; nothing was made.",
      "Call it again if you still want it.",
    )
}
