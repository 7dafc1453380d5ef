import { describe, expect, it } from "vitest"
import { reached, totalsBelow } from "../../src/core/budget.ts"
import type { Budget, Uid } from "../../src/core/instance.ts"
import { noUsage, type Usage } from "../../src/core/link.ts"
import type { Spent } from "../../src/core/ports.ts"
import { uid } from "../contract/harness.ts"

const used = (more: Partial<Usage>): Usage => ({ ...noUsage, ...more })
const spentOf = (entries: Record<string, [lineage: string[], Usage]>): Map<Uid, Spent> =>
  new Map(Object.entries(entries).map(([of, [lineage, usage]]) => [uid(of), { lineage: lineage.map(uid), used: usage }]))

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
    expect(reached(budget, usage)).toBe(expected)
  })
})

describe("exceeded", () => {
  it("is more than all of it, so that all of it may be used", () => {
    expect(reached({ usd: 1 }, used({ usd: 1 }), "exceeded")).toBeUndefined()
    expect(reached({ usd: 0.3 }, used({ usd: 0.1 + 0.2 }), "exceeded")).toBeUndefined() // the noise of adding floats
    expect(reached({ usd: 1 }, used({ usd: 1.01 }), "exceeded")).toBe("$1.01 of $1 are spent")
  })
})
