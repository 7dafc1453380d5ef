import { derive } from "./derived.ts"
import { hasLiveRun, type Instance, type Uid } from "./instance.ts"
import { Overlay } from "./overlay.ts"

/**
 * What is looked up in a fleet, so that nobody goes through all of it: most of a large one ended
 * long ago.
 */
export interface FleetIndex {
  readonly byUid: Pick<ReadonlyMap<Uid, Instance>, "get">
  /** Those about which anything can be to decide. */
  open(): readonly Instance[]
}

/** Stopped, ended, and without a place: nothing is to be decided about the others. */
export const isOpen = (one: Instance): boolean =>
  one.spec.state !== "Stopped" || hasLiveRun(one) || one.status.admission?.verdict === "Admitted"

interface Indexed {
  readonly byUid: Overlay<Uid, Instance>
  readonly open: Overlay<Uid, Instance>
  /** In the order of the snapshot. */
  readonly list: readonly Instance[]
}
const indexes = new WeakMap<readonly Instance[], FleetIndex>()
const snapshots = new WeakMap<readonly Instance[], ReadonlyMap<string, Instance>>()
function indexed(
  instances: ReadonlyMap<string, Instance>,
  byUid: Overlay<Uid, Instance>,
  open: Overlay<Uid, Instance>,
): Indexed {
  const list = [...instances.values()]
  snapshots.set(list, instances)
  let openList: readonly Instance[] | undefined
  indexes.set(list, {
    byUid,
    open() {
      openList ??= [...open.values()]
      return openList
    },
  })
  return { byUid, open, list }
}
const indexedOf = derive<string, Instance, Indexed>({
  all(instances) {
    const entries = [...instances.values()].map((one) => [one.uid, one] as const)
    const openEntries = entries.filter(([, one]) => isOpen(one))
    return indexed(instances, Overlay.of(entries), Overlay.of(openEntries))
  },
  after({ byUid, open }, differences, instances) {
    const changes = new Map<Uid, Instance | undefined>()
    for (const { before } of differences) if (before) changes.set(before.uid, undefined)
    for (const { now } of differences) if (now) changes.set(now.uid, now)
    const openChanges = [...changes].map(
      ([uid, one]) => [uid, one && isOpen(one) ? one : undefined] as const,
    )
    return indexed(instances, byUid.patched(changes), open.patched(openChanges))
  },
})

/** All instances of a snapshot: the same list for the same snapshot, and `indexOf` is at hand. */
export const instanceList = (instances: ReadonlyMap<string, Instance>): readonly Instance[] =>
  indexedOf(instances).list

/** The snapshot that a list was made of; undefined for any other list. */
export const snapshotOfList = (
  instances: readonly Instance[],
): ReadonlyMap<string, Instance> | undefined => snapshots.get(instances)

/** The index of these instances. That of a snapshot's list follows from the one before. */
export function indexOf(instances: readonly Instance[]): FleetIndex {
  const known = indexes.get(instances)
  if (known) return known
  const open = instances.filter(isOpen)
  return { byUid: new Map(instances.map((one) => [one.uid, one])), open: () => open }
}

/** The fleet as it will be when one more has come, or this one has changed. */
export function indexWith({ byUid, open }: FleetIndex, made: Instance): FleetIndex {
  return {
    byUid: { get: (uid) => (uid === made.uid ? made : byUid.get(uid)) },
    open: () => [...open().filter(({ uid }) => uid !== made.uid), made],
  }
}
