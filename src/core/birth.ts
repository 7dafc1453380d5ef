import type { Emitted } from "./event.ts"
import type { FleetIndex } from "./fleet-index.ts"
import { type Defaults, hasLiveRun, type Instance, type Uid } from "./instance.ts"
import { instanceLimits } from "./limits.ts"
import { childrenWithin, shareForChild } from "./lineage.ts"
import { Overlay } from "./overlay.ts"
import type { Birth } from "./ports.ts"
import { type Accounts, familyOf, isBorn, totalsBelow } from "./spending.ts"
import { noUsage } from "./usage.ts"

/**
 * The account of an instance follows from the instance being there. The leading scheduler opens
 * those that are missing before it admits anybody; until then, tools foresee them.
 */

/** Those without an account, in the order to open them: a child's depends on its parent's. */
export const newborns = (
  fleet: Pick<FleetIndex, "unborn">,
  accounts: Accounts,
): readonly Instance[] =>
  fleet
    .unborn(accounts)
    .toSorted(
      (a, b) =>
        a.spec.lineage.length - b.spec.lineage.length ||
        a.createdAtMs - b.createdAtMs ||
        (a.uid < b.uid ? -1 : 1),
    )

/** A plan leaves out whose account could not be opened yet: unknown births break every limit. */
export const withoutUnborn = (fleet: FleetIndex, accounts: Accounts): FleetIndex => ({
  ...fleet,
  open: () => fleet.open().filter((one) => hasLiveRun(one) || isBorn(one.uid, accounts)),
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
  fleet: Pick<FleetIndex, "byUid" | "unborn">,
  policy: Defaults,
): Accounts {
  const missing = newborns(fleet, accounts)
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
