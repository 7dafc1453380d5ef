import type { Instance } from "./instance.ts"
import type { Instances, Ledger, Timeline } from "./ports.ts"

export interface BirthPorts {
  readonly store: Pick<Instances, "list">
  readonly ledger: Pick<Ledger, "born" | "spent">
  readonly timeline: Pick<Timeline, "append">
}

/**
 * What is written of a new instance besides itself. It may be repeated: whoever made it may have
 * ended in between.
 */
export async function recordBirth(
  { ledger, timeline }: Pick<BirthPorts, "ledger" | "timeline">,
  instance: Instance,
): Promise<void> {
  const { uid, name, spec, createdAtMs } = instance
  await ledger.born(uid, name, spec.lineage, createdAtMs)
  // Of what was made before it was known by whom, the event has another id.
  if (!spec.origin) return
  const message = `Spawned by ${spec.origin.by} for project ${spec.project}.`
  await timeline.append({ id: "spawned", uid, kind: "Spawned", message, atMs: createdAtMs })
}

/** More than were being made at the moment when a control plane ended. */
const newestMax = 50

/**
 * Completes what the end of a control plane interrupted: an instance without a birth would not
 * count as its parent's child.
 */
export async function completeBirths(ports: BirthPorts): Promise<void> {
  const [instances, spent] = await Promise.all([ports.store.list(), ports.ledger.spent()])
  const newest = new Set(
    instances.toSorted((a, b) => b.createdAtMs - a.createdAtMs).slice(0, newestMax),
  )
  for (const instance of instances)
    if (newest.has(instance) || spent.get(instance.uid)?.name === undefined)
      await recordBirth(ports, instance)
}
