import { describe, expect, it } from "vitest"
import { Fault } from "../../src/core/faults.ts"
import { matches, parseSelector, targetsOf } from "../../src/core/selector.ts"
import { anInstance } from "../contract/harness.ts"

const labels = { team: "web", urgent: "", "example.com/tier": "db" }

describe("parseSelector", () => {
  it.each<[string, boolean]>([
    ["team=web", true],
    ["team==web", true],
    ["team=db", false],
    ["team!=db", true],
    ["team!=web", false],
    ["absent!=web", true],
    ["urgent", true],
    ["urgent=", true],
    ["absent", false],
    ["absent=", false],
    ["!absent", true],
    ["!urgent", false],
    ["example.com/tier=db", true],
    ["team=web,urgent", true],
    [" team=web , !absent ", true],
    ["team=web,absent", false],
    ["constructor", false],
    ["!constructor", true],
    ["toString=x", false],
  ])("%s is %s", (selector, expected) => {
    expect(parseSelector(selector)(labels)).toBe(expected)
  })

  it.each([
    "",
    ",",
    "team=web,",
    "=web",
    "team in (web)",
    "team=a=b",
    "team>1",
    "!team=web",
    "a b",
  ])("refuses %j", (selector) => {
    expect(() => parseSelector(selector)).toThrow(
      expect.objectContaining({ name: "Fault", code: "Invalid" }),
    )
  })
})

describe("targetsOf", () => {
  it.each([
    [{ names: ["a", "b"] }, { names: ["a", "b"] }],
    [{ names: ["a"], all: false }, { names: ["a"] }],
    [{ all: true }, {}],
    [{ project: "shop" }, { project: "shop" }],
    [
      { project: "shop", selector: "team=web", all: true },
      { project: "shop", selector: "team=web" },
    ],
  ])("%j", (input, expected) => {
    expect(targetsOf(input)).toEqual(expected)
  })

  it.each([
    {},
    { all: false },
    { names: ["a"], all: true },
    { names: ["a"], selector: "x" },
    { names: ["a"], project: "shop" },
  ])("refuses %j", (input) => {
    expect(() => targetsOf(input)).toThrow(Fault)
  })
})

describe("matches", () => {
  const instance = anInstance("a", {
    spec: { project: "shop", labels, state: "Paused", pause: { when: "now", batch: "b1" } },
  })
  it.each([
    [{}, true],
    [{ project: "shop" }, true],
    [{ project: "mill" }, false],
    [{ selector: "team=web" }, true],
    [{ project: "shop", selector: "team=db" }, false],
    [{ project: "mill", selector: "team=web" }, false],
    [{ batch: "b1" }, true],
    [{ batch: "b2" }, false],
  ])("%j is %s", (targets, expected) => {
    expect(matches(targets)(instance)).toBe(expected)
  })

  it("a batch means those that are still paused", () => {
    const resumed = anInstance("b", { spec: { pause: { when: "now", batch: "b1" } } })
    expect(matches({ batch: "b1" })(resumed)).toBe(false)
  })
})
