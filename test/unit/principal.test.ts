import { describe, expect, it } from "vitest"
import { may, nameOf, type Principal, type Verb } from "../../src/core/principal.ts"
import { anInstance, uid } from "../contract/harness.ts"

const verbs: readonly Verb[] = ["outline", "see", "operate", "spawn", "message", "administer"]
const lineage = (...of: string[]) => ({ spec: { lineage: of.map((name) => uid(`u-${name}`)) } })

// root - parent - me - child - grandchild; parent - sibling; root2 - stranger
const instances = {
  root: anInstance("root"),
  parent: anInstance("parent", lineage("root")),
  me: anInstance("me", lineage("root", "parent")),
  sibling: anInstance("sibling", lineage("root", "parent")),
  child: anInstance("child", lineage("root", "parent", "me")),
  grandchild: anInstance("grandchild", lineage("root", "parent", "me", "child")),
  root2: anInstance("root2"),
  stranger: anInstance("stranger", lineage("root2")),
}
const me: Principal = {
  kind: "instance",
  id: "me",
  uid: instances.me.uid,
  lineage: instances.me.spec.lineage,
}
const allowedTo = (who: Principal, target?: keyof typeof instances): Verb[] =>
  verbs.filter((verb) => may(who, verb, target && instances[target]) === true)

describe("may: people", () => {
  it.each<["viewer" | "operator" | "admin", Verb[]]>([
    ["viewer", ["outline", "see"]],
    ["operator", ["outline", "see", "operate", "spawn", "message"]],
    ["admin", ["outline", "see", "operate", "spawn", "message", "administer"]],
  ])("a %s may %j, with a target and without", (role, expected) => {
    const who: Principal = { kind: "human", id: "anna", role }
    expect(allowedTo(who)).toEqual(expected)
    expect(allowedTo(who, "stranger")).toEqual(expected)
  })
})

describe("may: instances", () => {
  it.each<[keyof typeof instances, Verb[]]>([
    ["me", ["outline", "see", "message"]],
    ["child", ["outline", "see", "operate", "spawn", "message"]],
    ["grandchild", ["outline", "see", "operate", "spawn", "message"]],
    ["sibling", ["outline", "message"]],
    ["parent", ["outline", "message"]],
    ["root", ["outline", "message"]],
    ["root2", []],
    ["stranger", []],
  ])("%s: it may %j", (target, expected) => {
    expect(allowedTo(me, target)).toEqual(expected)
  })

  it("the first of a tree operates all below it and nothing else", () => {
    const { uid: own, spec } = instances.root
    const root: Principal = { kind: "instance", id: "root", uid: own, lineage: spec.lineage }
    expect(allowedTo(root, "grandchild")).toContain("operate")
    expect(allowedTo(root, "root")).not.toContain("operate")
    expect(allowedTo(root, "stranger")).toEqual([])
  })

  it("without a target may do all but administer", () => {
    expect(allowedTo(me)).toEqual(["outline", "see", "operate", "spawn", "message"])
  })

  it("a name used again is a stranger: the uid counts", () => {
    const again = {
      ...instances.child,
      uid: uid("new"),
      spec: { ...instances.child.spec, lineage: [] },
    }
    expect(verbs.filter((verb) => may(me, verb, again) === true)).toEqual([])
  })
})

it("every refusal says why", () => {
  const viewer: Principal = { kind: "human", id: "anna", role: "viewer" }
  for (const verdict of [
    may(viewer, "operate"),
    may(me, "administer"),
    may(me, "see", instances.root),
    may(me, "operate", instances.me),
  ])
    expect(verdict).toMatchObject({
      reason: expect.stringMatching(/\w/),
      message: expect.stringMatching(/\w.*\.$/),
    })
})

it("names who it is", () => {
  expect(nameOf(me)).toBe("instance me")
  expect(nameOf({ kind: "human", id: "anna", role: "admin" })).toBe("operator anna")
})
