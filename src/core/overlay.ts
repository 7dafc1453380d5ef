/** Stands in an overlay for a key of the base that is gone. */
const gone = Symbol("gone")

/** The values of a base in a list, and where each stands: made when somebody asks, once. */
interface Listed<K, V> {
  readonly values: readonly V[]
  readonly at: ReadonlyMap<K, number>
}
const listed = new WeakMap<object, Listed<unknown, unknown>>()
function listOf<K, V>(base: ReadonlyMap<K, V>): Listed<K, V> {
  const known = listed.get(base)
  if (known) return known as Listed<K, V> // it was made of this very map
  const list = {
    values: [...base.values()],
    at: new Map([...base.keys()].map((key, at) => [key, at])),
  }
  listed.set(base, list)
  return list
}

/**
 * A map that never changes: a change gives another one that shares almost everything with it. So a
 * reader keeps what it read, and a change of one of ten thousand entries copies some dozen, not
 * all.
 */
export class Overlay<K, V> implements ReadonlyMap<K, V> {
  readonly #base: ReadonlyMap<K, V>
  readonly #over: ReadonlyMap<K, V | typeof gone>
  readonly size: number

  private constructor(
    base: ReadonlyMap<K, V>,
    over: ReadonlyMap<K, V | typeof gone>,
    size: number,
  ) {
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
    return this.patched([[key, value]])
  }
  /** With several changes at once, which costs one copy; undefined takes a key out. */
  patched(changes: Iterable<readonly [K, V | undefined]>): Overlay<K, V> {
    const over = new Map(this.#over)
    let size = this.size
    for (const [key, value] of changes) {
      const stood = over.get(key)
      const wasThere = stood === undefined ? this.#base.has(key) : stood !== gone
      size += Number(value !== undefined) - Number(wasThere)
      if (value !== undefined) over.set(key, value)
      else if (this.#base.has(key)) over.set(key, gone)
      else over.delete(key)
    }
    const patched = new Overlay(this.#base, over, size)
    // Each change copies what is laid over, and every so many of them all: about twice the square
    // root of the size is the least of both together.
    return over.size * over.size <= 4 * size + 64 ? patched : Overlay.of(patched.#list())
  }

  get(key: K): V | undefined {
    const value = this.#over.get(key)
    if (value === undefined) return this.#base.get(key)
    return value === gone ? undefined : value
  }
  has(key: K): boolean {
    return this.get(key) !== undefined
  }
  forEach(visit: (value: V, key: K, map: ReadonlyMap<K, V>) => void): void {
    if (this.#over.size === 0) {
      for (const [key, value] of this.#base) visit(value, key, this)
      return
    }
    for (const [key, value] of this.#base) {
      const later = this.#over.get(key)
      if (later === undefined) visit(value, key, this)
      else if (later !== gone) visit(later, key, this)
    }
    for (const [key, value] of this.#over)
      if (value !== gone && !this.#base.has(key)) visit(value, key, this)
  }
  #list(): [K, V][] {
    const list: [K, V][] = []
    this.forEach((value, key) => {
      list.push([key, value])
    })
    return list
  }
  // Lists rather than generators, which take ten times as long over ten thousand entries.
  entries(): MapIterator<[K, V]> {
    return this.#list().values()
  }
  keys(): MapIterator<K> {
    return this.#over.size === 0
      ? this.#base.keys()
      : this.#list()
          .map(([key]) => key)
          .values()
  }
  values(): MapIterator<V> {
    if (this.#over.size === 0) return this.#base.values()
    // A copy of the base's list with some places changed: far cheaper than to look up each key.
    const { values, at } = listOf(this.#base)
    const list = values.slice()
    const left = new Set<number>()
    for (const [key, value] of this.#over) {
      const place = at.get(key)
      if (value === gone) left.add(place ?? -1)
      else if (place === undefined) list.push(value)
      else list[place] = value
    }
    return (left.size === 0 ? list : list.filter((_, place) => !left.has(place))).values()
  }
  [Symbol.iterator](): MapIterator<[K, V]> {
    return this.entries()
  }
}
