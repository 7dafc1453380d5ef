import { describe, expect, it } from "vitest"
import { topic } from "../../src/core/source.ts"
import { stepping } from "../contract/harness.ts"

describe("topic", () => {
  const stop = () => new AbortController()

  it("yields every known key first, then those that change", async () => {
    const { changed, source } = topic<string>(async () => ["a", "b"])
    const reader = stepping(source(stop().signal))
    expect(await reader.take(2)).toEqual(["a", "b"])
    const coming = reader.next()
    changed("c")
    expect(await coming).toBe("c")
  })

  it("coalesces: a key changed often while the reader is busy comes once", async () => {
    const { changed, source } = topic<string>(async () => [])
    const reader = stepping(source(stop().signal))
    const first = reader.next()
    await Promise.resolve()
    changed("a")
    expect(await first).toBe("a")
    for (let count = 0; count < 1000; count++) changed("b")
    changed("c")
    expect(await reader.take(2)).toEqual(["b", "c"])
    changed("d")
    expect(await reader.next()).toBe("d")
  })

  it("yields a key again that changed after it was yielded", async () => {
    const { changed, source } = topic<string>(async () => ["a", "b"])
    const reader = stepping(source(stop().signal))
    expect(await reader.next()).toBe("a")
    changed("a")
    expect(await reader.take(2)).toEqual(["b", "a"])
  })

  it("loses no change that happens during the listing", async () => {
    const listing = Promise.withResolvers<string[]>()
    const { changed, source } = topic(() => listing.promise)
    const reader = stepping(source(stop().signal))
    const first = reader.next()
    changed("new")
    listing.resolve(["old"])
    expect([await first, await reader.next()].toSorted()).toEqual(["new", "old"])
  })

  it("loses no change between two readings, wherever in the queue of microtasks it comes", async () => {
    for (let ticks = 0; ticks < 20; ticks++) {
      const { changed, source } = topic<string>(async () => [])
      const reader = stepping(source(stop().signal))
      const first = reader.next()
      for (let tick = 0; tick < ticks; tick++) await Promise.resolve()
      changed("a")
      expect(await first).toBe("a")
      const second = reader.next()
      for (let tick = 0; tick < ticks; tick++) await Promise.resolve()
      changed("a")
      expect(await second).toBe("a")
    }
  })

  it("tells every reader", async () => {
    const { changed, source } = topic<string>(async () => [])
    const readers = [1, 2, 3].map(() => stepping(source(stop().signal)))
    const coming = readers.map((reader) => reader.next())
    changed("a")
    expect(await Promise.all(coming)).toEqual(["a", "a", "a"])
  })

  it("ends with its signal: while waiting, while its reader is busy, and before it began", async () => {
    const { changed, source } = topic<string>(async () => ["a"])
    const waiting = stop()
    const waiter = stepping(source(waiting.signal))
    await waiter.next()
    const ended = waiter.ended()
    waiting.abort()
    expect(await ended).toBe(true)

    const busy = stop()
    const reader = stepping(source(busy.signal))
    await reader.next()
    changed("b")
    busy.abort()
    expect(await reader.ended()).toBe(true)

    const before = stop()
    before.abort()
    expect(await stepping(source(before.signal)).ended()).toBe(true)
  })
})
