import type { Feed, FeedChange } from "../../core/replica.ts"

/** What feeds reach a handle through. Whoever tests cuts it, and lets it come back. */
export interface Wire {
  /** Breaks every feed; those that are begun again wait for `resume`. */
  cut(): void
  resume(): void
  /** Resolves when the wire is whole, or the signal ended. */
  whole(signal: AbortSignal): Promise<void>
  /** Calls `then` at the next cut; the result takes it back. */
  onCut(then: () => void): () => void
}

export function createWire(): Wire {
  const cuts = new Set<() => void>()
  let broken: PromiseWithResolvers<void> | undefined
  return {
    cut() {
      broken ??= Promise.withResolvers()
      for (const then of [...cuts]) then()
    },
    resume() {
      broken?.resolve()
      broken = undefined
    },
    async whole(signal) {
      if (!broken || signal.aborted) return
      const ended = Promise.withResolvers<void>()
      const abort = (): void => ended.resolve()
      signal.addEventListener("abort", abort)
      await Promise.race([broken.promise, ended.promise])
      signal.removeEventListener("abort", abort)
    },
    onCut(then) {
      cuts.add(then)
      return () => cuts.delete(then)
    },
  }
}

type TruthChange<K extends string, V> = Exclude<FeedChange<K, V>, { readonly type: "All" }>

/** The truth about one keyed set. Each write has a revision of its own. */
export class Truth<K extends string, V> {
  readonly #entries = new Map<K, V>()
  readonly #listeners = new Set<(change: TruthChange<K, V>) => void>()
  #revision = 0

  get(key: K): V | undefined {
    return this.#entries.get(key)
  }
  entries(): Iterable<readonly [K, V]> {
    return this.#entries
  }
  put(key: K, value: V): number {
    this.#entries.set(key, value)
    return this.#tell({ type: "Put", key, value, revision: ++this.#revision })
  }
  gone(key: K): number {
    this.#entries.delete(key)
    return this.#tell({ type: "Gone", key, revision: ++this.#revision })
  }
  /** Of what was not told yet the last change of each key is, so that it stays bounded. */
  feed(wire: Wire): Feed<K, V> {
    const { whole, onCut } = wire
    const listen = this.listen.bind(this)
    const list = (): FeedChange<K, V> => ({
      type: "All",
      all: new Map(this.#entries),
      revision: this.#revision,
    })
    return async function* (signal) {
      await whole(signal)
      if (signal.aborted) return
      const untold = new Map<K, FeedChange<K, V>>()
      let isCut = false
      let wake = (): void => {}
      const ends = [
        listen((change) => {
          untold.delete(change.key)
          untold.set(change.key, change)
          wake()
        }),
        onCut(() => {
          isCut = true
          wake()
        }),
      ]
      const abort = (): void => wake()
      signal.addEventListener("abort", abort)
      try {
        yield list()
        while (!signal.aborted) {
          if (isCut) throw new Error("The feed was cut.")
          const [next] = untold
          if (next) {
            untold.delete(next[0])
            yield next[1]
          } else
            await new Promise<void>((resolve) => {
              wake = resolve
            })
        }
      } finally {
        for (const end of ends) end()
        signal.removeEventListener("abort", abort)
      }
    }
  }
  /** Calls `listener` within each write; the result takes it back. */
  listen(listener: (change: TruthChange<K, V>) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }
  #tell(change: TruthChange<K, V>): number {
    for (const listener of this.#listeners) listener(change)
    return change.revision
  }
}
