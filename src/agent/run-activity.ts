import type { Beat } from "../core/beat.ts"

/** What the agent is doing now, as its hooks show it. */
export interface RunActivity {
  now(): Beat["activity"]
  set(activity: Beat["activity"]): void
  /** The time in which everything stood still counts for nobody. */
  postpone(ms: number): void
}

export function createRunActivity(changed: () => void): RunActivity {
  let activity: Beat["activity"]
  return {
    now: () => activity,
    set(next) {
      activity = next
      changed()
    },
    postpone(ms) {
      if (activity) activity = { ...activity, sinceMs: activity.sinceMs + ms }
    },
  }
}
