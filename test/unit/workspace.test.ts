import { describe, expect, it } from "vitest"
import { specSchema } from "../../src/core/instance.ts"
import { revisionOf } from "../../src/core/revision.ts"
import { ownTree, refSchema, repositorySchema } from "../../src/core/workspace.ts"
import { withoutFences } from "../../src/roles/fence.ts"
import { policySchema } from "../../src/settings/policy.ts"
import { aSpec } from "../contract/harness.ts"
import { agent, type Fleet, makeFleet, operator, type Result } from "./fleet.ts"

describe("ownTree", () => {
  const parent = "p"
  it.each([
    // what is asked for, git, taken, own
    [{}, true, false, false],
    [{}, true, true, true],
    [{}, false, true, false],
    [{ workspace: "shared" }, true, true, false],
    [{ workspace: "worktree" }, true, false, true],
    [{ ref: "v1" }, true, false, true],
    [{ lineage: [parent] }, true, false, true],
    [{ lineage: [parent] }, false, true, false],
    [{ lineage: [parent], workspace: "shared" }, false, true, false],
    [{ repository: "acme/shop" }, true, false, true],
    [{ repository: "acme/shop", lineage: [parent] }, true, false, true],
  ] as const)("%j, git: %s, taken: %s -> %s", (asked, git, taken, own) => {
    expect(ownTree({ workspace: "auto", lineage: [], ...asked }, { git, taken })).toBe(own)
  })

  it.each([
    [{ workspace: "worktree" }, false, /not tracked by git/],
    [{ ref: "v1" }, false, /not tracked/],
    [{ workspace: "shared", ref: "v1" }, true, /ref needs a tree of its own/],
    [{ workspace: "shared", repository: "acme/shop" }, true, /clone/],
    [{ workspace: "shared", lineage: [parent] }, true, /a tree of its own/],
  ] as const)("refuses %j, git: %s", (asked, git, message) => {
    expect(() =>
      ownTree({ workspace: "auto", lineage: [], ...asked }, { git, taken: false }),
    ).toThrow(message)
  })
})

describe("what git is given", () => {
  it.each(["main", "feature/login", "v1.2.3", "0a1b2c3d", "release-2", "@scope/x", "ü"])(
    "takes %j as a ref",
    (ref) => {
      expect(refSchema.safeParse(ref).success).toBe(true)
    },
  )
  it.each([
    ...[
      "",
      "-x",
      "--upload-pack=touch x",
      "@",
      "a..b",
      "a b",
      "a\nb",
      "a\u0000b",
      "a~1",
      "a^",
      "a:b",
      "a?",
      "a*",
      "a[b",
      "a\\b",
    ],
    ...[
      "/a",
      "a/",
      "a//b",
      ".a",
      "a/.b",
      "a.lock",
      "a.lock/b",
      "a.",
      "@{-1}",
      "main@{1}",
      "x".repeat(201),
    ],
  ])("refuses %j as a ref", (ref) => {
    expect(refSchema.safeParse(ref).success).toBe(false)
  })

  it.each(["acme/shop", "a/.github", "Acme-1/My.Repo_2"])(
    "takes %j as a repository",
    (repository) => {
      expect(repositorySchema.safeParse(repository).success).toBe(true)
    },
  )
  it.each([
    "shop",
    "/shop",
    "acme/",
    "acme/..",
    "acme/.",
    "../etc",
    "-a/b",
    "a/-b",
    "a/b/c",
    "https://x/y",
    "a/b.git",
    "a b/c",
    "a/b\n",
  ])("refuses %j as a repository", (repository) => {
    expect(repositorySchema.safeParse(repository).success).toBe(false)
  })

  it.each(["https://github.com/", "ssh://git@host/", "file:///srv/git/"])(
    "takes %j as where repositories are",
    (repositories) => {
      expect(policySchema.safeParse({ repositories }).success).toBe(true)
    },
  )
  it.each(["https://github.com", "ext::sh -c x/", "https://me:secret@host/", "/srv/git/", "--x/"])(
    "refuses %j as where repositories are",
    (repositories) => {
      expect(policySchema.safeParse({ repositories }).success).toBe(false)
    },
  )
})

describe("an instance of an older version", () => {
  const { workspace: _, ...row } = aSpec()

  it("still parses, and its loop goes on", () => {
    const spec = specSchema.parse(JSON.parse(JSON.stringify(row)))
    expect(spec.workspace).toBe("auto")
    // What version 0.1 computed for it: another revision would end and start every loop.
    expect(revisionOf(spec)).toBe("1-95195cf8")
  })
  it("is started anew where another tree is asked for", () => {
    const revisions = [
      {},
      { workspace: "worktree" },
      { repository: "acme/shop" },
      { ref: "v1" },
      { codeRoot: "/code" },
    ].map((more) => revisionOf(specSchema.parse({ ...row, ...more })))
    expect(new Set(revisions).size).toBe(5)
  })
})

describe("spawn_instance and trees", () => {
  it("says where the instance will work, and who else does", async () => {
    const fleet = makeFleet()
    const spawn = (input: object): Promise<Result> =>
      fleet.call(operator)("spawn_instance", input).then(withoutFences)
    expect(await spawn({})).toMatchObject({ workspace: { untrusted: { path: "/code/shop" } } })
    expect((await spawn({ dryRun: true })).workspace).toEqual({
      untrusted: { branch: "ralf/shop-2" },
    })
    expect((await spawn({})).workspace).toEqual({
      untrusted: { branch: "ralf/shop-2", path: "/trees/shop-2" },
    })
    expect(await spawn({ workspace: "shared" })).toMatchObject({
      workspace: { untrusted: { path: "/code/shop" } },
      why: expect.stringContaining("It shares its work tree with shop-1, shop-2."),
    })
  })

  it("names the project of a repository after it", async () => {
    const fleet = makeFleet()
    const made = await fleet.call(operator)("spawn_instance", {
      repository: "acme/My.Tool",
      ref: "v1",
    })
    expect(withoutFences(made)).toMatchObject({
      name: "my-tool-1",
      workspace: { untrusted: { branch: "ralf/my-tool-1" } },
    })
    expect(fleet.specOf("my-tool-1")).toMatchObject({
      project: "My.Tool",
      repository: "acme/My.Tool",
      ref: "v1",
    })
  })

  it("lets a child go on with its parent's project and repository, in a tree of its own, whatever it says of a code root", async () => {
    const fleet = makeFleet()
    fleet.world.projects = ["shop", "blog"]
    const parent = fleet.running("parent", {
      project: "tool",
      repository: "acme/tool",
      codeRoot: "/code",
    })
    const spawn = fleet.call(agent(parent))
    const child = await spawn("spawn_instance", {})
    expect(fleet.specOf(child.name)).toMatchObject({
      project: "tool",
      repository: "acme/tool",
      codeRoot: "/code",
    })
    expect(withoutFences(child).workspace).toMatchObject({
      untrusted: { branch: `ralf/${child.name}` },
    })
  })
})

describe("stop_instances with remove", () => {
  const path = "/trees/x"
  it.each([
    [{ own: true, branch: "ralf/x", commits: 0, dirty: false }, /(ending|removed)\.$/, undefined],
    [
      { own: true, branch: "ralf/x", commits: 1, dirty: false },
      /Its 1 commit is kept on its branch\.$/,
      "branch ralf/x",
    ],
    [
      { own: true, branch: "ralf/x", commits: 2, dirty: true },
      /Its tree has uncommitted work, .* kept, with its branch\.$/,
      "tree /trees/x, branch ralf/x",
    ],
    [
      { own: true, commits: 0, dirty: true },
      /Its tree has uncommitted work, so it is kept\.$/,
      "tree /trees/x",
    ],
    [{ own: false, branch: "main", commits: 9, dirty: true }, /(ending|removed)\.$/, undefined],
  ])("says what is kept of %j", async (work, words, said) => {
    const fleet = makeFleet()
    fleet.running("x", {}, { work: { path, ...work } })
    const { branch, ...ours } = { branch: undefined, ...work }
    expect(
      withoutFences(await fleet.call(operator)("inspect_instance", { name: "x" })).work,
    ).toEqual({
      ...ours,
      untrusted: { path, ...(branch !== undefined && { branch }) },
    })
    const dry = withoutFences(
      await fleet.call(operator)("stop_instances", { names: ["x"], remove: true, dryRun: true }),
    )
    expect(dry).toMatchObject({
      instances: [
        { why: expect.stringMatching(words), ...(said !== undefined && { untrusted: said }) },
      ],
    })
    expect(dry).toMatchObject({
      instances: [{ why: expect.stringMatching(/^Would be removed\./) }],
    })
    // Nothing ends here: the answer comes when its time is over, and says so.
    const answer = fleet.call(operator)("stop_instances", { names: ["x"], remove: true })
    const { instances, next } = await passing(fleet, answer)
    expect(instances[0].why).toMatch(words)
    expect(instances[0].why).toMatch(/^It is being removed; its processes are ending\./)
    if (work.own) expect(next).toMatch(/still ending: read_events/)
    else expect(next).not.toMatch(/still ending/)
  })

  it("answers with what was really kept, once it has ended", async () => {
    const fleet = makeFleet()
    const { uid } = fleet.running(
      "x",
      {},
      { work: { path, own: true, branch: "ralf/x", commits: 0, dirty: false } },
    )
    const answer = fleet.call(operator)("stop_instances", { names: ["x"], remove: true })
    while (fleet.byName.get("x")?.deletedAtMs === undefined) await turn()
    const kept = "Kept: its tree /trees/x: it holds work that is not committed (new.md)."
    const message = `x was removed. ${kept}`
    await fleet.memory.timeline.append({
      id: "removed-x",
      uid,
      kind: "Removed",
      message,
      atMs: fleet.clock.nowMs(),
    })
    fleet.byName.delete("x")
    expect(withoutFences(await passing(fleet, answer)).instances).toEqual([
      {
        ...{
          name: "x",
          changed: true,
          phase: "Removed",
          why: "x was removed. Work that exists nowhere else was kept.",
        },
        untrusted: kept,
      },
    ])
  })
})

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))
/** An answer that waits for time to pass. */
async function passing(fleet: Fleet, answer: Promise<Result>): Promise<Result> {
  let isOver = false
  void answer.finally(() => {
    isOver = true
  })
  while (!isOver) {
    fleet.clock.advance(1000)
    await turn()
  }
  return answer
}
