/**
 * Names of what changed. Yields every known key first (also after each reconnect), then keys as
 * they change. Coalescing, so a reader's backlog is bounded by the number of keys however slow it
 * is; never throws; ends with the signal.
 */
export type Source<K extends string = string> = (signal: AbortSignal) => AsyncIterable<K>

/**
 * One place where changes are told, and any number of readers. `all` lists the keys that exist (and
 * those that are gone but unsettled).
 */
export function topic<K extends string>(
  all: () => Promise<Iterable<K>>,
): { changed(key: K): void; source: Source<K> } {
  const readers = new Set<(key: K) => void>()
  return {
    changed: (key) => {
      for (const reader of readers) reader(key)
    },
    async *source(signal) {
      let wake = (): void => {}
      const dirty = new Set<K>()
      const onAbort = (): void => wake()
      const reader = (key: K): void => {
        dirty.add(key)
        wake()
      }
      readers.add(reader) // before all(): no change is lost during the listing
      signal.addEventListener("abort", onAbort)
      try {
        for (const key of await all()) dirty.add(key)
        while (!signal.aborted) {
          for (const key of dirty) {
            dirty.delete(key)
            yield key
            if (signal.aborted) return
          }
          // No await stands between the empty set and this promise, so no wake-up can be missed.
          await new Promise<void>((resolve) => {
            wake = resolve
          })
        }
      } finally {
        readers.delete(reader)
        signal.removeEventListener("abort", onAbort)
      }
    },
  }
}
