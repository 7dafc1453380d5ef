import { describe, expect, it } from "vitest"
import { budgetReached, reached, totalsBelow } from "../../src/core/budget.ts"
import type { Budget, Uid } from "../../src/core/instance.ts"
import { noUsage, type Usage } from "../../src/core/link.ts"
import type { Spent } from "../../src/core/ports.ts"
import { anInstance, uid } from "../contract/harness.ts"

const used = (more: Partial<Usage>): Usage => ({ ...noUsage, ...more })
const spentOf = (entries: Record<string, [lineage: string[], Usage]>): Map<Uid, Spent> =>
  new Map(Object.entries(entries).map(([of, [lineage, usage]]) => [uid(of), { lineage: lineage.map(uid), used: usage }]))

const totalsOf = (entries: Parameters<typeof spentOf>[0]) => totalsBelow(spentOf(entries))

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

describe("budgetReached", () => {
  const root = anInstance("root", { spec: { budget: { usd: 5 } } })
  const child = anInstance("child", { spec: { budget: { usd: 3 }, lineage: [root.uid] } })
  const sibling = anInstance("sibling", { spec: { lineage: [root.uid] } })
  const byUid = new Map([root, child, sibling].map((one) => [one.uid, one]))
  const words = (of: typeof root, usd: { root?: number; child?: number; sibling?: number }) =>
    budgetReached(
      of,
      byUid,
      totalsOf({
        "u-root": [[], used({ usd: usd.root ?? 0 })],
        "u-child": [["u-root"], used({ usd: usd.child ?? 0 })],
        "u-sibling": [["u-root"], used({ usd: usd.sibling ?? 0 })],
      }),
    )

  it("counts what its descendants spent, those that were removed too", () => {
    expect(words(root, { root: 1, child: 2, sibling: 1.9 })).toBeUndefined()
    expect(words(root, { root: 1, child: 2, sibling: 2 })).toBe("$5.00 of $5 are spent")
    const removed = totalsOf({ "u-removed": [["u-root"], used({ usd: 5 })] })
    expect(budgetReached(root, byUid, removed)).toBe("$5.00 of $5 are spent")
  })

  it("holds a child at its own limit, its parent not yet", () => {
    expect(words(child, { child: 3 })).toBe("$3.00 of $3 are spent")
    expect(words(root, { child: 3 })).toBeUndefined()
    expect(words(sibling, { child: 3 })).toBeUndefined()
  })

  it("holds a child when its ancestor's budget is reached by another", () => {
    expect(words(sibling, { root: 5 })).toBe("of its ancestor root, $5.00 of $5 are spent")
    expect(words(child, { sibling: 5 })).toBe("of its ancestor root, $5.00 of $5 are spent")
  })
})
