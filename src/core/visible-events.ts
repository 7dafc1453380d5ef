import type { Uid } from "./instance.ts"
import type { ToolContext } from "./tool.ts"

/**
 * Whose events the caller may see: all for people; its own and its descendants', removed ones too,
 * for an instance.
 */
export async function visibleUids({
  who,
  ledger,
}: ToolContext): Promise<readonly Uid[] | undefined> {
  if (who.kind === "human") return undefined
  const below = [...(await ledger.spent())]
    .filter(([, { lineage }]) => lineage.includes(who.uid))
    .map(([uid]) => uid)
  return [who.uid, ...below]
}
