import type { ReportedHold } from "../core/beat.ts"
import { type ClaudeSearch, searchClaude } from "../host/find-claude.ts"
import type { RunFile } from "../run/run-directory.ts"

/**
 * The real claude may be away for a moment, while it is updated, or until somebody installs it
 * again: nobody gets a turn then.
 */

/**
 * A hold lasts this long, and is renewed in its second half: a run that ends meanwhile is not held
 * for ever.
 */
const holdMs = 60_000

export interface ClaudeWatch {
  /** Looks where it is; undefined while it is missing. */
  path(): string | undefined
  /** As the last look found it. */
  hold(): ReportedHold | undefined
}

/** `changed`: what `hold` says is another. */
export function watchClaude(
  search: () => ClaudeSearch,
  nowMs: () => number,
  changed: () => void,
): ClaudeWatch {
  let hold: ReportedHold | undefined
  const holdUntil = (message: string): ReportedHold => {
    const leftMs = (hold?.untilMs ?? 0) - nowMs()
    // The clock may have been set back: never longer than a hold itself.
    if (hold && leftMs >= holdMs / 2 && leftMs <= holdMs) return hold
    return {
      reason: "ClaudeMissing",
      message: `${message} The agent waits for it and goes on by itself.`,
      untilMs: nowMs() + holdMs,
    }
  }
  return {
    path() {
      const before = hold
      const found = search()
      hold = "path" in found ? undefined : holdUntil(found.missing)
      if (hold !== before) changed()
      return "path" in found ? found.path : undefined
    },
    hold: () => hold,
  }
}

/** Where the real claude of a run is. */
export interface ClaudeFinder {
  search(): ClaudeSearch
  /** As the last search that found it says. */
  path(): string
}

export function createClaudeFinder({
  claude,
  claudeNamed,
}: Pick<RunFile, "claude" | "claudeNamed">): ClaudeFinder {
  let path = claude
  return {
    search() {
      const found = searchClaude(claudeNamed ? { named: claude } : { known: claude })
      if ("path" in found) path = found.path
      return found
    },
    path: () => path,
  }
}
