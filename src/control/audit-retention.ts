import type { Audit } from "../core/audit-port.ts"
import type { Clock } from "../core/ports.ts"

const idleMs = 60_000
/**
 * Between two steps while there is more to remove: a clock that jumped ahead by years shall not
 * empty the audit before anybody looks.
 */
const busyMs = 5000

/**
 * Removes from the audit what it keeps no longer, step by step, also while nobody calls. Until the
 * signal.
 */
export function keepAuditBounded(
  audit: Pick<Audit, "trim">,
  clock: Clock,
  report: (key: string, error: unknown) => void,
  signal: AbortSignal,
): void {
  let cancel = (): void => {}
  const step = async (): Promise<void> => {
    const more = await audit.trim().catch((error: unknown) => {
      report("audit", error)
      return false
    })
    if (!signal.aborted) cancel = clock.after(more ? busyMs : idleMs, () => void step())
  }
  signal.addEventListener("abort", () => cancel())
  void step()
}
