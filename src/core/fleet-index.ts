import { derive } from "./derived.ts"
import { hasLiveRun, type Instance, type Uid } from "./instance.ts"
import { Overlay } from "./overlay.ts"
import { JournaledSnapshot } from "./snapshot.ts"
import { type Accounts, isBorn } from "./spending.ts"

/**
 * What is looked up in a fleet, so that nobody goes through all of it: most of a large one ended
 * long ago.
 */
export interface FleetIndex {
  readonly byUid: Pick<ReadonlyMap<Uid, Instance>, "get">
  /** Those about which anything can be to decide. */
  open(): readonly Instance[]
  /** Those without an account. */
  unborn(accounts: Accounts): readonly Instance[]
}

/** Stopped, ended, and without a place: nothing is to be decided about the others. */
export const isOpen = (one: Instance): boolean =>
  one.spec.state !== "Stopped" || hasLiveRun(one) || one.status.admission?.verdict === "Admitted"

interface Indexed {
  readonly byUid: Overlay<Uid, Instance>
  readonly open: Overlay<Uid, Instance>
  readonly index: FleetIndex
  /** In the order of the snapshot. */
  list(): readonly Instance[]
}
const indexes = new WeakMap<readonly Instance[], FleetIndex>()
function indexed(
  instances: ReadonlyMap<string, Instance>,
  byUid: Overlay<Uid, Instance>,
  open: Overlay<Uid, Instance>,
): Indexed {
  let openList: readonly Instance[] | undefined
  let list: readonly Instance[] | undefined
  const index: FleetIndex = {
    byUid,
    open() {
      openList ??= [...open.values()]
      return openList
    },
    unborn: (accounts) => unbornIn(instances, accounts),
  }
  return {
    byUid,
    open,
    index,
    list() {
      if (!list) {
        list = [...instances.values()]
        indexes.set(list, index)
      }
      return list
    },
  }
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

interface Unborn {
  readonly snapshot: JournaledSnapshot<string, Instance>
  /** By name. Others may be born by now: an account that is open stays open. */
  readonly instances: ReadonlyMap<string, Instance>
}
const latestUnborn = new WeakMap<object, Unborn>()

/** Of a snapshot, only what changed since the last look, and who was unborn then, is looked at. */
function unbornIn(
  instances: ReadonlyMap<string, Instance>,
  accounts: Accounts,
): readonly Instance[] {
  const snapshot = instances instanceof JournaledSnapshot ? instances : undefined
  const last = snapshot && latestUnborn.get(snapshot.journal)
  const changed = last && snapshot.changedSince(last.snapshot)
  const names = changed ? new Set([...last.instances.keys(), ...changed]) : instances.keys()
  const unborn = new Map<string, Instance>()
  for (const name of names) {
    const one = instances.get(name)
    if (one && !isBorn(one.uid, accounts)) unborn.set(name, one)
  }
  if (snapshot && (!last || snapshot.version >= last.snapshot.version))
    latestUnborn.set(snapshot.journal, { snapshot, instances: unborn })
  return [...unborn.values()]
}

/** The index of a snapshot follows from that of an earlier one: it costs what changed. */
export const fleetIndex = (instances: ReadonlyMap<string, Instance>): FleetIndex =>
  indexedOf(instances).index

/** All instances of a snapshot: the same list for the same snapshot, and `indexOf` is at hand. */
export const instanceList = (instances: ReadonlyMap<string, Instance>): readonly Instance[] =>
  indexedOf(instances).list()

/** The index of these instances. */
export function indexOf(instances: readonly Instance[]): FleetIndex {
  const known = indexes.get(instances)
  if (known) return known
  const open = instances.filter(isOpen)
  return {
    byUid: new Map(instances.map((one) => [one.uid, one])),
    open: () => open,
    unborn: (accounts) => instances.filter(({ uid }) => !isBorn(uid, accounts)),
  }
}

/** The fleet as it will be when one more has come, or this one has changed. */
export function indexWith({ byUid, open, unborn }: FleetIndex, made: Instance): FleetIndex {
  const withMade = (list: readonly Instance[]): readonly Instance[] => [
    ...list.filter(({ uid }) => uid !== made.uid),
    made,
  ]
  return {
    byUid: { get: (uid) => (uid === made.uid ? made : byUid.get(uid)) },
    open: () => withMade(open()),
    unborn: (accounts) =>
      isBorn(made.uid, accounts) ? unborn(accounts) : withMade(unborn(accounts)),
  }
}
