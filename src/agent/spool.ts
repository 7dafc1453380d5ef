import type { Sequenced, Spooled } from "../core/frames.ts"
import type { Receipt } from "../core/mail.ts"

/** Receipts and events that the gateway has not acknowledged, oldest first. */
export interface Spool {
  add(frame: Spooled): Sequenced
  acknowledge(seq: number): void
  readonly all: () => readonly Sequenced[]
  /** The receipts among them. */
  receipts(): readonly Receipt[]
}
/**
 * A receipt is never dropped (there are at most as many as mails); of the events the oldest go, and
 * one tells how many.
 */
export const spooledEventsMax = 5000
/**
 * Of the events that wait, so many of the newest are kept for a successor: the file is written
 * whole with each new one.
 */
export const keptEventsMax = 100

export interface SpoolOptions {
  /** What a predecessor left. */
  readonly left: readonly Sequenced[]
  /** Keeps what waits, for a successor. */
  keep(frames: readonly Sequenced[]): void
  dropped(count: number): void
}

export function createSpool({ left, keep, dropped }: SpoolOptions): Spool {
  const frames = new Map<number, Sequenced>(left.map((frame) => [frame.seq, frame]))
  const isEvent = ({ type }: Sequenced): boolean => type === "event"
  let last = Math.max(0, ...frames.keys())
  let events = left.filter(isEvent).length
  const write = (): void => {
    let spare = events - keptEventsMax
    keep([...frames.values()].filter((frame) => !isEvent(frame) || spare-- <= 0))
  }
  return {
    add(frame) {
      const numbered: Sequenced = { ...frame, seq: ++last }
      frames.set(numbered.seq, numbered)
      if (isEvent(numbered) && ++events > spooledEventsMax) {
        const oldest = [...frames.values()].find(isEvent)
        if (oldest) frames.delete(oldest.seq)
        events--
        dropped(1)
      }
      write()
      return numbered
    },
    acknowledge(seq) {
      const frame = frames.get(seq)
      if (!frame) return
      if (isEvent(frame)) events--
      frames.delete(seq)
      // In between it is not worth a write: what is sent again counts once.
      if (frames.size === 0) write()
    },
    all: () => [...frames.values()],
    receipts: () =>
      [...frames.values()].flatMap((frame) => (frame.type === "receipt" ? [frame.receipt] : [])),
  }
}
