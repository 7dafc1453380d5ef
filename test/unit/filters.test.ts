import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  rmSync,
  writeFileSync,
} from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest"
import { createCodeRoots } from "../../src/adapters/local/code-roots.ts"
import { createKeptTrees } from "../../src/adapters/local/kept-trees.ts"
import { createTrees, type Trees } from "../../src/adapters/local/trees.ts"
import { createWorkspace, type Workspace } from "../../src/agent/workspace.ts"
import type { Fault } from "../../src/core/faults.ts"
import type { TrustedFilters } from "../../src/core/workspace.ts"
import { lossOf } from "../../src/host/tree-loss.ts"
import { measure } from "../../src/host/tree-work.ts"
import { instanceDirectory } from "../../src/run/runs.ts"
import { parsePolicy } from "../../src/settings/policy.ts"
import { aSpec, uid } from "../contract/harness.ts"
import { git, makeCodeRoot } from "../e2e/code-root.ts"

/**
 * Filters, with the real git: what an agent finds in a tree of its own is what a person's git would
 * have put there.
 */

let directory: string
let shop: string
/** A filter that turns letters round, as git-crypt turns text into noise: twice is not once. */
let clean: string
let smudge: string
let trusted: TrustedFilters
let trees: Trees
const own = aSpec({ workspace: "worktree" })

beforeEach(() => {
  directory = realpathSync(mkdtempSync(join(tmpdir(), "bb5-filters-")))
  vi.stubEnv("GIT_CONFIG_GLOBAL", join(directory, "gitconfig"))
  writeFileSync(join(directory, "gitconfig"), "")
  mkdirSync(join(directory, "state"))
  makeCodeRoot(join(directory, "code"), ["shop"])
  shop = join(directory, "code/5-project-memory/shop")
  const program = (name: string, script: string): string => {
    const path = join(directory, name)
    writeFileSync(path, `#!/bin/sh\necho ${name} >> '${join(directory, "ran")}'\n${script}\n`)
    chmodSync(path, 0o755)
    return path
  }
  clean = program("clean", "echo encoded; tr a-z b-za")
  smudge = program(
    "smudge",
    "read -r first; [ \"$first\" = encoded ] || { echo 'not encoded' >&2; exit 1; }; tr b-za a-z",
  )
  trusted = {}
  const codeRoots = createCodeRoots({
    loops: () => ({}),
    claude: () => process.execPath,
    builtIn: ["loop"],
    stateDirectory: join(directory, "state"),
    first: join(directory, "code"),
  })
  const options = { stateDirectory: join(directory, "state"), trusted: () => trusted }
  const kept = createKeptTrees({ ...options, nowMs: () => 0 })
  trees = createTrees({ ...options, codeRoots, repositories: () => "file:///nowhere/", kept })
})
afterEach(() => {
  vi.unstubAllEnvs()
  rmSync(directory, { recursive: true, force: true })
})

/**
 * The repository has a secret that passes through the filter, which is defined in its own or in the
 * person's configuration.
 */
function commitSecret(scope: "--local" | "--global"): void {
  git(shop, "config", scope, "filter.vault.clean", clean)
  git(shop, "config", scope, "filter.vault.smudge", smudge)
  git(shop, "config", scope, "filter.vault.required", "true")
  writeFileSync(join(shop, ".gitattributes"), "*.key filter=vault\n")
  writeFileSync(join(shop, "secret.key"), "open sesame\n")
  git(shop, "add", "-A")
  git(shop, "commit", "-q", "-m", "Add a secret")
  expect(git(shop, "show", "HEAD:secret.key")).toBe("encoded\npqfo tftbnf")
  rmSync(join(directory, "ran"), { force: true })
}
const ran = (): string =>
  existsSync(join(directory, "ran")) ? readFileSync(join(directory, "ran"), "utf8") : ""
async function make(): Promise<{ path: string; workspace: Workspace }> {
  const tree = await trees.settle({ name: "a", uid: uid("a"), spec: own })
  const at = join(instanceDirectory(join(directory, "state"), "a"), "000000001-x")
  const workspace = createWorkspace({
    run: { tree, name: "a" },
    directory: at,
    nowMs: () => 0,
    changed: () => {},
    warn: () => {},
  })
  return { path: tree.path, workspace }
}
const refusal = async (): Promise<Fault | undefined> =>
  trees.foresee(own, []).then(
    () => undefined,
    (fault: Fault) => fault,
  )

async function expectTrueFiles(): Promise<void> {
  expect(await refusal()).toBeUndefined()
  const { path, workspace } = await make()
  expect(await workspace.prepare()).toBeUndefined()
  expect(readFileSync(join(path, "secret.key"), "utf8")).toBe("open sesame\n")
  expect(ran()).toContain("smudge")
  // A file that was only touched is not changed, and what the agent commits is encoded once.
  writeFileSync(join(path, "secret.key"), "open sesame\n")
  expect(await measure(path, undefined, { trusted })).toMatchObject({ dirty: false })
  expect((await lossOf(path, join(shop, ".git"), trusted)).why).toEqual([])
  writeFileSync(join(path, "secret.key"), "open barley\n")
  git(path, "commit", "-q", "-a", "-m", "Change the secret")
  expect(git(path, "show", "HEAD:secret.key")).toBe("encoded\npqfo cbsmfz")
}

describe("a filter", () => {
  it("of the person's own configuration is run", async () => {
    commitSecret("--global")
    await expectTrueFiles()
  })

  it("of the person's own configuration is run as it stands there, whatever the repository says of it", async () => {
    commitSecret("--global")
    git(shop, "config", "filter.vault.smudge", join(directory, "evil"))
    await expectTrueFiles()
    // Beside a process git runs no other command, so this one cannot be taken out.
    git(shop, "config", "filter.vault.process", join(directory, "evil"))
    expect(await refusal()).toMatchObject({ code: "Invalid" })
  })

  it("of the repository alone makes the spawn refused, with the line that allows it", async () => {
    commitSecret("--local")
    const fault = await refusal()
    expect(fault).toMatchObject({
      code: "Invalid",
      message: expect.stringMatching(/pass through a filter that only its own/),
    })
    expect(ran()).toBe("")
    // A tree that somebody has settled meanwhile is not made either.
    const { path, workspace } = await make()
    expect(await workspace.prepare()).toMatchObject({
      reason: "WorkTree",
      message: expect.stringContaining('trustedFilters: {"vault":'),
    })
    expect(existsSync(path)).toBe(false)
    expect(ran()).toBe("")

    const line = / (trustedFilters: \{.*\})$/.exec(fault?.untrusted ?? "")?.[1] ?? ""
    const parsed = parsePolicy(`${line}\n`)
    if (!("policy" in parsed)) throw new Error(parsed.refused)
    trusted = parsed.policy.trustedFilters
    await expectTrueFiles()
  })

  it("is trusted by its very commands, not by its name", async () => {
    commitSecret("--local")
    trusted = { vault: { clean, smudge } }
    expect(await refusal()).toBeUndefined()
    git(shop, "config", "filter.vault.smudge", `${smudge} --other`)
    expect(await refusal()).toMatchObject({ code: "Invalid" })
    git(shop, "config", "filter.vault.smudge", smudge)
    git(shop, "config", "filter.vault.process", join(directory, "evil"))
    expect(await refusal()).toMatchObject({ code: "Invalid" })
    expect(ran()).toBe("")
  })

  it("that no file of the commit uses stands in nobody's way", async () => {
    git(shop, "tag", "before")
    commitSecret("--local")
    expect(await refusal()).toMatchObject({ code: "Invalid" })
    await trees.foresee({ ...own, ref: "before" }, [])
    // The person's tree is not checked out, and so not judged.
    await trees.foresee({ ...own, workspace: "shared" }, [])
    writeFileSync(join(shop, ".git/info/attributes"), "README.md filter=vault\n")
    await expect(trees.foresee({ ...own, ref: "before" }, [])).rejects.toMatchObject({
      untrusted: expect.stringContaining("vault"),
    })
  })
})
