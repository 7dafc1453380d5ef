import { hasLiveRun, type Instance, type Uid } from "./instance.ts"

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
