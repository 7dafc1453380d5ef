import type { UpFrame } from "../core/link.ts"

type Sequenced = Exclude<UpFrame, { type: "beat" }>
/** A receipt or an event before it has its number. */
export type Spooled = Sequenced extends infer F ? (F extends Sequenced ? Omit<F, "seq"> : never) : never

/** Receipts and events that the gateway has not acknowledged, oldest first. */
export interface Spool {
  add(frame: Spooled): Sequenced
  acknowledge(seq: number): void
  readonly all: () => readonly Sequenced[]
}
/** A receipt is never dropped (there are at most as many as mails); of the events the oldest go, and one tells how many. */
export const eventsMax = 5000

export function createSpool(onDropped: (count: number) => void): Spool {
  const frames = new Map<number, Sequenced>()
  let last = 0
  let events = 0
  return {
    add(frame) {
      const numbered: Sequenced = { ...frame, seq: ++last }
      frames.set(numbered.seq, numbered)
      if (numbered.type === "event" && ++events > eventsMax) {
        const oldest = [...frames.values()].find(({ type }) => type === "event")
        if (oldest) frames.delete(oldest.seq)
        events--
        onDropped(1)
      }
      return numbered
    },
    acknowledge(seq) {
      if (frames.get(seq)?.type === "event") events--
      frames.delete(seq)
    },
    all: () => [...frames.values()],
  }
}
