import { type Difference, derive } from "./derived.ts"
import type { Uid } from "./instance.ts"
import { Overlay } from "./overlay.ts"
import type { Account } from "./ports.ts"
import { addUsage, lessUsage, noUsage, type Usage } from "./usage.ts"

/**
 * What all the fleet's decisions about money and births are computed from, and what is derived of
 * it. What was derived of one snapshot of the ledger is brought along to the next.
 */

export type Accounts = ReadonlyMap<Uid, Account>

export const isBorn = (uid: Uid, accounts: Pick<Accounts, "get">): boolean =>
  accounts.get(uid)?.birth !== undefined

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
export const totalsBelow: (accounts: Accounts) => Totals = derive<
  Uid,
  Account,
  Overlay<Uid, Usage>
>({
  all(accounts) {
    const totals = new Map<Uid, Usage>()
    for (const [uid, account] of accounts)
      for (const owner of [uid, ...lineageIn(account)])
        totals.set(owner, addUsage(totals.get(owner) ?? noUsage, account.used))
    return Overlay.of(totals)
  },
  after(totals, differences) {
    const changed = new Map<Uid, Usage>()
    for (const { key: uid, before, now } of differences) {
      // One whose lineage was not known while it already used something is rare: its ancestors'
      // sums are made anew.
      if (!now || (before && isBirth(before, now))) return undefined
      const more = lessUsage(now.used, before?.used ?? noUsage)
      for (const owner of [uid, ...lineageIn(now)])
        changed.set(owner, addUsage(changed.get(owner) ?? totals.get(owner) ?? noUsage, more))
    }
    return totals.patched(changed)
  },
})

const lineageIn = ({ birth }: Account): readonly Uid[] => birth?.lineage ?? []

/** A birth that makes a family larger. */
const isBirth = (before: Account | undefined, now: Account): boolean =>
  lineageIn(now).length > 0 && before?.birth === undefined

const byRankOfBirth = ([, a]: readonly [Uid, Account], [, b]: readonly [Uid, Account]): number =>
  (a.birth?.rank ?? 0) - (b.birth?.rank ?? 0)

export const familyOf: (accounts: Accounts) => Family = derive<Uid, Account, FamilyTree>({
  all(accounts) {
    const children = new Map<Uid, Uid[]>()
    const below = new Map<Uid, Uid[]>()
    const put = (map: Map<Uid, Uid[]>, owner: Uid, uid: Uid): void => {
      const list = map.get(owner)
      if (list) list.push(uid)
      else map.set(owner, [uid])
    }
    const born = [...accounts].filter(([, account]) => lineageIn(account).length > 0)
    for (const [uid, account] of born.sort(byRankOfBirth)) {
      const lineage = lineageIn(account)
      for (const owner of lineage) put(below, owner, uid)
      const parent = lineage.at(-1)
      if (parent !== undefined) put(children, parent, uid)
    }
    return { children: Overlay.of(children), below: Overlay.of(below) }
  },
  after: familyAfter,
})

/** Undefined when births are seen in another order than that of their ranks. */
function familyAfter(
  { children, below }: FamilyTree,
  differences: readonly Difference<Uid, Account>[],
  accounts: Accounts,
): FamilyTree | undefined {
  if (differences.some(({ now }) => !now)) return undefined
  const born = differences
    .flatMap(({ key, before, now }) => (now && isBirth(before, now) ? [[key, now] as const] : []))
    .sort(byRankOfBirth)
  const grown = new Map<Uid, readonly Uid[]>()
  const siblings = new Map<Uid, readonly Uid[]>()
  for (const [uid, now] of born) {
    const lineage = lineageIn(now)
    for (const owner of lineage) {
      const list = grown.get(owner) ?? below.get(owner) ?? []
      const youngest = list.at(-1)
      const other = youngest === undefined ? undefined : accounts.get(youngest)
      if (youngest !== undefined && other && byRankOfBirth([youngest, other], [uid, now]) > 0)
        return undefined
      grown.set(owner, [...list, uid])
    }
    const parent = lineage.at(-1)
    if (parent !== undefined)
      siblings.set(parent, [...(siblings.get(parent) ?? children.get(parent) ?? []), uid])
  }
  return { children: children.patched(siblings), below: below.patched(grown) }
}
