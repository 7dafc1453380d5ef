import { describe, expect, it } from "vitest"
import { indexOf } from "../../src/core/fleet-index.ts"
import { holds } from "../../src/core/holds.ts"
import type { Admission, Instance, Spec, Uid } from "../../src/core/instance.ts"
import {
  budgetReached,
  childLimit,
  childrenWithin,
  committed,
  lineageHold,
  type Relations,
} from "../../src/core/lineage.ts"
import { plan } from "../../src/core/plan.ts"
import type { Account } from "../../src/core/ports.ts"
import { familyOf, totalsBelow } from "../../src/core/spending.ts"
import { noUsage } from "../../src/core/usage.ts"
import { aBirth, anInstance, aRun, startMs, uid } from "../contract/harness.ts"

/**
 * A family: each with its parent, its spec, and what it used, in the order of birth. Removed ones
 * are known by what they used.
 */
interface Member {
  readonly of?: string
  readonly spec?: Partial<Spec>
  readonly usd?: number
  readonly removed?: boolean
  readonly live?: boolean
  readonly failed?: boolean
  /** Its account is not open yet. */
  readonly unborn?: boolean
}
const admitted: Admission = {
  verdict: "Admitted",
  reason: "Admitted",
  message: "Admitted.",
  term: 1,
}
function family(members: Readonly<Record<string, Member>>) {
  const lineageOf = (name: string): Uid[] => {
    const parent = members[name]?.of
    return parent === undefined ? [] : [...lineageOf(parent), uid(`u-${parent}`)]
  }
  const spent = new Map<Uid, Account>()
  const all: Instance[] = []
  for (const [at, [name, { spec = {}, usd = 0, removed, live, failed, unborn }]] of Object.entries(
    members,
  ).entries()) {
    const lineage = lineageOf(name)
    const birth = aBirth(name, { bornAtMs: at, rank: at + 1, lineage })
    if (!unborn) spent.set(uid(`u-${name}`), { birth, used: { ...noUsage, usd } })
    const run = failed
      ? { run: aRun({ phase: "Exited", lastExit: { code: 1, atMs: 1, outcome: "Failed" } }) }
      : live
        ? { run: aRun(), admission: admitted }
        : {}
    if (!removed)
      all.push(anInstance(name, { createdAtMs: at, spec: { ...spec, lineage }, status: run }))
  }
  const byUid = new Map(all.map((one) => [one.uid, one]))
  const relations: Relations = { byUid, spent, totals: totalsBelow(spent), family: familyOf(spent) }
  const get = (name: string): Instance => {
    const found = byUid.get(uid(`u-${name}`))
    if (!found) throw new Error(`no ${name}`)
    return found
  }
  const verdicts = (instancesMax = 100): Record<string, string> => {
    const snapshot = {
      policy: { instancesMax, turnsMax: 9 },
      fleet: indexOf(all),
      beats: new Map(),
      turns: new Map(),
      spent,
      waits: new Map(),
    }
    const { admit } = plan(
      { ...snapshot, windows: () => ({ open: true, untilMs: 0 }) },
      holds,
      startMs,
    )
    return Object.fromEntries(admit.map(({ instance, value }) => [instance.name, value.reason]))
  }
  return { relations, get, verdicts }
}

describe("an instance whose account is not open yet", () => {
  const root = { spec: { budget: { usd: 10 }, children: { depth: 1, total: 2, running: 9 } } }

  it("comes after all of its family who have one", () => {
    const { relations, get } = family({
      late: { of: "root", unborn: true },
      root,
      one: { of: "root" },
      two: { of: "root" },
    })
    expect(lineageHold(get("late"), relations)?.reason).toBe("ChildLimit")
    expect(lineageHold(get("two"), relations)).toBeUndefined()
  })

  it("may have what was set aside for none of them", () => {
    const { relations, get } = family({
      root,
      one: { of: "root", spec: { budget: { usd: 6 } } },
      late: { of: "root", spec: { budget: { usd: 5 } }, unborn: true },
    })
    expect(lineageHold(get("late"), relations)?.reason).toBe("BudgetReached")
    expect(lineageHold(get("one"), relations)).toBeUndefined()
  })
})

describe("a budget", () => {
  it("sets aside what its children were given: the parent may use the rest alone", () => {
    const { relations, get } = family({
      root: { spec: { budget: { usd: 10 } }, usd: 3 },
      one: { of: "root", spec: { budget: { usd: 4 } }, usd: 1 },
      two: { of: "root", spec: { budget: { usd: 2 } } },
    })
    expect(committed(get("root").uid, relations).usd).toBe(9)
    expect(budgetReached(get("root"), relations)).toBeUndefined()
    const more = family({
      root: { spec: { budget: { usd: 10 } }, usd: 4 },
      one: { of: "root", spec: { budget: { usd: 4 } }, usd: 1 },
      two: { of: "root", spec: { budget: { usd: 2 } } },
    })
    expect(budgetReached(more.get("root"), more.relations)).toBe("$10.00 of $10 are spent")
    // Its children go on with what was set aside for them.
    expect(budgetReached(more.get("one"), more.relations)).toBeUndefined()
    expect(more.verdicts()).toEqual({ root: "BudgetReached", one: "Admitted", two: "Admitted" })
  })

  it.each<[string, Member]>([
    ["removed", { removed: true }],
    ["stopped", { spec: { state: "Stopped" } }],
    ["through", { failed: true }],
  ])(
    "gets back what a child that was %s has not used, and nothing of what it used",
    (_name, member) => {
      const { relations, get } = family({
        root: { spec: { budget: { usd: 10 } } },
        child: { of: "root", usd: 4, ...member, spec: { budget: { usd: 9 }, ...member.spec } },
      })
      expect(committed(get("root").uid, relations).usd).toBe(4)
    },
  )

  it("holds the child that was promised more than there is: the youngest", () => {
    const { relations, get, verdicts } = family({
      root: { spec: { budget: { usd: 10 } } },
      first: { of: "root", spec: { budget: { usd: 6 } } },
      second: { of: "root", spec: { budget: { usd: 4 } } },
      third: { of: "root", spec: { budget: { usd: 1 } } },
    })
    expect(verdicts()).toMatchObject({
      first: "Admitted",
      second: "Admitted",
      third: "BudgetReached",
    })
    expect(lineageHold(get("third"), relations)?.message).toBe(
      "Of its parent root, nothing is left for it: $11.00 of $10 are spent.",
    )
  })

  it("is not got around by spawning, spending and removing in a circle", () => {
    const { verdicts } = family({
      root: { spec: { budget: { usd: 10 } } },
      gone1: { of: "root", usd: 4, removed: true },
      gone2: { of: "root", usd: 4, removed: true },
      again: { of: "root", spec: { budget: { usd: 4 } } },
    })
    expect(verdicts().again).toBe("BudgetReached")
  })

  it("counts what all descendants of its children used", () => {
    const { get, relations } = family({
      root: { spec: { budget: { usd: 5 } } },
      child: { of: "root", spec: { budget: { usd: 3 } }, usd: 1 },
      grandchild: { of: "child", spec: { budget: { usd: 3 } }, usd: 4 },
    })
    expect(budgetReached(get("root"), relations)).toBe("$5.00 of $5 are spent")
    expect(budgetReached(get("child"), relations)).toBe("$5.00 of $3 are spent")
    expect(budgetReached(get("grandchild"), relations)).toBe("$4.00 of $3 are spent")
  })
})

describe("levels and births", () => {
  const limits = (depth: number, total = 100) => ({ children: { depth, total, running: 50 } })
  it("holds who is on a level too deep, of any ancestor", () => {
    const { verdicts } = family({
      root: { spec: limits(1) },
      child: { of: "root", spec: limits(5) },
      grandchild: { of: "child" },
    })
    expect(verdicts()).toEqual({ root: "Admitted", child: "Admitted", grandchild: "ChildLimit" })
  })

  it("counts births in the whole life, removed ones too, and holds the youngest", () => {
    const { verdicts, relations, get } = family({
      root: { spec: limits(3, 3) },
      gone: { of: "root", removed: true },
      child: { of: "root" },
      grandchild: { of: "child" },
      late: { of: "root" },
    })
    expect(verdicts()).toMatchObject({
      child: "Admitted",
      grandchild: "Admitted",
      late: "ChildLimit",
    })
    expect(childLimit([get("root").uid], undefined, relations)).toMatch(
      /may have 3 descendants in its life/,
    )
  })

  it("gives a child less than its parent has", () => {
    expect(
      childrenWithin({ depth: 2, total: 20, running: 4 }, { depth: 9, total: 5, running: 9 }),
    ).toEqual({
      ...{ depth: 1, total: 5, running: 4 },
    })
    expect(
      childrenWithin({ depth: 0, total: 0, running: 0 }, { depth: 1, total: 1, running: 1 }),
    ).toEqual({
      ...{ depth: 0, total: 0, running: 0 },
    })
  })
})

describe("places of descendants", () => {
  const two = { children: { depth: 3, total: 100, running: 2 } }
  it("are limited for each ancestor; who finds none is queued, the oldest first", () => {
    const { verdicts } = family({
      root: { spec: two },
      a: { of: "root", live: true },
      b: { of: "root" },
      c: { of: "root" },
      d: { of: "a" },
      other: {},
    })
    expect(verdicts()).toEqual({
      root: "Admitted",
      b: "Admitted",
      c: "ChildrenFull",
      d: "ChildrenFull",
      other: "Admitted",
    })
  })
})

describe("who was spawned by somebody that is gone", () => {
  it.each<[string, Member]>([
    ["removed", { removed: true }],
    ["stopped", { spec: { state: "Stopped" } }],
    ["failed", { failed: true }],
  ])("is held with all below it when that one was %s", (_name, member) => {
    const { verdicts } = family({
      root: member,
      child: { of: "root" },
      grandchild: { of: "child" },
    })
    expect(verdicts()).toMatchObject({ child: "ParentStopped", grandchild: "ParentStopped" })
  })
})
