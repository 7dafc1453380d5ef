import { Fault } from "./faults.ts"
import type { Instance, Uid } from "./instance.ts"
import type { ToolContext } from "./tool.ts"

/** The last call of each family, by the root of its tree; apart for each fleet. */
const lastCalls = new WeakMap<object, Map<Uid, Promise<unknown>>>()

/**
 * What instances of one tree call for is done one after the other, so that calls side by side do
 * not each find the same share left. The callers' rate bounds how many wait; a person's call waits
 * for nobody. It spares agents a child that is held at once, and is no guarantee: another replica
 * is not waited for, and the scheduler decides again at admission.
 */
export async function inFamilyOrder<T>(
  { who, signal, store }: Pick<ToolContext, "who" | "signal" | "store">,
  work: () => Promise<T>,
): Promise<T> {
  if (who.kind === "human") return work()
  const last = lastCalls.get(store) ?? new Map<Uid, Promise<unknown>>()
  lastCalls.set(store, last)
  const root = who.lineage[0] ?? who.uid
  const next = async (): Promise<T> => {
    if (signal.aborted) throw new Fault("Unavailable", "The call was cancelled.", "Call it again.")
    return work()
  }
  const mine = (last.get(root) ?? Promise.resolve()).then(next, next)
  last.set(root, mine)
  try {
    return await mine
  } finally {
    if (last.get(root) === mine) last.delete(root)
  }
}

/**
 * The instance that calls, which what it spawns will be a child of; undefined for a person.
 * @throws Conflict when it is being removed.
 */
export function parentOf(
  { who }: Pick<ToolContext, "who">,
  visible: readonly Instance[],
): Instance | undefined {
  if (who.kind === "human") return undefined
  const parent = visible.find(
    ({ uid, deletedAtMs }) => uid === who.uid && deletedAtMs === undefined,
  )
  if (!parent) throw new Fault("Conflict", "You are being removed.", "End your iteration.")
  return parent
}
