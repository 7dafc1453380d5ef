import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  realpathSync,
  rmSync,
  writeFileSync,
} from "node:fs"
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterEach, beforeEach, describe, expect, it } from "vitest"
import { createCodeRoots } from "../../src/adapters/local/code-roots.ts"
import { createKeptTrees } from "../../src/adapters/local/kept-trees.ts"
import { createTrees, type Trees } from "../../src/adapters/local/trees.ts"
import { fetchClone } from "../../src/agent/clone.ts"
import { createWorkspace } from "../../src/agent/workspace.ts"
import type { Spec } from "../../src/core/instance.ts"
import { runGit } from "../../src/host/git.ts"
import { writeLasting } from "../../src/run/lasting-files.ts"
import { runDirectory } from "../../src/run/run-directory.ts"
import { createRunDirectory, instanceDirectory } from "../../src/run/runs.ts"
import type { TreeFile } from "../../src/run/tree-file.ts"
import { aSpec, uid } from "../contract/harness.ts"
import { git, makeCodeRoot } from "../e2e/code-root.ts"

/**
 * Work trees with the real git, without loops: who gets which, and that none is taken away with
 * work in it.
 */

let directory: string
let shop: string
let trees: Trees
const state = (): string => join(directory, "state")
const open = (): Trees => {
  const options = { loops: () => ({}), claude: () => process.execPath, builtIn: ["loop"] }
  const codeRoots = createCodeRoots({
    ...options,
    stateDirectory: state(),
    first: join(directory, "code"),
  })
  const kept = createKeptTrees({ stateDirectory: state(), trusted: () => ({}), nowMs: () => 0 })
  return createTrees({
    stateDirectory: state(),
    codeRoots,
    repositories: () => "file:///nowhere/",
    trusted: () => ({}),
    kept,
  })
}
beforeEach(() => {
  directory = realpathSync(mkdtempSync(join(tmpdir(), "bb5-trees-")))
  mkdirSync(state())
  makeCodeRoot(join(directory, "code"), ["shop"])
  shop = join(directory, "code/5-project-memory/shop")
  trees = open()
})
afterEach(() => rmSync(directory, { recursive: true, force: true }))

const settle = (name: string, spec: Partial<Spec> = {}): Promise<TreeFile> =>
  trees.settle({ name, uid: uid(name), spec: aSpec(spec) })
const place = "000000001-x"
/** A start, as far as the tree goes: what supervise does before the loop. */
async function start(name: string, spec: Partial<Spec> = {}): Promise<TreeFile> {
  const tree = await settle(name, spec)
  const workspace = createWorkspace({
    run: { tree, name },
    directory: join(instanceDirectory(state(), name), place),
    nowMs: () => 0,
    changed: () => {},
    warn: () => {},
  })
  expect(await workspace.prepare()).toBeUndefined()
  return tree
}
/** Its run is over, by the loop's own word. */
function complete(name: string, tree: TreeFile): void {
  const run = createRunDirectory(state(), {
    ...{
      name,
      uid: uid(name),
      place,
      revision: "1-0",
      startedAtMs: 1,
      mode: "once",
      iterationsBefore: 0,
      isolation: "process tree",
    },
    ...{ command: ["-"], directory: "-", claude: "-", socketPath: "-", credential: "-", tree },
  })
  run.set("exit", { exit: { code: 0, atMs: 2, outcome: "Complete" } })
}
const branches = (): string[] =>
  git(shop, "branch", "--format=%(refname:short)").split("\n").toSorted()
const clean = (name: string): Promise<string | undefined> => trees.clean({ name, uid: uid(name) })

describe("who gets which tree", () => {
  it("the first the person's, also for the next serve; others their own, until it is removed or complete", async () => {
    expect(await settle("a")).toMatchObject({ own: false, path: shop })
    expect(await settle("b")).toMatchObject({ own: true, branch: "ralf/b" })
    expect(await settle("a")).toMatchObject({ own: false })
    trees = open()
    expect(await settle("c")).toMatchObject({ own: true })
    for (const name of ["a", "b", "c"]) {
      await clean(name)
      rmSync(instanceDirectory(state(), name), { recursive: true })
    }
    const d = await settle("d")
    expect(d.own).toBe(false)
    complete("d", d)
    expect(await settle("e")).toMatchObject({ own: false })
    // Started afresh, it finds somebody else in the tree that it gave up.
    expect(await settle("d")).toMatchObject({ own: true, branch: "ralf/d" })
    expect(await settle("e", { workspace: "shared" })).toMatchObject({ own: false })
  })

  it("foretells what will be, knowing those that were asked for before", async () => {
    const told = async (...before: string[]) => {
      const others = before.map((name) => ({ name, uid: uid(name), spec: aSpec() }))
      const { at, sharedWith } = await trees.foresee(aSpec(), others)
      return { ...at("x", uid("12345678-9")), sharedWith }
    }
    expect(await told()).toEqual({ path: shop, sharedWith: [] })
    const own = { path: join(state(), "trees/x-12345678"), branch: "ralf/x", sharedWith: [] }
    expect(await told("a")).toEqual(own)
    await settle("a")
    expect(await told()).toEqual(own)
    const shared = await trees.foresee(aSpec({ workspace: "shared" }), [])
    expect(shared.sharedWith).toEqual(["a"])
  })

  it("one of two that are started at the same moment", async () => {
    const both = await Promise.all([settle("a"), settle("b"), settle("c")])
    expect(both.filter(({ own }) => !own)).toHaveLength(1)
  })

  it("a child begins where its parent is", async () => {
    const parent = await start("a", { workspace: "worktree" })
    writeFileSync(join(parent.path, "new.md"), "new\n")
    git(parent.path, "add", "new.md")
    git(parent.path, "commit", "-q", "-m", "New")
    const child = await start("b", { lineage: [uid("a")] })
    expect(existsSync(join(child.path, "new.md"))).toBe(true)
  })

  it("what an older version started still has the person's tree", async () => {
    const run = createRunDirectory(state(), {
      ...{
        name: "old",
        uid: uid("old"),
        place,
        revision: "1-0",
        startedAtMs: 1,
        mode: "once",
        iterationsBefore: 0,
      },
      ...{
        command: ["bash", "ralf-loop.sh", "5-project-memory/shop"],
        directory: join(directory, "code"),
      },
      ...{ claude: "-", socketPath: "-", credential: "-", isolation: "process tree" },
    })
    expect(runDirectory(run.path).get("run")?.name).toBe("old")
    trees = open()
    expect(await settle("new")).toMatchObject({ own: true })
    expect(await settle("old")).toMatchObject({ own: false, project: shop })
  })
})

describe("what a removal keeps", () => {
  it("nothing where nothing was done, not even what the loop itself wrote", async () => {
    const { path } = await start("a", { workspace: "worktree" })
    mkdirSync(join(path, ".autonomous/LOGS"), { recursive: true })
    writeFileSync(join(path, ".autonomous/LOGS/ralf-session-1.log"), "log\n")
    rmSync(join(path, ".gitignore"))
    git(path, "checkout", "-q", ".gitignore")
    expect(await clean("a")).toBeUndefined()
    expect(branches()).toEqual(["main"])
    expect(readdirSync(join(state(), "trees"))).toEqual([])
    expect(git(shop, "worktree", "list").split("\n")).toHaveLength(1)
  })

  it.each<[string, (path: string) => void, RegExp, string[]]>([
    [
      "an untracked file",
      (path) => writeFileSync(join(path, "x"), "x"),
      /not committed/,
      ["main", "ralf/a"],
    ],
    [
      "a changed file",
      (path) => writeFileSync(join(path, "README.md"), "x"),
      /not committed/,
      ["main", "ralf/a"],
    ],
    [
      "a deleted file",
      (path) => rmSync(join(path, "README.md")),
      /not committed/,
      ["main", "ralf/a"],
    ],
    [
      "something staged",
      (path) => {
        writeFileSync(join(path, "x"), "x")
        git(path, "add", "x")
        rmSync(join(path, "x"))
      },
      /not committed/,
      ["main", "ralf/a"],
    ],
    [
      "commits on no branch",
      (path) => {
        git(path, "checkout", "-q", "--detach")
        git(path, "commit", "-q", "--allow-empty", "-m", "Alone")
      },
      /on no branch/,
      ["main", "ralf/a"],
    ],
    [
      "a tree that is none any more",
      (path) => rmSync(join(path, ".git")),
      /no longer a work tree of its repository/,
      ["main", "ralf/a"],
    ],
    [
      "a submodule that was committed to",
      (path) => {
        git(path, "-c", "protocol.file.allow=always", "submodule", "add", "-q", shop, "sub")
        git(join(path, "sub"), "commit", "-q", "--allow-empty", "-m", "Only here")
        git(path, "commit", "-q", "-a", "-m", "Sub")
      },
      /a submodule of it has 1 commit that no remote has/,
      ["main", "ralf/a"],
    ],
    [
      "a locked tree",
      (path) => git(path, "worktree", "lock", path),
      /it is locked/,
      ["main", "ralf/a"],
    ],
  ])("the tree: %s", async (_, act, words, left) => {
    const { path } = await start("a", { workspace: "worktree" })
    act(path)
    expect(await clean("a")).toMatch(words)
    expect(existsSync(path)).toBe(true)
    expect(branches()).toEqual(left)
  })

  it.each<[string, (path: string) => void, RegExp | undefined, string[]]>([
    [
      "with a commit",
      (path) => git(path, "commit", "-q", "--allow-empty", "-m", "One"),
      /with 1 commit$/,
      ["main", "ralf/a"],
    ],
    [
      "that another one replaced",
      (path) => {
        git(path, "checkout", "-q", "-b", "mine")
        git(path, "commit", "-q", "--allow-empty", "-m", "One")
      },
      undefined,
      ["main", "mine"],
    ],
    [
      "that alone holds where it began",
      () => {
        git(shop, "commit", "-q", "--amend", "--allow-empty", "-m", "Rewritten")
      },
      /with 0 commits/,
      ["main", "ralf/a"],
    ],
  ])("the branch: one %s", async (_, act, words, left) => {
    const { path } = await start("a", { workspace: "worktree" })
    act(path)
    const kept = await clean("a")
    if (words) expect(kept).toMatch(words)
    else expect(kept).toBeUndefined()
    expect(existsSync(path)).toBe(false)
    expect(branches()).toEqual(left)
  })

  it("what a shared tree holds, whatever it is", async () => {
    await start("a")
    writeFileSync(join(shop, "x"), "x")
    expect(await clean("a")).toBeUndefined()
    expect(existsSync(join(shop, "x"))).toBe(true)
  })

  it("no half of a tree that was cut off while it was made", async () => {
    const tree = await start("a", { workspace: "worktree" })
    rmSync(join(tree.path, "README.md"))
    writeLasting(instanceDirectory(state(), "a"), "begun", {
      base: git(shop, "rev-parse", "HEAD"),
      branch: "ralf/a",
      made: false,
    })
    await start("a", { workspace: "worktree" })
    expect(existsSync(join(tree.path, "README.md"))).toBe(true)
    expect(branches()).toEqual(["main", "ralf/a"])
  })
})

describe("our own git", () => {
  it("is bounded in time and output, and takes no other repository from the environment", async () => {
    const beganMs = performance.now()
    expect(await runGit(shop, ["-c", "alias.wait=!sleep 60", "wait"], { ms: 200 })).toMatchObject({
      cut: true,
    })
    expect(performance.now() - beganMs).toBeLessThan(30_000)
    expect(await runGit(shop, ["-c", "alias.flood=!yes", "flood"])).toMatchObject({ cut: true })
    process.env.GIT_DIR = "/nowhere"
    try {
      expect((await runGit(shop, ["rev-parse", "--show-toplevel"])).stdout.trim()).toBe(shop)
    } finally {
      delete process.env.GIT_DIR
    }
  })

  it("never waits for a person or for a server that says nothing, and leaves no half clone", async () => {
    const server = createServer((request, response) => {
      if (request.url?.startsWith("/silent")) return
      response.writeHead(401, { "www-authenticate": "Basic" }).end()
    })
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
    const { port } = server.address() as AddressInfo // a TCP server's address is no path
    const clones = join(state(), "clones/acme")
    const fetch = (name: string, signal: AbortSignal): Promise<void> =>
      fetchClone(
        join(clones, "tool.git"),
        `http://127.0.0.1:${port}/${name}`,
        join(state(), "locks"),
        signal,
      )
    try {
      const refused = await fetch("locked", new AbortController().signal).catch(
        (error: unknown) => error,
      )
      expect(refused).toMatchObject({
        message: "git failed.",
        untrusted: expect.stringMatching(/^Fetching .* failed/),
        next: expect.stringMatching(/git ls-remote/),
      })
      const stopping = new AbortController()
      const asked = new Promise((resolve) => server.once("request", resolve))
      const both = Promise.allSettled([
        fetch("silent/a", stopping.signal),
        fetch("silent/b", stopping.signal),
      ])
      await asked
      stopping.abort()
      expect((await both).map(({ status }) => status)).toEqual(["rejected", "rejected"])
      expect(readdirSync(clones)).toEqual([])
    } finally {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    }
  })
})
