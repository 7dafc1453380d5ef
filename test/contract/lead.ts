/** What must hold of every Lead. */
import { afterEach, beforeEach, describe, expect, it } from "vitest"
import type { Lead } from "../../src/core/ports.ts"
import { manualClock, type Open, type Opened } from "./harness.ts"

export function describeLead(
  name: string,
  open: Open<Lead>,
  { handles }: { handles: "one" | "several" },
): void {
  describe(`Lead: ${name}`, () => {
    let opened: Opened<Lead>
    let stop: AbortController

    beforeEach(async () => {
      opened = await open(manualClock())
      stop = new AbortController()
    })
    afterEach(async () => {
      stop.abort()
      await opened.close()
    })

    const termNow = async (): Promise<number> => {
      let seen = 0
      await opened.port(stop.signal, async (term) => {
        seen = term
      })
      return seen
    }

    it("raises the term with each leadership, over restarts too", async () => {
      const first = await termNow()
      const second = await termNow()
      opened = await opened.reopen()
      const third = await termNow()
      expect(first).toBeGreaterThan(0)
      expect(second).toBeGreaterThan(first)
      expect(third).toBeGreaterThan(second)
    })

    it("has one leader at a time: the next begins when the former has ended", async () => {
      const happened: string[] = []
      const begun = Promise.withResolvers<void>()
      const finish = Promise.withResolvers<void>()
      const first = opened.port(stop.signal, async (term) => {
        happened.push(`begin ${term}`)
        begun.resolve()
        await finish.promise
        happened.push(`end ${term}`)
      })
      await begun.promise
      const second = opened.port(stop.signal, async (term) => void happened.push(`begin ${term}`))
      finish.resolve()
      await Promise.all([first, second])
      const [a, b] = [happened[0]?.split(" ")[1], happened[2]?.split(" ")[1]]
      expect(happened).toEqual([`begin ${a}`, `end ${a}`, `begin ${b}`])
      expect(Number(b)).toBeGreaterThan(Number(a))
    })

    it("tells the work to end, and ends when it has", async () => {
      const begun = Promise.withResolvers<void>()
      let ended = false
      const led = opened.port(stop.signal, async (_term, signal) => {
        begun.resolve()
        await new Promise((resolve) => signal.addEventListener("abort", resolve))
        ended = true
      })
      await begun.promise
      stop.abort()
      await led
      expect(ended).toBe(true)
    })

    it("does not begin once it was told to end", async () => {
      stop.abort()
      expect(await termNow()).toBe(0)
    })

    it("hands on what the work throws, and can lead again", async () => {
      await expect(
        opened.port(stop.signal, () => Promise.reject(new Error("broken"))),
      ).rejects.toThrow("broken")
      expect(await termNow()).toBeGreaterThan(0)
    })

    if (handles === "several")
      describe("with two handles", () => {
        it("has one leader of both, and a greater term after a change", async () => {
          const { port: other } = await opened.second()
          const [begun, finish] = [Promise.withResolvers<number>(), Promise.withResolvers<void>()]
          const first = opened.port(stop.signal, async (term) => {
            begun.resolve(term)
            await finish.promise
          })
          const former = await begun.promise
          let next = 0
          const second = other(stop.signal, async (term) => {
            next = term
          })
          await new Promise((resolve) => setImmediate(resolve))
          expect(next).toBe(0)
          finish.resolve()
          await Promise.all([first, second])
          expect(next).toBeGreaterThan(former)
        })

        it("lets the other lead when the process of the leader is gone", async () => {
          const { port: other, close } = await opened.second()
          const begun = Promise.withResolvers<number>()
          // It hangs: nothing of it ever returns.
          void other(stop.signal, async (term) => {
            begun.resolve(term)
            await new Promise(() => {})
          })
          const former = await begun.promise
          const next = termNow()
          close()
          expect(await next).toBeGreaterThan(former)
        })

        it("does not wait longer than its signal", async () => {
          const { port: other } = await opened.second()
          const [begun, finish] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
          const first = opened.port(stop.signal, async () => {
            begun.resolve()
            await finish.promise
          })
          await begun.promise
          const leaving = new AbortController()
          let led = false
          const second = other(leaving.signal, async () => {
            led = true
          })
          leaving.abort()
          await second
          expect(led).toBe(false)
          finish.resolve()
          await first
        })
      })
  })
}
