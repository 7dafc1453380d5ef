import type { Uid } from "./instance.ts"
import { isBorn } from "./spending.ts"
import type { ToolContext } from "./tool.ts"

/**
 * Whose events the caller may see: all for people; its own and its descendants', removed ones too,
 * for an instance.
 */
export async function visibleUids({
  who,
  ledger,
  visible,
}: ToolContext): Promise<readonly Uid[] | undefined> {
  if (who.kind === "human") return undefined
  const accounts = ledger.accounts.snapshot()
  const instances = await visible()
  const below = [...accounts]
    .filter(([, { birth }]) => birth?.lineage.includes(who.uid))
    .map(([uid]) => uid)
  // A child that was created a moment ago may have no account yet.
  const newest = instances
    .filter(({ uid, spec }) => spec.lineage.includes(who.uid) && !isBorn(uid, accounts))
    .map(({ uid }) => uid)
  return [who.uid, ...below, ...newest]
}
