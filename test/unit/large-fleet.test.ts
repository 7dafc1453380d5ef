import fc from "fast-check"
import { describe, expect, it } from "vitest"
import type { Uid } from "../../src/core/instance.ts"
import { freeName } from "../../src/core/instance-names.ts"
import { Overlay } from "../../src/core/overlay.ts"
import { createPace } from "../../src/core/pace.ts"
import type { Account } from "../../src/core/ports.ts"
import { soleReplica } from "../../src/core/replica.ts"
import { familyOf, totalsBelow } from "../../src/core/spending.ts"
import { noUsage } from "../../src/core/usage.ts"
import { aBirth, uid } from "../contract/harness.ts"

/**
 * What keeps a call's cost from growing with the fleet gives the same answers as going through all
 * of it.
 */

describe("a map that is never changed", () => {
  it("has after each change what a map would have, and all before it keep what they had", () => {
    const entry = fc.tuple(fc.nat(300), fc.nat())
    const change = fc.tuple(fc.nat(300), fc.option(fc.nat(), { nil: undefined }))
    fc.assert(
      fc.property(
        fc.array(entry, { maxLength: 40 }),
        fc.array(fc.array(change, { maxLength: 4 }), { maxLength: 200 }),
        (first, changes) => {
          let overlay = Overlay.of(first)
          const map = new Map(first)
          const kept: [Overlay<number, number>, Map<number, number>][] = []
          for (const some of changes) {
            overlay = overlay.patched(some)
            for (const [key, value] of some)
              if (value === undefined) map.delete(key)
              else map.set(key, value)
            kept.push([overlay, new Map(map)])
          }
          for (const [one, expected] of kept) {
            expect(new Map(one)).toEqual(expected)
            expect(one.size).toBe(expected.size)
            expect([...one.values()].toSorted()).toEqual([...expected.values()].toSorted())
            expect(
              [...one.keys()].every((key) => one.has(key) && one.get(key) === expected.get(key)),
            ).toBe(true)
          }
          expect(overlay.get(-1)).toBeUndefined()
        },
      ),
      { numRuns: 50 },
    )
  })
})

const lineageOf = (account: Account | undefined): readonly Uid[] => account?.birth?.lineage ?? []

describe("what is derived of the ledger", () => {
  it("is after births and uses in any order what it would be if it were made anew", () => {
    const step = fc.record({
      who: fc.nat(12),
      parent: fc.option(fc.nat(12), { nil: undefined }),
      rank: fc.nat(1000),
      usd: fc.nat(9),
      looks: fc.boolean(),
    })
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const plain = new Map<Uid, Account>()
        const set = soleReplica<Uid, Account>([])
        for (const [index, { who, parent, rank, usd, looks }] of steps.entries()) {
          if (looks) {
            totalsBelow(set.snapshot())
            familyOf(set.snapshot())
          }
          const key = uid(`u-${who}`)
          const before = plain.get(key)
          const above = parent === undefined ? undefined : plain.get(uid(`u-${parent}`))
          const isBorn = before?.birth !== undefined
          const canBeChild =
            !isBorn && above !== undefined && parent !== who && !lineageOf(above).includes(key)
          const lineage = canBeChild ? [...lineageOf(above), uid(`u-${parent}`)] : lineageOf(before)
          // No two ranks are alike, and they need not come in their order.
          const free = rank * steps.length + index
          const now: Account = {
            birth: before?.birth ?? aBirth(`n-${who}`, { lineage, rank: free }),
            used: { ...noUsage, usd: (before?.used.usd ?? 0) + usd },
          }
          plain.set(key, now)
          set.put(key, now)
        }
        const carried = set.snapshot()
        const sorted = (map: ReadonlyMap<Uid, unknown>) =>
          [...map].toSorted(([a], [b]) => (a < b ? -1 : 1))
        expect(sorted(totalsBelow(carried))).toEqual(sorted(totalsBelow(plain)))
        expect(sorted(familyOf(carried).children)).toEqual(sorted(familyOf(plain).children))
        expect(sorted(familyOf(carried).below)).toEqual(sorted(familyOf(plain).below))
      }),
      { numRuns: 200 },
    )
  })
})

describe("a free name", () => {
  const looksFor = async (taken: ReadonlySet<string>) => {
    let looks = 0
    const get = (name: string) => {
      looks++
      return taken.has(name) ? ({} as never) : undefined // only whether there is one is asked
    }
    const name = await freeName({ store: { replica: { get } } as never }, "shop")
    return { name, looks }
  }

  it("is the lowest where nobody was removed, and nobody has it in any case; a few looks find it beside thousands", async () => {
    const first = (count: number) =>
      new Set(Array.from({ length: count }, (_, index) => `shop-${index + 1}`))
    for (const count of [0, 1, 2, 3, 100, 5000]) {
      const { name, looks } = await looksFor(first(count))
      expect(name).toBe(`shop-${count + 1}`)
      expect(looks).toBeLessThanOrEqual(28)
    }
    await fc.assert(
      fc.asyncProperty(
        fc.uniqueArray(fc.integer({ min: 1, max: 300 }), { maxLength: 299 }),
        async (numbers) => {
          const taken = new Set(numbers.map((number) => `shop-${number}`))
          expect(taken.has((await looksFor(taken)).name)).toBe(false)
        },
      ),
    )
  })
})

describe("the pace of looks", () => {
  it("lets a few begin at once, the others in later turns, in their order, and one that is alone without a wait", async () => {
    const turns: (() => void)[] = []
    const begin = createPace({ perTurn: 2, nextTurn: (then) => void turns.push(then) })
    const begun: number[] = []
    const all = Promise.all([0, 1, 2, 3, 4].map((index) => begin().then(() => begun.push(index))))
    const settle = () => new Promise((resolve) => setImmediate(resolve))
    await settle()
    expect(begun).toEqual([0, 1])
    turns.shift()?.()
    await settle()
    expect(begun).toEqual([0, 1, 2, 3])
    turns.shift()?.()
    await all
    turns.shift()?.()
    expect(turns).toEqual([]) // nobody waits: nothing is left to do in later turns
    await begin()
    expect(turns).toHaveLength(1)
  })
})
