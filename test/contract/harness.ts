/**
 * What the contract suites and their child processes share: a clock that the test moves, a way to
 * read a stream step by step, plain values.
 */

import type { Beat } from "../../src/core/beat.ts"
import { type Instance, type Run, type Spec, type Uid, uidSchema } from "../../src/core/instance.ts"
import type { Mail } from "../../src/core/mail.ts"
import type { Birth, Clock } from "../../src/core/ports.ts"

/** An adapter as a suite gets it. `reopen` ends it and opens what it left behind. */
export interface Opened<T> {
  readonly port: T
  /** Another process on the same backend; throws where one process alone has it. */
  second(): Promise<Second<T>>
  reopen(): Promise<Opened<T>>
  close(): Promise<void>
}
export interface Second<T> {
  readonly port: T
  readonly wire: { cut(): void; resume(): void }
  /** Resumes the wire, and lets the time pass after which feeds are begun again. */
  comeBack(): Promise<void>
  /** As if that process were gone. */
  close(): void
}
/** Opens an empty one. */
export type Open<T> = (clock: ManualClock) => Promise<Opened<T>>

export interface ManualClock extends Clock {
  /** Moves time on and runs what becomes due. */
  advance(ms: number): void
}
/** 2026-01-01 00:00 UTC: a full hour, which the suites count on. */
export const startMs = Date.UTC(2026, 0, 1)

export function manualClock(): ManualClock {
  let now = startMs
  const timers = new Set<{ atMs: number; then: () => void }>()
  return {
    nowMs: () => now,
    after(ms, then) {
      const timer = { atMs: now + ms, then }
      timers.add(timer)
      return () => timers.delete(timer)
    },
    advance(ms) {
      now += ms
      for (const timer of timers)
        if (timer.atMs <= now) {
          timers.delete(timer)
          timer.then()
        }
    },
  }
}

/** Steps through a stream; fails when it ended. */
export function stepping<T>(stream: AsyncIterable<T>): {
  next(): Promise<T>
  take(count: number): Promise<T[]>
  ended(): Promise<boolean>
} {
  const iterator = stream[Symbol.asyncIterator]()
  const next = async (): Promise<T> => {
    const step = await iterator.next()
    if (step.done) throw new Error("The stream ended.")
    return step.value
  }
  return {
    next,
    async take(count) {
      const taken: T[] = []
      while (taken.length < count) taken.push(await next())
      return taken
    },
    ended: async () => (await iterator.next()).done === true,
  }
}

export const uid = (text: string): Uid => uidSchema.parse(text)

export const aSpec = (more: Partial<Spec> = {}): Spec => ({
  project: "shop",
  state: "Running",
  attempt: 1,
  orders: [],
  mode: "continuous",
  loop: "ralf",
  workspace: "auto",
  priority: 0,
  children: { depth: 8, total: 100, running: 50 },
  labels: {},
  budget: {},
  lineage: [],
  ...more,
})

export const aMail = (id: string, more: Partial<Mail> = {}): Mail => ({
  id,
  from: "operator root",
  authority: "operator",
  text: `text of ${id}`,
  urgency: "next-iteration",
  atMs: startMs,
  ...more,
})

export const aBeat = (more: Partial<Beat> = {}): Beat => ({
  place: "p1",
  frozen: false,
  used: { usd: 0, tokens: 0, iterations: 0, ms: 0 },
  atMs: startMs,
  ...more,
})

export const aRun = (more: Partial<Run> = {}): Run => ({
  phase: "Running",
  revision: "1-0",
  place: "p1",
  startedAtMs: startMs,
  restarts: 0,
  term: 1,
  ...more,
})

export const aBirth = (name: string, more: Partial<Birth> = {}): Birth => ({
  name,
  lineage: [],
  bornAtMs: startMs,
  rank: 1,
  defaults: {},
  ...more,
})

/** Its uid is `u-<name>`. */
export const anInstance = (
  name: string,
  { spec, ...more }: Partial<Omit<Instance, "name" | "spec">> & { spec?: Partial<Spec> } = {},
): Instance => ({
  name,
  uid: uid(`u-${name}`),
  version: "1.0.0",
  createdAtMs: startMs,
  status: {},
  ...more,
  spec: aSpec(spec),
})
