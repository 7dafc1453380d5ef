import type { Replica } from "../core/replica.ts"

/** How long a control loop waits for feeds that are down before it looks again. */
export const staleMs = 1000

/** What others wrote may be missing then: nothing is decided until the feeds are back. */
export const isAnyStale = (
  ...replicas: readonly Pick<Replica<string, unknown>, "staleSinceMs">[]
): boolean => replicas.some(({ staleSinceMs }) => staleSinceMs !== undefined)
