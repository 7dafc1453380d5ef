import { execFileSync } from "node:child_process"
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  rmSync,
  writeFileSync,
} from "node:fs"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import fc from "fast-check"
import { afterEach, beforeEach, describe, expect, it } from "vitest"
import { createCodeRoots } from "../../src/adapters/local/code-roots.ts"
import { createKeptTrees } from "../../src/adapters/local/kept-trees.ts"
import { createTrees, type Trees } from "../../src/adapters/local/trees.ts"
import { createWorkspace } from "../../src/agent/workspace.ts"
import { instanceDirectory } from "../../src/run/runs.ts"
import type { TreeFile } from "../../src/run/tree-file.ts"
import { aSpec, uid } from "../contract/harness.ts"
import { git, makeCodeRoot } from "../e2e/code-root.ts"

/**
 * Every kind of work that a tree may hold alone, with the real git: removing the instance loses
 * none, in whatever combination it comes.
 */

let directory: string
let shop: string
let remote: string
let trees: Trees
const state = (): string => join(directory, "state")

beforeEach(() => {
  directory = realpathSync(mkdtempSync(join(tmpdir(), "bb5-loss-")))
  mkdirSync(state())
  makeCodeRoot(join(directory, "code"), ["shop"])
  shop = join(directory, "code/5-project-memory/shop")
  writeFileSync(join(shop, ".gitignore"), ".autonomous/LOGS/\nbuild/\n*.o\n")
  git(shop, "commit", "-q", "-a", "-m", "Ignore")
  remote = join(directory, "remote.git")
  git(directory, "clone", "-q", "--bare", shop, remote)
  git(shop, "remote", "add", "origin", remote)
  const codeRoots = createCodeRoots({
    loops: () => ({}),
    claude: () => process.execPath,
    builtIn: ["loop"],
    stateDirectory: state(),
    first: join(directory, "code"),
  })
  const kept = createKeptTrees({ stateDirectory: state(), trusted: () => ({}), nowMs: () => 0 })
  trees = createTrees({
    stateDirectory: state(),
    codeRoots,
    repositories: () => "file:///nowhere/",
    trusted: () => ({}),
    kept,
  })
})
afterEach(() => rmSync(directory, { recursive: true, force: true }))

async function start(name: string): Promise<TreeFile> {
  const tree = await trees.settle({ name, uid: uid(name), spec: aSpec({ workspace: "worktree" }) })
  const at = join(instanceDirectory(state(), name), "000000001-x")
  const workspace = createWorkspace({
    run: { tree, name },
    directory: at,
    nowMs: () => 0,
    changed: () => {},
    warn: () => {},
  })
  expect(await workspace.prepare()).toBeUndefined()
  return tree
}
const clean = (name: string): Promise<string | undefined> => trees.clean({ name, uid: uid(name) })

const put = (path: string, text: string): void => {
  mkdirSync(dirname(path), { recursive: true })
  writeFileSync(path, text)
}
/** A commit that nothing but what is checked out there names. */
function commit(tree: string, what: string): string {
  put(join(tree, `${what}.md`), `${what}\n`)
  git(tree, "add", "-f", `${what}.md`)
  git(tree, "commit", "-q", "-m", what)
  return git(tree, "rev-parse", "HEAD")
}
/**
 * What must still be there: `file` as it reads; `commit` in a repository, named by a ref, a work
 * tree or a reflog.
 */
type Work =
  | { readonly file: string; readonly text: string }
  | { readonly commit: string; readonly in: string }
const file = (path: string, text: string): Work => {
  put(path, text)
  return { file: path, text }
}
const inShop = (commit: string): Work => ({ commit, in: shop })

/**
 * There as it was, or named by something that git's garbage collection respects, in a repository
 * that is there.
 */
function isReachable(work: Work): boolean {
  if (!("file" in work)) return existsSync(work.in) && named(work.in).has(work.commit)
  if (existsSync(work.file) && readFileSync(work.file, "utf8") === work.text) return true
  // A later step may have committed it.
  return named(shop, "--objects").has(
    execFileSync("git", ["hash-object", "--stdin"], { input: work.text, encoding: "utf8" }).trim(),
  )
}
const named = (repository: string, ...more: string[]): ReadonlySet<string> =>
  new Set(git(repository, "rev-list", "--all", "--reflog", ...more).match(/^[0-9a-f]{40}/gm))

/** Puts work into a tree, at a place that it has for itself; what must survive. */
const kinds: Readonly<Record<string, (tree: string, id: string) => readonly Work[]>> = {
  "an untracked file": (tree, id) => [file(join(tree, `${id}/new file.md`), id)],
  "a staged file": (tree, id) => {
    const work = file(join(tree, `${id}.md`), id)
    git(tree, "add", `${id}.md`)
    return [work]
  },
  "a changed file behind assume-unchanged": (tree, id) => {
    git(tree, "update-index", "--assume-unchanged", "README.md")
    return [file(join(tree, "README.md"), id)]
  },
  "a changed file behind skip-worktree": (tree, id) => {
    git(tree, "update-index", "--skip-worktree", ".gitignore")
    return [file(join(tree, ".gitignore"), `.autonomous/LOGS/\nbuild/\n*.o\n# ${id}\n`)]
  },
  "a commit on its branch": (tree, id) => [inShop(commit(tree, id))],
  "a commit that was reset away": (tree, id) => {
    const lost = commit(tree, id)
    git(tree, "reset", "-q", "--hard", "HEAD~1")
    return [inShop(lost)]
  },
  "an amended commit": (tree, id) => {
    const first = commit(tree, id)
    git(tree, "commit", "-q", "--amend", "--allow-empty", "-m", `${id} again`)
    return [inShop(first), inShop(git(tree, "rev-parse", "HEAD"))]
  },
  "a commit on a detached HEAD": (tree, id) => {
    git(tree, "checkout", "-q", "--detach")
    return [inShop(commit(tree, id))]
  },
  "a commit left behind by a checkout": (tree, id) => {
    const before = git(tree, "rev-parse", "--abbrev-ref", "HEAD")
    git(tree, "checkout", "-q", "--detach")
    const left = commit(tree, id)
    git(tree, "checkout", "-q", before === "HEAD" ? "HEAD~1" : before)
    return [inShop(left)]
  },
  "a branch of its own": (tree, id) => {
    git(tree, "checkout", "-q", "-b", `own-${id}`)
    return [inShop(commit(tree, id))]
  },
  "a tag on a commit of no branch": (tree, id) => {
    git(tree, "checkout", "-q", "--detach")
    const tagged = commit(tree, id)
    git(tree, "tag", `tag-${id}`)
    return [inShop(tagged)]
  },
  "a stash": (tree, id) => {
    put(join(tree, "stashed.md"), id)
    git(tree, "stash", "push", "-q", "-u", "--", "stashed.md")
    return [inShop(git(tree, "rev-parse", "refs/stash"))]
  },
  "a ref of the tree alone": (tree, id) => {
    const made = git(tree, "commit-tree", "-p", "HEAD", "-m", id, "HEAD^{tree}")
    git(tree, "update-ref", `refs/worktree/${id}`, made)
    return [{ commit: made, in: tree }]
  },
  "a bisect under way": (tree) => {
    git(tree, "bisect", "start")
    const at = join(git(tree, "rev-parse", "--absolute-git-dir"), "BISECT_START")
    return [{ file: at, text: readFileSync(at, "utf8") }]
  },
  "a rebase under way, with a stash of its own": (tree, id) => {
    commit(tree, id)
    put(join(tree, "README.md"), `${id} is not committed\n`)
    expect(() => git(tree, "rebase", "-q", "--autostash", "--exec", "false", "HEAD~1")).toThrow()
    const at = join(git(tree, "rev-parse", "--absolute-git-dir"), "rebase-merge/autostash")
    return [{ file: at, text: readFileSync(at, "utf8") }]
  },
  "a merge under way that changes no file": (tree, id) => {
    const before = git(tree, "rev-parse", "HEAD")
    commit(tree, id)
    git(tree, "checkout", "-q", "--detach", before)
    git(tree, "commit", "-q", "--allow-empty", "-m", `Beside ${id}`)
    git(tree, "merge", "-q", "--no-commit", "-s", "ours", "ORIG_HEAD", "HEAD@{1}", "HEAD@{2}")
    const at = join(git(tree, "rev-parse", "--absolute-git-dir"), "MERGE_HEAD")
    return [{ file: at, text: readFileSync(at, "utf8") }]
  },
  "an ignored clone with a work tree elsewhere": (tree, id) => {
    const inner = join(tree, "build", id)
    git(tree, "clone", "-q", remote, inner)
    git(inner, "worktree", "add", "-q", "--detach", join(directory, `elsewhere-${id}`))
    return [{ commit: git(inner, "rev-parse", "HEAD"), in: join(directory, `elsewhere-${id}`) }]
  },
  "an ignored clone that the repository takes objects from": (tree, id) => {
    const inner = join(tree, "build", id)
    git(tree, "clone", "-q", remote, inner)
    const made = commit(inner, id)
    git(inner, "push", "-q", "origin", `HEAD:refs/heads/${id}`)
    put(join(shop, ".git/objects/info/alternates"), `${join(inner, ".git/objects")}\n`)
    git(shop, "update-ref", `refs/heads/borrowed-${id}`, made)
    return [inShop(made)]
  },
  "an ignored clone with a tag of its own": (tree, id) => {
    const inner = join(tree, "build", id)
    git(tree, "clone", "-q", remote, inner)
    git(inner, "tag", "-a", "-m", "What was tested", id)
    return [{ file: join(inner, ".git/refs/tags", id), text: `${git(inner, "rev-parse", id)}\n` }]
  },
  "an ignored repository that is not git's": (tree, id) => [
    file(join(tree, "build", id, ".hg/store/data"), id),
  ],
  "a file in a submodule": (tree, id) => {
    git(
      tree,
      "-c",
      "protocol.file.allow=always",
      "submodule",
      "add",
      "-q",
      "--name",
      id,
      remote,
      `sub-${id}`,
    )
    git(tree, "commit", "-q", "-a", "-m", `Add ${id}`)
    return [file(join(tree, `sub-${id}`, "new.md"), id)]
  },
  "an ignored repository": (tree, id) => {
    const inner = join(tree, "build", id)
    mkdirSync(inner, { recursive: true })
    git(inner, "init", "-q")
    return [{ commit: commit(inner, id), in: inner }]
  },
  "an ignored repository without commits": (tree, id) => {
    const inner = join(tree, "build", id)
    mkdirSync(inner, { recursive: true })
    git(inner, "init", "-q")
    return [file(join(inner, "x"), id)]
  },
  "an untracked repository": (tree, id) => {
    const inner = join(tree, id)
    git(tree, "clone", "-q", remote, inner)
    return [{ commit: commit(inner, id), in: inner }]
  },
  "an ignored clone with a stash": (tree, id) => {
    const inner = join(tree, "build", id)
    git(tree, "clone", "-q", remote, inner)
    put(join(inner, "README.md"), id)
    git(inner, "stash", "-q")
    return [{ commit: git(inner, "rev-parse", "refs/stash"), in: inner }]
  },
  "an ignored bare repository": (tree, id) => {
    const inner = join(tree, "build", `${id}.git`)
    mkdirSync(inner, { recursive: true })
    git(inner, "init", "-q", "--bare")
    const empty = git(inner, "hash-object", "-w", "-t", "tree", "/dev/null")
    const made = git(inner, "commit-tree", "-m", id, empty)
    git(inner, "update-ref", "refs/heads/main", made)
    return [{ commit: made, in: inner }]
  },
  "a submodule that was committed to": (tree, id) => {
    git(
      tree,
      "-c",
      "protocol.file.allow=always",
      "submodule",
      "add",
      "-q",
      "--name",
      id,
      remote,
      `sub-${id}`,
    )
    git(tree, "commit", "-q", "-a", "-m", `Add ${id}`)
    const inner = join(tree, `sub-${id}`)
    const made = commit(inner, id)
    git(inner, "checkout", "-q", "HEAD~1")
    return [{ commit: made, in: inner }]
  },
  "a nested work tree of the same repository": (tree, id) => {
    const inner = join(tree, "build", id)
    git(tree, "worktree", "add", "-q", "--detach", inner)
    return [{ commit: commit(inner, id), in: shop }]
  },
  "a nested work tree of another repository": (tree, id) => {
    const inner = join(tree, "build", id)
    git(remote, "worktree", "add", "-q", "-b", id, inner)
    return [file(join(inner, "x.md"), id)]
  },
  "a lock": (tree) => {
    git(tree, "worktree", "lock", tree)
    return [{ file: join(tree, "README.md"), text: readFileSync(join(tree, "README.md"), "utf8") }]
  },
}
/** What is no work. */
const noWork: Readonly<Record<string, (tree: string, id: string) => void>> = {
  "ignored build output": (tree, id) => put(join(tree, `build/${id}.o`), id),
  "the loop's log": (tree, id) => put(join(tree, `.autonomous/LOGS/ralf-session-${id}.log`), id),
  "the loop's telemetry": (tree, id) =>
    put(join(tree, `2-engine/.autonomous/.Autonomous/telemetry/run-${id}.json`), "{}"),
  "an ignored clone as it came": (tree, id) =>
    void git(tree, "clone", "-q", remote, join(tree, "build", id)),
  "a nested work tree without changes": (tree, id) =>
    void git(tree, "worktree", "add", "-q", "--detach", join(tree, "build", id)),
  "a tag": (tree, id) => void git(tree, "tag", `tag-${id}`),
}

describe("a removed instance", () => {
  it.each(Object.entries(kinds))("loses nothing: %s", async (_, make) => {
    const { path } = await start("a")
    const works = make(path, "w0")
    expect(works.every(isReachable)).toBe(true)
    await clean("a")
    git(shop, "worktree", "prune")
    expect(works.filter((work) => !isReachable(work))).toEqual([])
  })

  it.each(Object.entries(noWork))("leaves no tree for %s", async (_, make) => {
    const { path } = await start("a")
    make(path, "w0")
    expect(await clean("a")).toBeUndefined()
    expect(existsSync(path)).toBe(false)
    expect(git(shop, "worktree", "list", "--porcelain").match(/^worktree /gm)).toHaveLength(1)
  })

  it("loses nothing, in whatever combination and order", async () => {
    const step = fc.constantFrom(...Object.keys(kinds), ...Object.keys(noWork))
    let count = 0
    await fc.assert(
      fc.asyncProperty(fc.uniqueArray(step, { minLength: 2, maxLength: 5 }), async (steps) => {
        const name = `p${++count}`
        const { path } = await start(name)
        const works: Work[] = []
        for (const [at, kind] of steps.entries()) {
          try {
            works.push(...(kinds[kind]?.(path, `${name}w${at}`) ?? []))
            noWork[kind]?.(path, `${name}w${at}`)
          } catch {
            // git itself refuses some orders (a stash during a bisect): what was made before counts
            // all the same.
          }
        }
        const held = works.filter(isReachable)
        await clean(name)
        expect(held.filter((work) => !isReachable(work))).toEqual([])
      }),
      { numRuns: 20 },
    )
  })
})
