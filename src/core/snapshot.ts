import { Overlay } from "./overlay.ts"

/**
 * A keyed set at one moment. It stays the same object as long as nothing changes, and never changes
 * itself, so what is derived from it can be kept beside it (derived.ts).
 */
export interface Snapshot<K extends string, V> extends ReadonlyMap<K, V> {
  /** Grows with every change that this process has seen. */
  readonly version: number
}

/** How many keys the journal of a set names; whoever is further behind starts anew. */
const journalKeysMax = 4096

/** Which keys changed from one snapshot of a set to the next. */
class Journal<K extends string> {
  readonly #steps: { readonly version: number; readonly keys: ReadonlySet<K> }[] = []
  #keys = 0
  /** Changes up to this version are not known any more. */
  #forgotten: number

  constructor(version: number) {
    this.#forgotten = version
  }
  add(version: number, keys: ReadonlySet<K>): void {
    this.#steps.push({ version, keys })
    this.#keys += keys.size
    while (this.#keys > journalKeysMax) {
      const step = this.#steps.shift()
      if (!step) return
      this.#keys -= step.keys.size
      this.#forgotten = step.version
    }
  }
  between(after: number, upTo: number): ReadonlySet<K> | undefined {
    if (after < this.#forgotten || after > upTo) return undefined
    const keys = new Set<K>()
    for (let index = this.#steps.length - 1; index >= 0; index--) {
      const step = this.#steps[index]
      if (!step || step.version <= after) break
      if (step.version <= upTo) for (const key of step.keys) keys.add(key)
    }
    return keys
  }
}

/** The snapshot of a `KeyedSet`, which knows what changed since an earlier one. */
export class JournaledSnapshot<K extends string, V> implements Snapshot<K, V> {
  readonly version: number
  /** The same for all snapshots that can be compared. */
  readonly journal: object
  readonly #journal: Journal<K>
  readonly #entries: Overlay<K, V>

  constructor(version: number, journal: Journal<K>, entries: Overlay<K, V>) {
    this.version = version
    this.journal = journal
    this.#journal = journal
    this.#entries = entries
  }
  /** Undefined when that is too long ago, or another set's. */
  changedSince(earlier: JournaledSnapshot<K, V>): ReadonlySet<K> | undefined {
    if (earlier.journal !== this.journal) return undefined
    return this.#journal.between(earlier.version, this.version)
  }
  /** For the set's next snapshot. */
  patched(changes: Iterable<readonly [K, V | undefined]>): Overlay<K, V> {
    return this.#entries.patched(changes)
  }

  get size(): number {
    return this.#entries.size
  }
  get(key: K): V | undefined {
    return this.#entries.get(key)
  }
  has(key: K): boolean {
    return this.#entries.has(key)
  }
  forEach(visit: (value: V, key: K, map: ReadonlyMap<K, V>) => void): void {
    for (const [key, value] of this.#entries) visit(value, key, this)
  }
  entries(): MapIterator<[K, V]> {
    return this.#entries.entries()
  }
  keys(): MapIterator<K> {
    return this.#entries.keys()
  }
  values(): MapIterator<V> {
    return this.#entries.values()
  }
  [Symbol.iterator](): MapIterator<[K, V]> {
    return this.#entries.entries()
  }
}

/** A map that gives snapshots of itself. A snapshot costs what changed since the last one. */
export class KeyedSet<K extends string, V> {
  #entries: Map<K, V>
  #version = 0
  #journal = new Journal<K>(0)
  #given: JournaledSnapshot<K, V> | undefined
  readonly #changed = new Set<K>()

  constructor(entries: Iterable<readonly [K, V]> = []) {
    this.#entries = new Map(entries)
  }
  get(key: K): V | undefined {
    return this.#entries.get(key)
  }
  keys(): Iterable<K> {
    return this.#entries.keys()
  }
  put(key: K, value: V): void {
    this.#entries.set(key, value)
    this.#change(key)
  }
  delete(key: K): void {
    if (this.#entries.delete(key)) this.#change(key)
  }
  replace(entries: Iterable<readonly [K, V]>): void {
    this.#entries = new Map(entries)
    this.#version++
    this.#given = undefined
  }
  snapshot(): JournaledSnapshot<K, V> {
    if (!this.#given) {
      this.#journal = new Journal(this.#version)
      this.#given = this.#made(Overlay.of(this.#entries))
    } else if (this.#changed.size > 0) {
      const keys = new Set(this.#changed)
      this.#journal.add(this.#version, keys)
      const changes = [...keys].map((key) => [key, this.#entries.get(key)] as const)
      this.#given = this.#made(this.#given.patched(changes))
    }
    this.#changed.clear()
    return this.#given
  }
  #made(entries: Overlay<K, V>): JournaledSnapshot<K, V> {
    return new JournaledSnapshot(this.#version, this.#journal, entries)
  }
  #change(key: K): void {
    this.#version++
    if (this.#given) this.#changed.add(key)
  }
}
