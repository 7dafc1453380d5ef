import { setTimeout as sleep } from "node:timers/promises"
import { describe, expect, it } from "vitest"
import { control, type Reconcile } from "../../src/control/controller.ts"
import { Fault } from "../../src/core/faults.ts"
import { topic } from "../../src/core/source.ts"
import { manualClock } from "../contract/harness.ts"

/** A controller on one topic; ends with the test. */
function controlled(
  reconcile: Reconcile<string>,
  { workersMax = 2, keys = [] as string[], urgent = [] as string[] } = {},
) {
  const clock = manualClock()
  const { changed, source } = topic<string>(async () => keys)
  const stop = new AbortController()
  const reports: { key: string; error: unknown }[] = []
  const done = control(
    {
      sources: [source],
      reconcile,
      workersMax,
      isUrgent: (key) => urgent.includes(key),
      clock,
      report: (key, error) => reports.push({ key, error }),
    },
    stop.signal,
  )
  const end = (): Promise<void> => {
    stop.abort()
    return done
  }
  return { clock, changed, reports, end, [Symbol.asyncDispose]: end }
}
/** A promise for the nth call. */
function counting() {
  let count = 0
  const waiting = new Map<number, () => void>()
  return {
    count: () => count,
    hit: () => waiting.get(++count)?.(),
    reached: (wanted: number) =>
      count >= wanted
        ? Promise.resolve()
        : new Promise<void>((resolve) => void waiting.set(wanted, resolve)),
  }
}

describe("the keyed loop", () => {
  it("reconciles every key that exists at the start, and keys as they change", async () => {
    const seen: string[] = []
    const calls = counting()
    await using controller = controlled(
      async (key) => {
        seen.push(key)
        calls.hit()
        return {}
      },
      { keys: ["a", "b"] },
    )
    await calls.reached(2)
    controller.changed("c")
    await calls.reached(3)
    expect(seen).toEqual(["a", "b", "c"])
  })

  it("takes what is urgent first, also a key that became so while it waited", async () => {
    const seen: string[] = []
    const calls = counting()
    const gate = Promise.withResolvers<void>()
    const urgent: string[] = ["z"]
    await using controller = controlled(
      async (key) => {
        seen.push(key)
        if (key === "a") await gate.promise
        calls.hit()
        return {}
      },
      { workersMax: 1, urgent },
    )
    for (const key of ["a", "b", "c", "d", "z"]) controller.changed(key)
    urgent.push("c")
    controller.changed("c")
    gate.resolve()
    await calls.reached(5)
    expect(seen.slice(1, 3).toSorted()).toEqual(["c", "z"])
    expect([seen[0], ...seen.slice(3)]).toEqual(["a", "b", "d"])
  })

  it("runs a key once at a time, and again when it was dirtied meanwhile, however often", async () => {
    let running = 0
    let most = 0
    const calls = counting()
    const gate = Promise.withResolvers<void>()
    await using controller = controlled(
      async () => {
        most = Math.max(most, ++running)
        calls.hit()
        await gate.promise
        running--
        return {}
      },
      { keys: ["a"] },
    )
    await calls.reached(1)
    for (let count = 0; count < 10; count++) controller.changed("a")
    await sleep(0)
    gate.resolve()
    await calls.reached(2)
    await sleep(0)
    expect({ most, calls: calls.count() }).toEqual({ most: 1, calls: 2 })
  })

  it("lets a key that hangs delay no other", async () => {
    const calls = counting()
    const hang = Promise.withResolvers<void>()
    await using controller = controlled(async (key) => {
      if (key === "hangs") await hang.promise
      else calls.hit()
      return {}
    })
    controller.changed("hangs")
    controller.changed("a")
    controller.changed("b")
    await calls.reached(2)
    hang.resolve()
  })

  it("keeps nothing from its I/O when a key dirties itself without end", async () => {
    let again: () => void = () => {}
    const calls = counting()
    await using controller = controlled(
      async () => {
        calls.hit()
        again()
        return {}
      },
      { keys: ["a"] },
    )
    again = () => controller.changed("a")
    await calls.reached(100)
    await sleep(1) // a timer fires although the key never rests
    again = () => {}
    expect(calls.count()).toBeGreaterThanOrEqual(100)
  })

  it("tries again after a failure, each time later, until it succeeds; a terminal fault waits for a change", async () => {
    const calls = counting()
    let fault: Error | undefined = new Error("away")
    await using controller = controlled(
      async () => {
        calls.hit()
        if (fault) throw fault
        return {}
      },
      { keys: ["a"] },
    )
    await calls.reached(1)
    await sleep(0)
    controller.clock.advance(999)
    expect(calls.count()).toBe(1)
    controller.clock.advance(1)
    await calls.reached(2)
    await sleep(0)
    controller.clock.advance(1999)
    expect(calls.count()).toBe(2)
    fault = new Fault("Invalid", "never", "mend it")
    controller.clock.advance(1)
    await calls.reached(3)
    await sleep(0)
    controller.clock.advance(1e9)
    await sleep(0)
    expect(calls.count()).toBe(3)
    expect(controller.reports).toHaveLength(3)
    fault = undefined
    controller.changed("a")
    await calls.reached(4)
  })

  it("comes back when it was asked to, and a change comes first", async () => {
    const calls = counting()
    await using controller = controlled(
      async () => {
        calls.hit()
        return calls.count() === 1 ? { afterMs: 5000 } : {}
      },
      { keys: ["a"] },
    )
    await calls.reached(1)
    await sleep(0)
    controller.changed("a")
    await calls.reached(2)
    await sleep(0)
    controller.clock.advance(5000)
    await sleep(0)
    expect(calls.count()).toBe(2) // the timer of before is gone
  })

  it("ends with the signal, after what runs has returned", async () => {
    const gate = Promise.withResolvers<void>()
    const calls = counting()
    let returned = false
    const controller = controlled(
      async () => {
        calls.hit()
        await gate.promise
        returned = true
        return {}
      },
      { keys: ["a"] },
    )
    await calls.reached(1)
    const end = controller.end()
    gate.resolve()
    await end
    expect(returned).toBe(true)
  })
})
