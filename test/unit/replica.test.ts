import { expect, it } from "vitest"
import { createWire, Truth } from "../../src/adapters/memory/truth.ts"
import {
  type FeedChange,
  replicate,
  retryMsMax,
  retryMsMin,
  soleReplica,
} from "../../src/core/replica.ts"
import { manualClock, stepping } from "../contract/harness.ts"
import { describeReplica } from "../contract/replica.ts"

describeReplica("over memory", (clock, signal) => {
  const [truth, wire] = [new Truth<string, string>(), createWire()]
  const replica = replicate(truth.feed(wire), { clock, report: () => {} }, signal)
  return {
    replica,
    put: (key, value) => truth.put(key, value),
    gone: (key) => truth.gone(key),
    cut: wire.cut,
    resume: wire.resume,
    async settled() {
      await expect.poll(() => replica.staleSinceMs).toBeUndefined()
      await new Promise((resolve) => setImmediate(resolve))
    },
  }
})

/** A feed that says, in each attempt, what it is given. */
function scripted(attempts: readonly (readonly FeedChange<string, string>[])[]) {
  const clock = manualClock()
  const stop = new AbortController()
  const errors: unknown[] = []
  let attempt = 0
  const replica = replicate<string, string>(
    async function* () {
      yield* attempts[attempt++] ?? []
    },
    { clock, report: (error) => void errors.push(error) },
    stop.signal,
  )
  const settle = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))
  return { clock, stop, errors, replica, settle, attempts: () => attempt }
}
const put = (key: string, value: string, revision: number) =>
  ({ type: "Put", key, value, revision }) as const
const all = (entries: Record<string, string>, revision: number) =>
  ({ type: "All", all: new Map(Object.entries(entries)), revision }) as const

it("drops what a feed tells late: an older change after a newer one", async () => {
  const { replica, settle } = scripted([
    [
      all({ a: "5" }, 5),
      put("a", "7", 7),
      put("a", "6", 6),
      { type: "Gone", key: "a", revision: 4 },
    ],
  ])
  await settle()
  expect(replica.get("a")).toBe("7")
})

it("waits twice as long after each attempt that fails, up to the most, and from the least again when one listed", async () => {
  const { clock, settle, attempts, errors } = scripted([[], [], [], [all({}, 1)], []])
  await settle()
  const failed = async (ms: number): Promise<void> => {
    const before = attempts()
    clock.advance(ms - 1)
    await settle()
    expect(attempts()).toBe(before)
    clock.advance(1)
    await settle()
    expect(attempts()).toBe(before + 1)
  }
  for (const factor of [1, 2, 4, 1, 2, 4, 8, 16, 32, 64, 128]) await failed(retryMsMin * factor)
  for (let time = 0; time < 3; time++) await failed(retryMsMax)
  expect(errors).toHaveLength(attempts())
  expect(String(errors[0])).toMatch(/ended by itself/)
})

it("believes a truth that was set back, as from a backup, once it is listed", async () => {
  const { replica, clock, settle } = scripted([
    [all({ a: "9" }, 9)],
    [all({ a: "2" }, 2), put("a", "3", 3)],
  ])
  await settle()
  replica.put("a", "10", 10)
  clock.advance(retryMsMin)
  await settle()
  expect(replica.get("a")).toBe("3")
})

it("keeps what was written while the list was on its way", async () => {
  const list = Promise.withResolvers<FeedChange<string, string>>()
  const stop = new AbortController()
  const replica = replicate<string, string>(
    async function* () {
      yield await list.promise
      await new Promise((resolve) => stop.signal.addEventListener("abort", resolve))
    },
    { clock: manualClock(), report: () => {} },
    stop.signal,
  )
  replica.put("mine", "2", 12)
  replica.gone("theirs", 13)
  list.resolve(all({ theirs: "1", mine: "1" }, 11))
  await replica.ready(stop.signal)
  expect(Object.fromEntries(replica.snapshot())).toEqual({ mine: "2" })
  stop.abort()
})

it("begins no feed again when its signal ended", async () => {
  const { clock, stop, settle, attempts } = scripted([])
  await settle()
  stop.abort()
  clock.advance(retryMsMax)
  await settle()
  expect(attempts()).toBe(1)
})

it("is never stale where one process alone writes, and tells only news", async () => {
  const stop = new AbortController()
  const replica = soleReplica<string, number>([["a", 1]], {
    isNews: (before, now) => before === undefined || now === undefined || now > before + 1,
  })
  await replica.ready(stop.signal)
  expect(replica.staleSinceMs).toBeUndefined()
  const keys = stepping(replica.watch(stop.signal))
  expect(await keys.next()).toBe("a")
  replica.put("a", 2)
  replica.put("b", 1)
  expect(await keys.next()).toBe("b")
  expect(replica.get("a")).toBe(2)
  replica.put("a", 9)
  expect(await keys.next()).toBe("a")
  replica.gone("b")
  expect(await keys.next()).toBe("b")
  expect(Object.fromEntries(replica.snapshot())).toEqual({ a: 9 })
  stop.abort()
})
