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
  readonly index: FleetIndex
}
function indexed(byUid: Overlay<Uid, Instance>, open: Overlay<Uid, Instance>): Indexed {
  let list: readonly Instance[] | undefined
  const index: FleetIndex = {
    byUid,
    open() {
      list ??= [...open.values()]
      return list
    },
  }
  return { byUid, open, index }
}
const indexedOf = derive<string, Instance, Indexed>({
  all(instances) {
    const list = [...instances.values()].map((one) => [one.uid, one] as const)
    return indexed(Overlay.of(list), Overlay.of(list.filter(([, one]) => isOpen(one))))
  },
  after({ byUid, open }, differences) {
    const changes = new Map<Uid, Instance | undefined>()
    for (const { before } of differences) if (before) changes.set(before.uid, undefined)
    for (const { now } of differences) if (now) changes.set(now.uid, now)
    return indexed(
      byUid.patched(changes),
      open.patched([...changes].map(([uid, one]) => [uid, one && isOpen(one) ? one : undefined])),
    )
  },
})
/** The index of a fleet, which follows its snapshots. */
export const indexOfSnapshot = (instances: ReadonlyMap<string, Instance>): FleetIndex =>
  indexedOf(instances).index

const indexes = new WeakMap<readonly Instance[], FleetIndex>()
/**
 * A store that keeps an index tells which of its lists it is of. It may be newer than the list,
 * never older.
 */
export const indexAs = (instances: readonly Instance[], index: FleetIndex): void =>
  void indexes.set(instances, index)

export function indexOf(instances: readonly Instance[]): FleetIndex {
  const known = indexes.get(instances)
  if (known) return known
  const byUid = new Map(instances.map((one) => [one.uid, one]))
  const open = instances.filter(isOpen)
  const index: FleetIndex = { byUid, open: () => open }
  indexes.set(instances, index)
  return index
}

/** The fleet as it will be when one more has come, or this one has changed. */
export function indexWith({ byUid, open }: FleetIndex, made: Instance): FleetIndex {
  return {
    byUid: { get: (uid) => (uid === made.uid ? made : byUid.get(uid)) },
    open: () => [...open().filter(({ uid }) => uid !== made.uid), made],
  }
}
