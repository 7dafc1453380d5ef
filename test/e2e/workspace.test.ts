import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs"
import { join } from "node:path"
import { pathToFileURL } from "node:url"
import { describe, expect, it, vi } from "vitest"
import { z } from "zod"
import { unfenced, withoutFences } from "../../src/roles/fence.ts"
import { type ModelRequest, say, use } from "../model/model.ts"
import { git, makeCodeRoot } from "./code-root.ts"
import { eventually, type McpClient, makeWorld, type Result, type World } from "./world.ts"

/** Several whole agents in each test, and other tests beside them. */
vi.setConfig({ testTimeout: 240_000 })

/**
 * Instances in work trees: the real loop and claude, whose model does what the goal says between
 * the marks.
 */

const run = (command: string): string => `Do this. RUN<<${command}>>`
const obedient = (request: ModelRequest) => {
  const [, command] = /RUN<<(.*?)>>/s.exec(request.text) ?? []
  if (command === undefined || request.toolResults.length > 0)
    return say("All done.\n<promise>COMPLETE</promise>")
  return use([{ name: "Bash", input: { command, description: "as told" } }])
}
const inTree = 'cd "$RALF_PROJECT_DIR"'
const commit = (file: string): string =>
  `${inTree} && echo text > ${file} && git add ${file} && git commit -q -m "Add ${file}"`
const workSchema = z.looseObject({
  path: z.string(),
  own: z.boolean(),
  branch: z.string().optional(),
  commits: z.int().optional(),
})

const inspect = ({ call }: McpClient, name: string): Promise<Result> =>
  call("inspect_instance", { name })
/** What is told of a tree, and beside it where it is, without the fences. */
const placeIn = (told: unknown): Record<string, unknown> => {
  const { untrusted = {}, ...ours } = z
    .looseObject({ untrusted: z.record(z.string(), z.string()).optional() })
    .parse(told)
  return { ...ours, ...withoutFences(untrusted) }
}
const pathIn = (told: unknown): string => workSchema.shape.path.parse(placeIn(told).path)
const workOf = async (client: McpClient, name: string) =>
  workSchema.parse(placeIn((await inspect(client, name)).work))
const completed = (client: McpClient, name: string): Promise<Result> =>
  eventually(
    async () => {
      const seen = await inspect(client, name)
      return seen.phase === "Completed" && seen.work !== undefined && seen
    },
    `${name} completes`,
    200,
  )
const rowSchema = z.object({ name: z.string(), why: z.string(), untrusted: z.string().optional() })
/** Removes instances; what the answer says of each, and what the events say when it is done. */
async function remove({ call }: McpClient, names: readonly string[]) {
  const answer = await call("stop_instances", { names, remove: true })
  const rows = z.array(rowSchema).parse(answer.instances)
  await eventually(async () => (await call("list_instances", {})).total === 0, "the removal")
  const events = z
    .array(z.object({ message: z.string().optional(), untrusted: z.string().optional() }))
    .parse((await call("read_events", { kinds: ["Removed"], limit: 100 })).events)
    .map(({ message, untrusted = "" }) => message ?? unfenced(untrusted))
  const removed = (name: string): string =>
    events.find((message) => message.startsWith(`${name} was removed.`)) ?? ""
  const told = (name: string): string => {
    const { why = "", untrusted } = rows.find((row) => row.name === name) ?? {}
    return untrusted === undefined ? why : unfenced(untrusted)
  }
  return { why: told, removed }
}
const treesOf = (world: World): string[] => readdirSync(join(world.state, "trees")).toSorted()
const branches = (directory: string): string[] =>
  git(directory, "branch", "--format=%(refname:short)").split("\n").toSorted()

describe("several agents in one project", () => {
  it("work side by side in trees of their own, and their removal loses nothing", async () => {
    await using world = await makeWorld(obedient)
    const client = await world.connect()
    const shop = world.projectOf("shop")
    const go = join(world.directory, "go")
    const wait = `while [ ! -e ${go} ]; do sleep 0.05; done`
    const spawn = (command: string): Promise<Result> =>
      client.call("spawn_instance", { project: "shop", goal: run(`${command}; ${wait}`) })

    const first = await spawn(commit("one.md"))
    expect(placeIn(first.workspace)).toEqual({ path: shop })
    const second = await spawn(commit("two.md"))
    expect(second).toMatchObject({ name: "shop-2" })
    expect(placeIn(second.workspace)).toMatchObject({ branch: "ralf/shop-2" })
    await spawn(`${inTree} && echo text > three.md`)
    await spawn("true")

    // All four are in the middle of their iteration.
    const path = pathIn(second.workspace)
    await eventually(
      () => existsSync(join(path, "two.md")) && existsSync(join(shop, "one.md")),
      "both files",
      60,
    )
    await eventually(async () => (await workOf(client, "shop-4")).own, "the fourth tree")
    expect(existsSync(join(shop, "two.md")) || existsSync(join(path, "one.md"))).toBe(false)
    writeFileSync(go, "")
    for (const name of ["shop-1", "shop-2", "shop-3", "shop-4"]) await completed(client, name)

    expect(git(shop, "log", "-1", "--format=%s", "main")).toBe("Add one.md")
    expect(git(shop, "log", "--format=%s", "main..ralf/shop-2")).toBe("Add two.md")
    expect(await workOf(client, "shop-1")).toEqual({
      path: shop,
      own: false,
      branch: "main",
      commits: 1,
      dirty: false,
    })
    expect(await workOf(client, "shop-2")).toEqual({
      path,
      own: true,
      branch: "ralf/shop-2",
      commits: 1,
      dirty: false,
    })
    expect(await workOf(client, "shop-3")).toMatchObject({ own: true, commits: 0, dirty: true })
    const listed = z
      .array(z.looseObject({ name: z.string() }))
      .parse((await client.call("list_instances", {})).instances)
    const branch = expect.stringContaining("ralf/shop-2")
    expect(listed.find(({ name }) => name === "shop-2")).toMatchObject({
      untrusted: { branch },
      commits: 1,
    })
    expect(git(shop, "status", "--porcelain")).toBe("")

    const since = z
      .looseObject({ completed: z.array(z.looseObject({ name: z.string() })) })
      .parse((await client.call("fleet_status", { since: "1h" })).since)
    expect(since.completed.find(({ name }) => name === "shop-2")).toMatchObject({
      untrusted: { branch },
      commits: 1,
    })

    const { why, removed } = await remove(client, ["shop-1", "shop-2", "shop-3", "shop-4"])
    expect(why("shop-1")).not.toMatch(/kept/)
    expect(removed("shop-1")).toBe("shop-1 was removed.")
    // The answer of the call itself names what was kept, as the timeline does.
    for (const told of [why, removed]) {
      expect(told("shop-2")).toMatch(/Kept: branch ralf\/shop-2 in .*, with 1 commit\.$/)
      expect(told("shop-3")).toMatch(
        /Kept: its tree .*shop-3-.* and branch ralf\/shop-3: it holds work that is not committed \(three\.md\)\.$/,
      )
      expect(told("shop-4")).toBe("shop-4 was removed.")
    }
    expect(treesOf(world)).toEqual([expect.stringMatching(/^shop-3-/)])
    expect(
      readFileSync(join(world.state, "trees", treesOf(world)[0] ?? "", "three.md"), "utf8"),
    ).toBe("text\n")
    expect(branches(shop)).toEqual(["main", "ralf/shop-2", "ralf/shop-3"])

    // A name used again inherits nothing: its branch is another, from where the person's tree is.
    await client.call("spawn_instance", {
      name: "shop-2",
      goal: run("true"),
      workspace: "worktree",
    })
    await completed(client, "shop-2")
    expect(await workOf(client, "shop-2")).toMatchObject({
      branch: "ralf/shop-2-2",
      commits: 0,
      dirty: false,
    })
  })

  it("find their tree again after a stop, also when somebody deleted it", async () => {
    await using world = await makeWorld(obedient)
    const client = await world.connect()
    const spawned = await client.call("spawn_instance", {
      goal: run(commit("one.md")),
      workspace: "worktree",
    })
    await completed(client, "shop-1")
    const { path } = await workOf(client, "shop-1")
    expect(path).toBe(pathIn(spawned.workspace))
    rmSync(path, { recursive: true })
    await client.call("resume_instances", { names: ["shop-1"] })
    await eventually(() => existsSync(join(path, "one.md")), "the tree, made again from its branch")
    await completed(client, "shop-1")
    expect(await workOf(client, "shop-1")).toMatchObject({
      path,
      branch: "ralf/shop-1",
      commits: 1,
    })
    expect(branches(world.projectOf("shop"))).toEqual(["main", "ralf/shop-1"])
  })

  it("share the one tree where there is no git, and say so; a tree of its own is refused", async () => {
    await using world = await makeWorld(obedient)
    const shop = world.projectOf("shop")
    rmSync(join(shop, ".git"), { recursive: true })
    const client = await world.connect()
    await expect(client.call("spawn_instance", { workspace: "worktree" })).rejects.toThrow(
      /not tracked by git.*git init/,
    )
    await expect(client.call("spawn_instance", { ref: "main" })).rejects.toThrow(
      /not tracked by git/,
    )
    const go = join(world.directory, "go")
    const waiting = { goal: run(`while [ ! -e ${go} ]; do sleep 0.05; done`) }
    expect(placeIn((await client.call("spawn_instance", waiting)).workspace)).toEqual({
      path: shop,
    })
    await eventually(
      async () => (await inspect(client, "shop-1")).phase === "Running",
      "the first at work",
    )
    const second = await client.call("spawn_instance", { goal: run("true") })
    expect(second).toMatchObject({ why: expect.stringMatching(/shares its work tree with shop-1/) })
    expect(placeIn(second.workspace)).toEqual({ path: shop })
    writeFileSync(go, "")
    await completed(client, "shop-1")
    await completed(client, "shop-2")
    expect(await workOf(client, "shop-2")).toEqual({ path: shop, own: false })
  })

  it("begin at a ref, and refuse what is none", async () => {
    await using world = await makeWorld(obedient)
    const shop = world.projectOf("shop")
    git(shop, "tag", "v1")
    writeFileSync(join(shop, "later.md"), "later\n")
    git(shop, "add", "later.md")
    git(shop, "commit", "-q", "-m", "Later")
    const client = await world.connect()
    for (const [input, message] of [
      [{ ref: "v2" }, /no branch, tag or commit v2/],
      [{ ref: "--upload-pack=x" }, /ref/],
      [{ ref: "v1", workspace: "shared" }, /ref needs a tree of its own/],
      [{ repository: "acme/shop", workspace: "shared" }, /clone/],
      [{ repository: "../etc" }, /owner\/name/],
    ] as const)
      await expect(client.call("spawn_instance", input)).rejects.toThrow(message)
    await client.call("spawn_instance", { ref: "v1", goal: run("true") })
    await completed(client, "shop-1")
    const { path } = await workOf(client, "shop-1")
    expect(existsSync(join(path, "README.md")) && !existsSync(join(path, "later.md"))).toBe(true)
  })
})

describe("a code root that is one git repository", () => {
  it("gives the second agent a tree of the whole, with its own loop script", async () => {
    await using world = await makeWorld(obedient, { projects: ["shop", "blog"] })
    for (const name of ["shop", "blog"])
      rmSync(join(world.projectOf(name), ".git"), { recursive: true })
    git(world.codeRoot, "init", "-q", "-b", "main")
    git(world.codeRoot, "add", "-A")
    git(world.codeRoot, "commit", "-q", "-m", "All")
    const client = await world.connect()
    const go = join(world.directory, "go")
    await client.call("spawn_instance", {
      project: "shop",
      goal: run(`while [ ! -e ${go} ]; do sleep 0.05; done`),
    })
    await eventually(
      async () => (await inspect(client, "shop-1")).phase === "Running",
      "the first at work",
    )
    const spawned = await client.call("spawn_instance", {
      project: "blog",
      goal: run(`pwd > ${join(world.directory, "pwd")}; ${commit("post.md")}`),
    })
    await completed(client, "blog-1")
    writeFileSync(go, "")
    const path = pathIn(spawned.workspace)
    expect(readFileSync(join(world.directory, "pwd"), "utf8").trim()).toBe(
      join(path, "5-project-memory/blog"),
    )
    expect(await workOf(client, "blog-1")).toMatchObject({
      path,
      own: true,
      branch: "ralf/blog-1",
      commits: 1,
      dirty: false,
    })
    expect(git(world.codeRoot, "show", "--stat", "--format=%s", "ralf/blog-1")).toMatch(
      /Add post\.md[\s\S]*5-project-memory\/blog\/post\.md/,
    )
    await completed(client, "shop-1")
    const { removed } = await remove(client, ["shop-1", "blog-1"])
    expect(removed("blog-1")).toMatch(/Kept: branch ralf\/blog-1/)
    expect(treesOf(world)).toEqual([])
  })
})

describe("a repository", () => {
  it("is cloned once, worked on in trees, pushed from; what cannot be cloned says what to do", async () => {
    await using world = await makeWorld(obedient)
    const remote = join(world.directory, "remotes/acme/tool.git")
    mkdirSync(remote, { recursive: true })
    world.policy(`repositories: ${pathToFileURL(join(world.directory, "remotes"))}/\n`)
    git(remote, "init", "-q", "--bare", "-b", "trunk")
    git(world.projectOf("shop"), "push", "-q", remote, "main:trunk", "main:release")
    const client = await world.connect()
    const push = `${commit("new.md")} && git push -q origin HEAD`
    const spawned = await Promise.all([
      client.call("spawn_instance", { repository: "acme/tool", name: "tool-1", goal: run(push) }),
      client.call("spawn_instance", {
        repository: "acme/tool",
        name: "tool-2",
        ref: "release",
        goal: run("true"),
      }),
    ])
    expect(spawned.map(({ workspace }) => placeIn(workspace))).toMatchObject([
      { branch: "ralf/tool-1" },
      { branch: "ralf/tool-2" },
    ])
    await completed(client, "tool-1")
    await completed(client, "tool-2")
    expect((await inspect(client, "tool-1")).project).toBe("tool")
    expect(git(remote, "log", "-1", "--format=%s", "ralf/tool-1")).toBe("Add new.md")
    expect(readdirSync(join(world.state, "clones/acme"))).toEqual(["tool.git"])
    expect(await workOf(client, "tool-1")).toMatchObject({ own: true, commits: 1, dirty: false })

    // What an agent plants in the clone's configuration is not obeyed by the next fetch.
    const marker = join(world.directory, "marker")
    git(join(world.state, "clones/acme/tool.git"), "config", "core.sshCommand", `touch ${marker}`)
    git(
      join(world.state, "clones/acme/tool.git"),
      "config",
      `url.ext::touch ${marker} .insteadOf`,
      "file://",
    )
    writeFileSync(join(world.projectOf("shop"), "fresh.md"), "fresh\n")
    git(world.projectOf("shop"), "add", "fresh.md")
    git(world.projectOf("shop"), "commit", "-q", "-m", "Fresh")
    git(world.projectOf("shop"), "push", "-q", remote, "main:trunk")
    await client.call("spawn_instance", {
      repository: "acme/tool",
      name: "tool-3",
      goal: run("true"),
    })
    await completed(client, "tool-3")
    expect(existsSync(join((await workOf(client, "tool-3")).path, "fresh.md"))).toBe(true)
    expect(existsSync(marker)).toBe(false)

    await client.call("spawn_instance", { repository: "acme/none", name: "none" })
    const seen = await eventually(
      async () => {
        const one = await inspect(client, "none")
        return one.phase === "CrashLoop" && one
      },
      "the problem",
      60,
    )
    expect(seen.why).toMatch(/^Its work tree could not be made\./)
    expect(seen.untrusted).toMatch(
      /Fetching file:.*acme\/none\.git failed: .*git ls-remote.*then resume/,
    )
  })

  it("is worked on by the built-in loop where there is no code root at all", async () => {
    await using world = await makeWorld(obedient)
    const remote = join(world.directory, "remotes/acme/tool.git")
    mkdirSync(remote, { recursive: true })
    git(remote, "init", "-q", "--bare", "-b", "main")
    git(world.projectOf("shop"), "push", "-q", remote, "main")
    world.policy(`repositories: ${pathToFileURL(join(world.directory, "remotes"))}/\n`)
    const client = await world.connect(world.directory)
    expect((await client.call("fleet_status")).projects).toEqual([])
    await expect(client.call("spawn_instance", {})).rejects.toThrow(
      /No project was found.*repository/,
    )
    await client.call("spawn_instance", { repository: "acme/tool", goal: run(commit("new.md")) })
    await completed(client, "tool-1")
    expect(await workOf(client, "tool-1")).toMatchObject({
      own: true,
      branch: "ralf/tool-1",
      commits: 1,
      dirty: false,
    })
  })
})

describe("a hostile repository", () => {
  it("runs nothing by our own git: hooks, fsmonitor, filters", async () => {
    await using world = await makeWorld(obedient)
    const shop = world.projectOf("shop")
    const marker = join(world.directory, "marker")
    git(shop, "tag", "before")
    writeFileSync(join(shop, ".gitattributes"), "* filter=evil\n")
    git(shop, "add", ".gitattributes")
    git(shop, "commit", "-q", "-m", "Attributes")
    const plant = (path: string, name: string): void => {
      writeFileSync(path, `#!/bin/sh\necho ${name} >> ${marker}\ncat\n`)
      chmodSync(path, 0o755)
    }
    for (const hook of [
      "post-checkout",
      "reference-transaction",
      "post-index-change",
      "pre-commit",
    ])
      plant(join(shop, ".git/hooks", hook), hook)
    for (const key of [
      "core.fsmonitor",
      "filter.evil.smudge",
      "filter.evil.clean",
      "filter.evil.process",
      "core.sshCommand",
    ]) {
      plant(join(world.directory, key), key)
      git(shop, "-c", "core.hooksPath=/dev/null", "config", key, join(world.directory, key))
    }
    rmSync(marker, { force: true })
    // A claude that works in the project asks git about it, as a person would: this loop's works
    // elsewhere, so that only our git is at it.
    const apart = [
      "sh",
      "-c",
      'cd "$0" && echo Go on. | claude -p --dangerously-skip-permissions',
      world.directory,
    ]
    world.policy(`loops: { apart: ${JSON.stringify(apart)} }\n`)
    const client = await world.connect()
    const go = join(world.directory, "go")
    const spawn = (name: string, more: object = {}): Promise<Result> =>
      client.call("spawn_instance", {
        name,
        loop: "apart",
        goal: run(
          `${inTree}; echo ${name} > ${name}.md; while [ ! -e ${go} ]; do sleep 0.05; done`,
        ),
        ...more,
      })
    await spawn("shop-1")
    // Without its filter a tree would hold wrong files, and with it we would run it: the person
    // decides.
    await expect(spawn("shop-2")).rejects.toThrow(
      /filter that only its own configuration defines.*trustedFilters: .*evil/,
    )
    await spawn("shop-2", { ref: "before" })
    await eventually(async () => (await workOf(client, "shop-2")).own, "the tree", 60)
    writeFileSync(go, "")
    await completed(client, "shop-1")
    await completed(client, "shop-2")
    expect(await workOf(client, "shop-1")).toMatchObject({ own: false, dirty: true })
    expect(await workOf(client, "shop-2")).toMatchObject({ own: true, commits: 0, dirty: true })
    const { removed } = await remove(client, ["shop-1", "shop-2"])
    expect(removed("shop-2")).toMatch(/not committed/)
    expect(existsSync(marker) && readFileSync(marker, "utf8")).toBe(false)
    // The planted programs are no dummies: git itself runs them.
    git(shop, "status", "--porcelain")
    expect(readFileSync(marker, "utf8")).toMatch(/core\.fsmonitor/)
  })
})

describe("several code roots in one serve", () => {
  it("are told by their clients, remembered, and told apart", async () => {
    await using world = await makeWorld(obedient)
    const other = join(world.directory, "other")
    makeCodeRoot(other, ["shop", "blog"])
    const solo = join(world.directory, "solo")
    cpSync(world.projectOf("shop"), solo, { recursive: true })
    rmSync(join(solo, ".autonomous"), { recursive: true })

    const here = await world.connect()
    const projects = async ({ call }: McpClient): Promise<string[]> =>
      z
        .array(z.object({ name: z.string() }))
        .parse((await call("fleet_status")).projects)
        .map(({ name }) => name)
        .toSorted()
    expect(await projects(here)).toEqual(["shop"])
    const there = await world.connect(join(other, "5-project-memory/blog"))
    const alone = await world.connect(solo)
    // Each checkout has a shop of its own.
    expect(await projects(there)).toEqual(["blog", "shop", "shop"])
    expect(await projects(alone)).toEqual(["blog", "shop", "shop", "solo"])
    expect(await projects(here)).toEqual(["blog", "shop", "shop", "solo"])

    const pathOf = async (client: McpClient, input: object): Promise<unknown> =>
      pathIn(
        (await client.call("spawn_instance", { ...input, goal: run(commit("x.md")) })).workspace,
      )
    // The caller's own wins; a project that is in one root alone is found from everywhere; without
    // a word it is the caller's only one.
    expect(await pathOf(here, { project: "shop", name: "near" })).toBe(world.projectOf("shop"))
    expect(await pathOf(there, { project: "shop", name: "far" })).toBe(
      join(other, "5-project-memory/shop"),
    )
    expect(await pathOf(here, { project: "blog", name: "across" })).toBe(
      join(other, "5-project-memory/blog"),
    )
    expect(await pathOf(alone, { name: "single" })).toBe(solo)
    for (const name of ["near", "far", "across", "single"]) await completed(here, name)
    for (const directory of [
      world.projectOf("shop"),
      join(other, "5-project-memory/shop"),
      join(other, "5-project-memory/blog"),
      solo,
    ])
      expect(git(directory, "log", "-1", "--format=%s")).toBe("Add x.md")

    // Remembered by the next serve; one that vanished is left out. A script that says no root is
    // asked which.
    process.kill(world.servePid(), "SIGTERM")
    await eventually(() => !existsSync(join(world.state, "serve.json")), "the end of serve")
    rmSync(solo, { recursive: true })
    await expect(here.call("spawn_instance", { project: "solo", dryRun: true })).rejects.toThrow(
      /no project solo/,
    )
    const serve = z
      .object({ url: z.string() })
      .parse(JSON.parse(readFileSync(join(world.state, "serve.json"), "utf8")))
    const token = readFileSync(join(world.state, "token"), "utf8").trim()
    const post = async (
      headers: Record<string, string>,
    ): Promise<{ status: number; text: string }> => {
      const body = JSON.stringify({ project: "shop", dryRun: true })
      const answer = await fetch(`${serve.url}/v1/instances`, {
        method: "POST",
        body,
        headers: {
          authorization: `Bearer ${token}`,
          "content-type": "application/json",
          ...headers,
        },
      })
      return { status: answer.status, text: await answer.text() }
    }
    const asked = await post({})
    expect(asked.status).toBe(409)
    expect(asked.text).toContain(other)
    expect(asked.text).toContain(world.codeRoot)
    expect((await post({ "x-blackbox5-code-root": encodeURIComponent(other) })).status).toBe(200)
    // What is no code root is not taken as one.
    for (const root of [world.state, "5-project-memory", "/nowhere"])
      expect((await post({ "x-blackbox5-code-root": encodeURIComponent(root) })).status).toBe(409)
  })
})
