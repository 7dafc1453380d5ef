import type { Database } from "./open.ts"

/**
 * Keys for steps that wait in memory on a full disk, a bounded number for each holder: of more the
 * newest wait. Who calls without end must not fill the memory that a pause may need.
 */
export function createHeldSlots(
  database: Pick<Database, "shortage">,
  perHolderMax: number,
): (holder: string) => string {
  const next = new Map<string, number>()
  return (holder) => {
    if (!database.shortage()) next.clear() // nothing waits
    const slot = next.get(holder) ?? 0
    next.set(holder, (slot + 1) % perHolderMax)
    return `${holder} ${slot}`
  }
}
