import type { Emitted } from "./event.ts"
import { type FleetIndex, snapshotOfList } from "./fleet-index.ts"
import { type Defaults, hasLiveRun, type Instance, type Uid } from "./instance.ts"
import { instanceLimits } from "./limits.ts"
import { childrenWithin, shareForChild } from "./lineage.ts"
import { Overlay } from "./overlay.ts"
import type { Birth } from "./ports.ts"
import { JournaledSnapshot } from "./snapshot.ts"
import { type Accounts, familyOf, totalsBelow } from "./spending.ts"
import { noUsage } from "./usage.ts"

/**
 * The account of an instance follows from the instance being there. The leading scheduler opens
 * those that are missing before it admits anybody; until then, tools foresee them.
 */

export const isBorn = (uid: Uid, accounts: Pick<Accounts, "get">): boolean =>
  accounts.get(uid)?.birth !== undefined

interface Unborn {
  readonly snapshot: JournaledSnapshot<string, Instance>
  /** By name. Others may be born by now: an account that is open stays open. */
  readonly instances: ReadonlyMap<string, Instance>
}
const latestUnborn = new WeakMap<object, Unborn>()

/** Of a snapshot, only what changed since the last look, and who was unborn then, is looked at. */
function unbornIn(
  snapshot: JournaledSnapshot<string, Instance>,
  accounts: Accounts,
): Iterable<Instance> {
  const last = latestUnborn.get(snapshot.journal)
  const changed = last && snapshot.changedSince(last.snapshot)
  const names = changed ? new Set([...last.instances.keys(), ...changed]) : snapshot.keys()
  const instances = new Map<string, Instance>()
  for (const name of names) {
    const one = snapshot.get(name)
    if (one && !isBorn(one.uid, accounts)) instances.set(name, one)
  }
  if (!last || snapshot.version >= last.snapshot.version)
    latestUnborn.set(snapshot.journal, { snapshot, instances })
  return instances.values()
}

/** Those without an account, in the order to open them: a child's depends on its parent's. */
export function newborns(instances: readonly Instance[], accounts: Accounts): readonly Instance[] {
  const snapshot = snapshotOfList(instances)
  const unborn =
    snapshot instanceof JournaledSnapshot
      ? [...unbornIn(snapshot, accounts)]
      : instances.filter(({ uid }) => !isBorn(uid, accounts))
  return unborn.sort(
    (a, b) =>
      a.spec.lineage.length - b.spec.lineage.length ||
      a.createdAtMs - b.createdAtMs ||
      (a.uid < b.uid ? -1 : 1),
  )
}

/** A plan leaves out whose account could not be opened yet: unknown births break every limit. */
export const withoutUnborn = ({ byUid, open }: FleetIndex, accounts: Accounts): FleetIndex => ({
  byUid,
  open: () => open().filter((one) => hasLiveRun(one) || isBorn(one.uid, accounts)),
})

export function birthFor(
  { name, createdAtMs, spec }: Instance,
  policy: Defaults,
  fleet: Pick<FleetIndex, "byUid">,
  accounts: Accounts,
): Omit<Birth, "rank"> {
  const { lineage } = spec
  const parentUid = lineage.at(-1)
  const parent = parentUid === undefined ? undefined : fleet.byUid.get(parentUid)
  const defaults = parent ? defaultsForChild(parent, fleet, accounts) : policy
  return { name, lineage, bornAtMs: createdAtMs, defaults }
}

/** What a child gets of its parent where its spec says nothing. */
function defaultsForChild(
  parent: Instance,
  { byUid }: Pick<FleetIndex, "byUid">,
  accounts: Accounts,
): Defaults {
  const { children, model } = instanceLimits(parent, accounts)
  const relations = {
    byUid,
    spent: accounts,
    totals: totalsBelow(accounts),
    family: familyOf(accounts),
  }
  return {
    budget: shareForChild(parent, relations),
    children: childrenWithin(children, children),
    ...(model !== undefined && { model }),
  }
}

/** Its id makes it told once, however often an opening is repeated. */
export const spawnedEvent = ({ uid, spec, createdAtMs }: Instance): Emitted & { uid: Uid } => ({
  id: "spawned",
  uid,
  kind: "Spawned",
  message: `${spec.origin ? `Spawned by ${spec.origin.by}` : "Created"} for project ${spec.project}.`,
  atMs: createdAtMs,
})

/** Behind every rank that a ledger gives. */
const foreseenRank = 2 ** 52

/** The accounts as they will be when the scheduler has opened those of all these instances. */
export function withForeseen(
  accounts: Accounts,
  instances: readonly Instance[],
  policy: Defaults,
  fleet: Pick<FleetIndex, "byUid">,
): Accounts {
  const missing = newborns(instances, accounts)
  if (missing.length === 0) return accounts
  let foreseen = Overlay.of(accounts)
  for (const [index, instance] of missing.entries()) {
    const { uid } = instance
    const birth = {
      ...birthFor(instance, policy, fleet, foreseen),
      rank: foreseenRank + index,
    }
    foreseen = foreseen.patched([[uid, { birth, used: foreseen.get(uid)?.used ?? noUsage }]])
  }
  return foreseen
}
