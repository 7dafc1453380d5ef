import type { Uid } from "./instance.ts"
import { Overlay } from "./overlay.ts"
import type { Spent } from "./ports.ts"
import { addUsage, noUsage, type Usage } from "./usage.ts"

/**
 * What all the fleet's decisions about money and births are computed from, and what is derived of
 * it. A ledger gives the same map as long as nothing changed, and never changes one that it gave; a
 * change brings what was derived along, so that it costs the same in a fleet of any size.
 */

export type SpentByUid = ReadonlyMap<Uid, Spent>

/** What each and all its descendants used. */
export type Totals = ReadonlyMap<Uid, Usage>

/** Everybody who was ever born, removed ones too: nobody gets a birth back by removing a child. */
export interface Family {
  /** Its direct children, the oldest first. */
  readonly children: ReadonlyMap<Uid, readonly Uid[]>
  /** All its descendants, the oldest first. */
  readonly below: ReadonlyMap<Uid, readonly Uid[]>
}

const knownTotals = new WeakMap<SpentByUid, Overlay<Uid, Usage>>()
const knownFamilies = new WeakMap<
  SpentByUid,
  { children: Overlay<Uid, readonly Uid[]>; below: Overlay<Uid, readonly Uid[]> }
>()

/** What each uid and every descendant it ever had used, removed ones too. */
export function totalsBelow(spent: SpentByUid): Totals {
  const known = knownTotals.get(spent)
  if (known) return known
  const totals = new Map<Uid, Usage>()
  for (const [uid, { lineage, used }] of spent)
    for (const owner of [uid, ...lineage])
      totals.set(owner, addUsage(totals.get(owner) ?? noUsage, used))
  const kept = Overlay.of(totals)
  knownTotals.set(spent, kept)
  return kept
}

const older = (
  [a, { bornAtMs: x = 0 }]: readonly [Uid, Spent],
  [b, { bornAtMs: y = 0 }]: readonly [Uid, Spent],
): number => x - y || (a < b ? -1 : 1)

export function familyOf(spent: SpentByUid): Family {
  const known = knownFamilies.get(spent)
  if (known) return known
  const children = new Map<Uid, Uid[]>()
  const below = new Map<Uid, Uid[]>()
  const put = (map: Map<Uid, Uid[]>, owner: Uid, uid: Uid): void => {
    const list = map.get(owner)
    if (list) list.push(uid)
    else map.set(owner, [uid])
  }
  for (const [uid, { lineage }] of [...spent]
    .filter(([, one]) => one.lineage.length > 0)
    .sort(older)) {
    for (const owner of lineage) put(below, owner, uid)
    const parent = lineage.at(-1)
    if (parent !== undefined) put(children, parent, uid)
  }
  const family = { children: Overlay.of(children), below: Overlay.of(below) }
  knownFamilies.set(spent, family)
  return family
}

/**
 * The same with one changed. What was derived of the map before is carried on; a birth in an order
 * that nobody foresaw is derived anew.
 */
export function withSpent(before: Overlay<Uid, Spent>, uid: Uid, now: Spent): Overlay<Uid, Spent> {
  const was = before.get(uid)
  const after = before.with(uid, now)
  const isBirth = now.lineage.length > 0 && (was === undefined || was.lineage.length === 0)
  const totals = knownTotals.get(before)
  // Whose lineage was not known while it already used something is rare: its ancestors' sums are
  // made anew.
  if (totals && !(isBirth && was !== undefined))
    knownTotals.set(after, totalsAfter(totals, uid, was?.used ?? noUsage, now))
  const family = knownFamilies.get(before)
  if (family && !isBirth) knownFamilies.set(after, family)
  if (family && isBirth) {
    const grown = familyAfter(family, before, uid, now)
    if (grown) knownFamilies.set(after, grown)
  }
  return after
}

function totalsAfter(
  totals: Overlay<Uid, Usage>,
  uid: Uid,
  was: Usage,
  { used, lineage }: Spent,
): Overlay<Uid, Usage> {
  const more: Usage = {
    usd: used.usd - was.usd,
    tokens: used.tokens - was.tokens,
    iterations: used.iterations - was.iterations,
    ms: used.ms - was.ms,
  }
  return [uid, ...lineage].reduce(
    (sums, owner) => sums.with(owner, addUsage(sums.get(owner) ?? noUsage, more)),
    totals,
  )
}

/**
 * Undefined when the newborn is not the youngest of its family, as after a clock that was set back.
 */
function familyAfter(
  {
    children,
    below,
  }: { children: Overlay<Uid, readonly Uid[]>; below: Overlay<Uid, readonly Uid[]> },
  spent: SpentByUid,
  uid: Uid,
  now: Spent,
): { children: Overlay<Uid, readonly Uid[]>; below: Overlay<Uid, readonly Uid[]> } | undefined {
  let grown = below
  for (const owner of now.lineage) {
    const list = below.get(owner) ?? []
    const youngest = list.at(-1)
    const other = youngest === undefined ? undefined : spent.get(youngest)
    if (youngest !== undefined && other && older([youngest, other], [uid, now]) > 0)
      return undefined
    grown = grown.with(owner, [...list, uid])
  }
  const parent = now.lineage.at(-1)
  return {
    below: grown,
    children:
      parent === undefined
        ? children
        : children.with(parent, [...(children.get(parent) ?? []), uid]),
  }
}
