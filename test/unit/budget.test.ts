import fc from "fast-check"
import { describe, expect, it } from "vitest"
import { dollarsOf, exceededLimit } from "../../src/core/budget.ts"
import type { Budget, Uid } from "../../src/core/instance.ts"
import type { Account } from "../../src/core/ports.ts"
import { totalsBelow } from "../../src/core/spending.ts"
import { noUsage, type Usage } from "../../src/core/usage.ts"
import { aBirth, uid } from "../contract/harness.ts"

const used = (more: Partial<Usage>): Usage => ({ ...noUsage, ...more })
const spentOf = (entries: Record<string, [lineage: string[], Usage]>): Map<Uid, Account> =>
  new Map(
    Object.entries(entries).map(([of, [lineage, usage]]) => [
      uid(of),
      { birth: aBirth(of, { lineage: lineage.map(uid) }), used: usage },
    ]),
  )

describe("totalsBelow", () => {
  const spent = spentOf({
    "u-root": [[], used({ usd: 1, tokens: 10 })],
    "u-child": [["u-root"], used({ usd: 2, iterations: 3 })],
    "u-grandchild": [["u-root", "u-child"], used({ usd: 4, ms: 5 })],
    "u-other": [[], used({ usd: 8 })],
  })
  it.each([
    ["u-root", { usd: 7, tokens: 10, iterations: 3, ms: 5 }],
    ["u-child", { usd: 6, tokens: 0, iterations: 3, ms: 5 }],
    ["u-grandchild", { usd: 4, tokens: 0, iterations: 0, ms: 5 }],
    ["u-unknown", undefined],
  ])("%s", (of, expected) => {
    expect(totalsBelow(spent).get(uid(of))).toEqual(expected)
  })
})

describe("reached", () => {
  it.each<[Budget, Usage, string | undefined]>([
    [{}, used({ usd: 1e6, tokens: 1e9, iterations: 1e6, ms: 1e12 }), undefined],
    [{ usd: 5 }, used({ usd: 4.999 }), undefined],
    [{ usd: 5 }, used({ usd: 5 }), "$5.00 of $5 are spent"],
    [{ tokens: 100 }, used({ tokens: 99 }), undefined],
    [{ tokens: 100 }, used({ tokens: 100 }), "100 of 100 tokens are used"],
    [{ iterations: 3 }, used({ iterations: 2 }), undefined],
    [{ iterations: 3 }, used({ iterations: 3 }), "3 of 3 iterations are done"],
    [{ hours: 0.5 }, used({ ms: 1_799_999 }), undefined],
    [{ hours: 0.5 }, used({ ms: 1_800_000 }), "0.5 of 0.5 hours are used"],
    [{ usd: 5, tokens: 100 }, used({ tokens: 100 }), "100 of 100 tokens are used"],
  ])("%j, used %j", (budget, usage, expected) => {
    expect(exceededLimit(budget, usage)).toBe(expected)
  })
})

describe("amounts", () => {
  it.each<[Budget, Usage, string]>([
    [{ hours: 0.01 }, used({ ms: 36_000 }), "0.01 of 0.01 hours are used"],
    [{ hours: 0.01 }, used({ ms: 37_000 }), "0.0103 of 0.01 hours are used"],
    [{ usd: 0.008 }, used({ usd: 0.0134 }), "$0.013 of $0.008 are spent"],
    [{ usd: 5 }, used({ usd: 5.000_000_1 }), "$5.0000001 of $5 are spent"],
    [{ usd: 5e-7 }, used({ usd: 0.25 }), "$0.2500000 of $0.0000005 are spent"],
  ])("%j, used %j", (budget, usage, words) => {
    expect(exceededLimit(budget, usage)).toBe(words)
  })
  it.each<[number, number | undefined, string]>([
    [0, 5, "$0.00 of $5"],
    [0.0013, 5, "$0.001 of $5"],
    [4.999, 5, "$4.999 of $5"],
    [0.5, undefined, "$0.50"],
  ])("%s of %s: %s", (usd, limit, words) => {
    expect(dollarsOf(usd, limit)).toBe(words)
  })

  it("say on which side of its limit what is used is, and never that something is nothing", () => {
    const cents = fc.integer({ min: 1, max: 1_000_000_000 }).map((millionths) => millionths / 1e6)
    fc.assert(
      fc.property(cents, cents, fc.constantFrom(0, 1e-6, -1e-6), (limit, other, near) => {
        for (const value of [other, Math.max(1e-6, limit + near)]) {
          const [, shown = "", of = ""] =
            /^\$([\d.]+) of \$([\d.]+)$/.exec(dollarsOf(value, limit)) ?? []
          expect(Number(of)).toBe(limit)
          expect(Number(shown)).toBeGreaterThan(0)
          const difference = Math.abs(value - limit) < 1e-9 ? 0 : Math.sign(value - limit)
          expect(Math.sign(Number(shown) - Number(of))).toBe(difference)
        }
      }),
    )
    fc.assert(
      fc.property(cents, fc.nat(1_000_000), (hours, moreMs) => {
        const words =
          exceededLimit({ hours }, used({ ms: Math.ceil(hours * 3_600_000) + moreMs })) ?? ""
        const [, shown, of] = /^([\d.]+) of ([\d.]+) hours are used$/.exec(words) ?? []
        expect(Number(of)).toBe(hours)
        expect(Number(shown)).toBeGreaterThanOrEqual(hours)
      }),
    )
  })
})

describe("exceeded", () => {
  it("is more than all of it, so that all of it may be used", () => {
    expect(exceededLimit({ usd: 1 }, used({ usd: 1 }), "exceeded")).toBeUndefined()
    // The noise of adding floats.
    expect(exceededLimit({ usd: 0.3 }, used({ usd: 0.1 + 0.2 }), "exceeded")).toBeUndefined()
    expect(exceededLimit({ usd: 1 }, used({ usd: 1.01 }), "exceeded")).toBe("$1.01 of $1 are spent")
  })
})
