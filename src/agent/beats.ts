import type { Beat } from "../core/beat.ts"

/**
 * When beats go out. A beat is a level, of which the last counts: what only shows what an agent
 * does (a tool, what it used) may wait a moment and be told together; what the fleet waits for (a
 * turn, a freeze) goes at once.
 */
export interface Beats {
  /** Something that a beat says has changed. */
  changed(): void
  /** Sends the present one at once. */
  now(): void
  close(): void
}
/** Four a second are more than a person sees. */
export const beatPauseMs = 250

const urgent = ({ turn, frozen, work }: Beat): string => JSON.stringify([turn, frozen, work?.path])

export function createBeats(
  compose: () => Beat,
  send: (beat: Beat) => void,
  nowMs = () => performance.now(),
): Beats {
  let timer: NodeJS.Timeout | undefined
  let sentAtMs = -beatPauseMs
  let lastUrgent = ""
  const now = (beat = compose()): void => {
    clearTimeout(timer)
    timer = undefined
    sentAtMs = nowMs()
    lastUrgent = urgent(beat)
    send(beat)
  }
  return {
    changed() {
      const beat = compose()
      const leftMs = sentAtMs + beatPauseMs - nowMs()
      if (leftMs <= 0 || urgent(beat) !== lastUrgent) now(beat)
      else timer ??= setTimeout(now, leftMs)
    },
    now: () => now(),
    close: () => clearTimeout(timer),
  }
}
