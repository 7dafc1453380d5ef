/**
 * A map that is never changed: a change gives another one that shares almost all with it. So a
 * reader keeps what it read, and a change of one of ten thousand entries copies some dozen, not
 * all.
 */
export class Overlay<K, V> implements ReadonlyMap<K, V> {
  readonly #base: ReadonlyMap<K, V>
  readonly #over: ReadonlyMap<K, V>
  readonly size: number

  private constructor(base: ReadonlyMap<K, V>, over: ReadonlyMap<K, V>, size: number) {
    this.#base = base
    this.#over = over
    this.size = size
  }
  /** Over a copy of these entries. */
  static of<K, V>(entries: Iterable<readonly [K, V]>): Overlay<K, V> {
    const base = new Map(entries)
    return new Overlay<K, V>(base, new Map(), base.size)
  }

  with(key: K, value: V): Overlay<K, V> {
    const over = new Map(this.#over).set(key, value)
    const size = this.has(key) ? this.size : this.size + 1
    // Each change copies what is laid over, and every so many of them all: about twice the square
    // root of the size is the least of both together.
    return over.size * over.size <= 4 * size + 64
      ? new Overlay(this.#base, over, size)
      : new Overlay(new Map([...this.#base, ...over]), new Map(), size)
  }

  get(key: K): V | undefined {
    return this.#over.has(key) ? this.#over.get(key) : this.#base.get(key)
  }
  has(key: K): boolean {
    return this.#over.has(key) || this.#base.has(key)
  }
  *entries(): MapIterator<[K, V]> {
    if (this.#over.size === 0) return yield* this.#base.entries()
    for (const [key, value] of this.#base)
      yield [key, this.#over.has(key) ? (this.#over.get(key) as V) : value] // it is there
    for (const [key, value] of this.#over) if (!this.#base.has(key)) yield [key, value]
    return undefined
  }
  *keys(): MapIterator<K> {
    for (const [key] of this.entries()) yield key
    return undefined
  }
  *values(): MapIterator<V> {
    for (const [, value] of this.entries()) yield value
    return undefined
  }
  [Symbol.iterator](): MapIterator<[K, V]> {
    return this.entries()
  }
  forEach(visit: (value: V, key: K, map: ReadonlyMap<K, V>) => void): void {
    for (const [key, value] of this.entries()) visit(value, key, this)
  }
}
