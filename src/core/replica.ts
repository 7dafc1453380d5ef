import { KeyedSet, type Snapshot } from "./snapshot.ts"
import { type Source, topic } from "./source.ts"

/**
 * What one process knows of a keyed set that others write too. It is read without waiting; an
 * adapter's feed keeps it up to date.
 */
export interface Replica<K extends string, V> {
  get(key: K): V | undefined
  snapshot(): Snapshot<K, V>
  /** Keys that changed, those that are gone too, after `get` shows it. */
  readonly watch: Source<K>
  /** Resolves when the first list is in. Rejects with the signal's reason. */
  ready(signal: AbortSignal): Promise<void>
  /**
   * Since when the feed is down, by the clock that `replicate` was given; undefined while it is up.
   * Whoever shows what a stale replica holds says so, and concludes nothing from it.
   */
  readonly staleSinceMs: number | undefined
}

/**
 * What an adapter tells of a keyed set: first all of it, read from the truth itself, then each
 * change in order. `revision` is the number that the truth gave to the change (to the newest one,
 * for a list): it only grows. A feed may throw or end at any time, and is then begun again.
 */
export type Feed<K extends string, V> = (signal: AbortSignal) => AsyncIterable<FeedChange<K, V>>
export type FeedChange<K extends string, V> =
  | { readonly type: "All"; readonly all: ReadonlyMap<K, V>; readonly revision: number }
  | { readonly type: "Put"; readonly key: K; readonly value: V; readonly revision: number }
  | { readonly type: "Gone"; readonly key: K; readonly revision: number }

/** For an adapter that writes: what it wrote shows here at once, before the feed tells of it. */
export interface FedReplica<K extends string, V> extends Replica<K, V> {
  /** `revision` is the one that the truth gave to this write. */
  put(key: K, value: V, revision: number): void
  gone(key: K, revision: number): void
}

export interface ReplicaOptions<V> {
  /** False for a change that only those want who look anyway: `watch` does not tell of it. */
  isNews?(before: V | undefined, now: V | undefined): boolean
}
export interface FeedOptions<V> extends ReplicaOptions<V> {
  /** Steady: it is not set back. */
  readonly clock: { nowMs(): number; after(ms: number, then: () => void): () => void }
  /** Why the feed broke. It is called once for each attempt. */
  report(error: unknown): void
}

/** A feed that broke is begun again after this long, then after twice as long, up to the most. */
export const retryMsMin = 200
export const retryMsMax = 30_000

const always = (): boolean => true

/** The replica of the one process that writes the set: nobody else does, so it is never stale. */
export function soleReplica<K extends string, V>(
  entries: Iterable<readonly [K, V]>,
  { isNews = always }: ReplicaOptions<V> = {},
): Replica<K, V> & { put(key: K, value: V): void; gone(key: K): void } {
  const set = new KeyedSet<K, V>(entries)
  const { changed, source } = topic<K>(async () => set.keys())
  return {
    get: (key) => set.get(key),
    snapshot: () => set.snapshot(),
    watch: source,
    ready: async () => {},
    staleSinceMs: undefined,
    put(key, value) {
      const before = set.get(key)
      set.put(key, value)
      if (isNews(before, value)) changed(key)
    },
    gone(key) {
      const before = set.get(key)
      set.delete(key)
      if (before !== undefined && isNews(before, undefined)) changed(key)
    },
  }
}

/** A set as a feed tells it, with this process's own writes that the feed has not told yet. */
class Merged<K extends string, V> {
  readonly set = new KeyedSet<K, V>()
  /** Own writes that are newer than what the feed told of their keys. */
  readonly #ahead = new Map<K, { readonly value: V | undefined; readonly revision: number }>()
  #toldRevision = Number.NEGATIVE_INFINITY

  /** A list is about to be read: it holds every own write so far. */
  beginList(): void {
    this.#ahead.clear()
  }
  /** Keys that may have changed: all that are listed, and those that are gone. */
  list(all: ReadonlyMap<K, V>, revision: number): Iterable<K> {
    const keys = new Set([...this.set.keys(), ...all.keys()])
    const merged = new Map(all)
    for (const [key, own] of this.#ahead)
      if (own.revision <= revision) this.#ahead.delete(key)
      else if (own.value === undefined) merged.delete(key)
      else merged.set(key, own.value)
    this.set.replace(merged)
    this.#toldRevision = revision
    return keys
  }
  /** False when something newer stands there, or the very same. */
  hear(key: K, value: V | undefined, revision: number): boolean {
    if (revision < this.#toldRevision) return false
    this.#toldRevision = revision
    const own = this.#ahead.get(key)
    if (own && own.revision > revision) return false
    this.#ahead.delete(key)
    if (own?.revision === revision) return false
    this.#set(key, value)
    return true
  }
  /** False when something newer stands there. */
  write(key: K, value: V | undefined, revision: number): boolean {
    const own = this.#ahead.get(key)
    if (revision < this.#toldRevision || (own && own.revision >= revision)) return false
    this.#ahead.set(key, { value, revision })
    this.#set(key, value)
    return true
  }
  #set(key: K, value: V | undefined): void {
    if (value === undefined) this.set.delete(key)
    else this.set.put(key, value)
  }
}

/**
 * One function makes every replica: it begins a broken feed again, drops what is older than what
 * stands there, and coalesces for slow readers. Until the signal.
 */
export function replicate<K extends string, V>(
  feed: Feed<K, V>,
  { clock, report, isNews = always }: FeedOptions<V>,
  signal: AbortSignal,
): FedReplica<K, V> {
  const merged = new Merged<K, V>()
  const { changed, source } = topic<K>(async () => merged.set.keys())
  const isReady = Promise.withResolvers<void>()
  let staleSinceMs: number | undefined = clock.nowMs()
  let failures = 0

  const change = (key: K, value: V | undefined, apply: () => boolean): void => {
    const before = merged.set.get(key)
    if (apply() && isNews(before, value)) changed(key)
  }
  const hear = (told: FeedChange<K, V>): void => {
    if (told.type === "All") {
      const keys = merged.list(told.all, told.revision)
      staleSinceMs = undefined
      failures = 0
      isReady.resolve()
      for (const key of keys) changed(key)
      return
    }
    const { key, revision } = told
    const value = told.type === "Put" ? told.value : undefined
    change(key, value, () => merged.hear(key, value, revision))
  }
  const attempt = async (): Promise<void> => {
    merged.beginList()
    for await (const told of feed(signal)) hear(told)
    if (!signal.aborted) throw new Error("The feed ended by itself.")
  }
  const follow = async (): Promise<void> => {
    while (!signal.aborted) {
      await attempt().catch((error: unknown) => {
        if (!signal.aborted) report(error)
      })
      staleSinceMs ??= clock.nowMs()
      if (!signal.aborted) await pause(clock, retryMs(failures++), signal)
    }
  }
  void follow()

  return {
    get: (key) => merged.set.get(key),
    snapshot: () => merged.set.snapshot(),
    watch: source,
    ready: (until) => endingWith(isReady.promise, until),
    get staleSinceMs() {
      return staleSinceMs
    },
    put: (key, value, revision) => change(key, value, () => merged.write(key, value, revision)),
    gone: (key, revision) => change(key, undefined, () => merged.write(key, undefined, revision)),
  }
}

const retryMs = (failures: number): number => Math.min(retryMsMax, retryMsMin * 2 ** failures)

/** Waits that long, or until the signal. */
const pause = (
  { after }: Pick<FeedOptions<never>["clock"], "after">,
  ms: number,
  signal: AbortSignal,
): Promise<void> =>
  new Promise((resolve) => {
    const done = (): void => {
      cancel()
      signal.removeEventListener("abort", done)
      resolve()
    }
    const cancel = after(ms, done)
    signal.addEventListener("abort", done)
  })

/** The same promise, which the signal rejects. */
const endingWith = (promise: Promise<void>, signal: AbortSignal): Promise<void> =>
  new Promise((resolve, reject) => {
    const abort = (): void => reject(signal.reason)
    if (signal.aborted) abort()
    signal.addEventListener("abort", abort)
    void promise.then(() => {
      signal.removeEventListener("abort", abort)
      resolve()
    })
  })
