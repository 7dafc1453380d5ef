import { type Difference, derive } from "./derived.ts"
import type { Uid } from "./instance.ts"
import { Overlay } from "./overlay.ts"
import type { Spent } from "./ports.ts"
import { addUsage, lessUsage, noUsage, type Usage } from "./usage.ts"

/**
 * What all the fleet's decisions about money and births are computed from, and what is derived of
 * it. What was derived of one snapshot of the ledger is brought along to the next.
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
interface FamilyTree extends Family {
  readonly children: Overlay<Uid, readonly Uid[]>
  readonly below: Overlay<Uid, readonly Uid[]>
}

/** What each uid and every descendant it ever had used, removed ones too. */
export const totalsBelow: (spent: SpentByUid) => Totals = derive<Uid, Spent, Overlay<Uid, Usage>>({
  all(spent) {
    const totals = new Map<Uid, Usage>()
    for (const [uid, { lineage, used }] of spent)
      for (const owner of [uid, ...lineage])
        totals.set(owner, addUsage(totals.get(owner) ?? noUsage, used))
    return Overlay.of(totals)
  },
  after(totals, differences) {
    const changed = new Map<Uid, Usage>()
    for (const { key: uid, before, now } of differences) {
      // One whose lineage was not known while it already used something is rare: its ancestors'
      // sums are made anew.
      if (!now || (before && isBirth(before, now))) return undefined
      const more = lessUsage(now.used, before?.used ?? noUsage)
      for (const owner of [uid, ...now.lineage])
        changed.set(owner, addUsage(changed.get(owner) ?? totals.get(owner) ?? noUsage, more))
    }
    return totals.patched(changed)
  },
})

const isBirth = (before: Spent | undefined, { lineage }: Spent): boolean =>
  lineage.length > 0 && (before === undefined || before.lineage.length === 0)

const older = (
  [a, { bornAtMs: x = 0 }]: readonly [Uid, Spent],
  [b, { bornAtMs: y = 0 }]: readonly [Uid, Spent],
): number => x - y || (a < b ? -1 : 1)

export const familyOf: (spent: SpentByUid) => Family = derive<Uid, Spent, FamilyTree>({
  all(spent) {
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
    return { children: Overlay.of(children), below: Overlay.of(below) }
  },
  after: familyAfter,
})

/**
 * Undefined when a newborn is not the youngest of its family, as after a clock that was set back.
 */
function familyAfter(
  { children, below }: FamilyTree,
  differences: readonly Difference<Uid, Spent>[],
  spent: SpentByUid,
): FamilyTree | undefined {
  if (differences.some(({ now }) => !now)) return undefined
  const born = differences
    .flatMap(({ key, before, now }) => (now && isBirth(before, now) ? [[key, now] as const] : []))
    .sort(older)
  const grown = new Map<Uid, readonly Uid[]>()
  const siblings = new Map<Uid, readonly Uid[]>()
  for (const [uid, now] of born) {
    for (const owner of now.lineage) {
      const list = grown.get(owner) ?? below.get(owner) ?? []
      const youngest = list.at(-1)
      const other = youngest === undefined ? undefined : spent.get(youngest)
      if (youngest !== undefined && other && older([youngest, other], [uid, now]) > 0)
        return undefined
      grown.set(owner, [...list, uid])
    }
    const parent = now.lineage.at(-1)
    if (parent !== undefined)
      siblings.set(parent, [...(siblings.get(parent) ?? children.get(parent) ?? []), uid])
  }
  return { children: children.patched(siblings), below: below.patched(grown) }
}
