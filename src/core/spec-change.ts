import { asFault, Fault } from "./faults.ts"
import type { Instance } from "./instance.ts"
import type { Instances } from "./ports.ts"

/** An instance that somebody else changes more often than this meanwhile is left to them. */
const repeatsMax = 5

/**
 * Writes to one instance, deciding anew for each version of it that is seen: the only place that
 * repeats a write which met another.
 * @throws NotFound when it is gone, Conflict when others change it all the time, and what `write`
 * throws.
 */
export async function writeLatest<T>(
  { store }: { readonly store: Pick<Instances, "read"> },
  target: Instance,
  write: (latest: Instance) => Promise<T>,
): Promise<T> {
  const { name, uid } = target
  for (let repeat = 0, latest: Instance | undefined = target; ; repeat++) {
    if (latest?.uid !== uid)
      throw new Fault(
        "NotFound",
        `${name} was removed meanwhile.`,
        "list_instances {} shows those that exist.",
      )
    try {
      return await write(latest)
    } catch (error) {
      if (asFault(error).code !== "Conflict" || repeat >= repeatsMax) throw error
      latest = await store.read(name)
    }
  }
}
