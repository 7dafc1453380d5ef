import { JournaledSnapshot } from "./snapshot.ts"

/** One key that differs between two snapshots. */
export interface Difference<K extends string, V> {
  readonly key: K
  readonly before: V | undefined
  readonly now: V | undefined
}

/** How a value follows from all entries of a keyed set, and how it follows the set's changes. */
export interface Derivation<K extends string, V, D> {
  all(entries: ReadonlyMap<K, V>): D
  /** What was derived before stays as it is. Undefined where only all entries can tell. */
  after(
    derived: D,
    differences: readonly Difference<K, V>[],
    entries: ReadonlyMap<K, V>,
  ): D | undefined
}

/**
 * A function of a snapshot that answers at once for one that it was asked about already, and brings
 * its last answer along for a later one: a change costs the same in a fleet of any size. For any
 * other map it goes through all entries.
 */
export function derive<K extends string, V, D>({
  all,
  after,
}: Derivation<K, V, D>): (entries: ReadonlyMap<K, V>) => D {
  type Answer = { readonly snapshot: JournaledSnapshot<K, V>; readonly derived: D }
  const answers = new WeakMap<object, D>()
  const latest = new WeakMap<object, Answer>()

  const follow = (
    { snapshot, derived }: Answer,
    entries: JournaledSnapshot<K, V>,
  ): D | undefined => {
    const keys = entries.changedSince(snapshot)
    if (!keys) return undefined
    const differences = [...keys].map((key) => ({
      key,
      before: snapshot.get(key),
      now: entries.get(key),
    }))
    return after(derived, differences, entries)
  }

  return (entries) => {
    if (!(entries instanceof JournaledSnapshot)) return all(entries)
    const known = answers.get(entries)
    if (known !== undefined) return known
    const last = latest.get(entries.journal)
    const derived = (last && follow(last, entries)) ?? all(entries)
    answers.set(entries, derived)
    if (!last || last.snapshot.version < entries.version)
      latest.set(entries.journal, { snapshot: entries, derived })
    return derived
  }
}
