import { existsSync, readdirSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { describe, expect, it, vi } from "vitest"
import { z } from "zod"
import { unfenced, withoutFences } from "../../src/roles/fence.ts"
import { type ModelRequest, say, use } from "../model/model.ts"
import { git, type Layout } from "./code-root.ts"
import { eventually, type McpClient, makeWorld, type World } from "./world.ts"

/**
 * Removed instances whose trees are kept, and those whose trees are not: the real loop and claude,
 * the MCP client, the command line.
 */

vi.setConfig({ testTimeout: 240_000 })

const obedient = (request: ModelRequest) => {
  const [, command] = /RUN<<(.*?)>>/s.exec(request.text) ?? []
  if (command === undefined || request.toolResults.length > 0)
    return say("All done.\n<promise>COMPLETE</promise>")
  return use([
    {
      name: "Bash",
      input: { command: `cd "$RALF_PROJECT_DIR"; ${command}`, description: "as told" },
    },
  ])
}
/** An instance in a tree of its own that does what the command says; its tree. */
async function spawn({ call }: McpClient, name: string, command: string): Promise<string> {
  const goal = `Do this. RUN<<${command}>>`
  const { workspace } = await call("spawn_instance", {
    name,
    project: "shop",
    workspace: "worktree",
    goal,
  })
  return pathIn(workspace)
}
const pathIn = (workspace: unknown): string =>
  unfenced(
    z.looseObject({ untrusted: z.looseObject({ path: z.string() }) }).parse(workspace).untrusted
      .path,
  )
const completed = ({ call }: McpClient, name: string): Promise<unknown> =>
  eventually(
    async () => (await call("inspect_instance", { name })).phase === "Completed",
    `${name} completes`,
    200,
  )
/** What the answer itself says of each. */
async function remove({ call }: McpClient, ...names: string[]): Promise<string[]> {
  const { instances } = await call("stop_instances", { names, remove: true })
  return z
    .array(z.looseObject({ why: z.string(), untrusted: z.string().optional() }))
    .parse(instances)
    .map(({ why, untrusted }) => (untrusted === undefined ? why : unfenced(untrusted)))
}
const listSchema = z.looseObject({
  trees: z.array(
    z.looseObject({ name: z.string(), bytes: z.number().optional(), instance: z.string() }),
  ),
  removals: z.array(
    z.object({
      name: z.string(),
      removed: z.boolean(),
      why: z.string(),
      untrusted: z.string().optional(),
    }),
  ),
})
async function trees(world: World, ...flags: string[]): Promise<z.output<typeof listSchema>> {
  const { code, stdout, stderr } = await world.cli("trees", ...flags, "--json")
  expect({ code, stderr }).toEqual({ code: 0, stderr: "" })
  return listSchema.parse(
    withoutFences(z.record(z.string(), z.unknown()).parse(JSON.parse(stdout))),
  )
}
const treesIn = (world: World): string[] => readdirSync(join(world.state, "trees"))

describe("a removed instance", () => {
  it.each<Layout>(["engine", "projects"])(
    "leaves no tree for what the loop itself wrote: %s",
    async (layout) => {
      await using world = await makeWorld(obedient, { layout })
      const client = await world.connect()
      const path = await spawn(client, "idle", "true")
      await completed(client, "idle")
      const logs = join(
        path,
        layout === "engine" ? "5-project-memory/shop" : "",
        ".autonomous/LOGS",
      )
      expect(readdirSync(logs)).not.toEqual([])
      expect(existsSync(join(path, "2-engine/.autonomous/.Autonomous/telemetry"))).toBe(
        layout === "engine",
      )
      expect(await remove(client, "idle")).toEqual(["idle was removed."])
      expect(treesIn(world)).toEqual([])
      expect((await world.cli("trees")).stdout).toMatch(/Nothing is kept/)
    },
  )

  it("is answered for when its last process has ended, and its tree is listed until its work is elsewhere", async () => {
    await using world = await makeWorld(obedient)
    const shop = world.projectOf("shop")
    const client = await world.connect()
    const inner =
      "mkdir -p .autonomous/LOGS/x && cd .autonomous/LOGS/x && git init -q && git commit -q --allow-empty -m Inner"
    const hidden = await spawn(client, "hidden", inner)
    await completed(client, "hidden")
    // It writes while it is being ended.
    const late = await spawn(
      client,
      "late",
      "trap 'echo text > late.md; exit' TERM; touch begun; while :; do sleep 0.05; done",
    )
    await eventually(() => existsSync(join(late, "begun")), "the command runs")
    const done = await spawn(
      client,
      "done",
      "echo text > done.md; git add done.md; git commit -q -m Done",
    )
    await completed(client, "done")

    // What lives is ended, and answered for, first.
    const [ofLate = "", ofHidden = "", ofDone = ""] = await remove(client, "hidden", "late", "done")
    expect(ofHidden).toMatch(
      /Kept: its tree .* the repository \.autonomous\/LOGS\/x in it has 1 commit that no remote has\.$/,
    )
    expect(ofLate).toMatch(/Kept: its tree .* not committed \(begun, late\.md\)\.$/)
    expect(ofDone).toMatch(/Kept: branch ralf\/done in .*, with 1 commit\.$/)
    await eventually(async () => (await client.call("list_instances")).total === 0, "all are gone")

    const nameOf = (path: string): string => path.split("/").at(-1) ?? ""
    const kept = (await trees(world)).trees
    expect(kept.map(({ instance }) => instance).toSorted()).toEqual(["done", "hidden", "late"])
    expect(kept.find(({ instance }) => instance === "late")).toMatchObject({
      name: nameOf(late),
      untrusted: { path: late, branch: "ralf/late" },
    })
    const table = (await world.cli("trees")).stdout
    expect(table).toMatch(/NAME .*SIZE .*WHY/)

    // What is merged goes; what is nowhere else stays, until it is named with --force.
    git(shop, "merge", "-q", "ralf/done")
    const merged = await trees(world, "--merged")
    expect(merged.removals.filter(({ removed }) => removed)).toEqual([
      { name: nameOf(done), removed: true, why: "It had no work in it." },
    ])
    expect(git(shop, "branch", "--list", "ralf/done")).toBe("")
    const named = await trees(world, nameOf(late))
    expect(named.removals).toMatchObject([
      {
        removed: false,
        why: expect.stringMatching(/--force/),
        untrusted: expect.stringMatching(/late\.md/),
      },
    ])
    expect(existsSync(join(late, "late.md"))).toBe(true)
    const forced = await trees(world, nameOf(late), "--force")
    expect(forced.removals).toMatchObject([
      { removed: true, untrusted: expect.stringMatching(/^Lost: .*late\.md/) },
    ])
    expect(forced.trees.map(({ instance }) => instance)).toEqual(["hidden"])
    expect(treesIn(world)).toEqual([nameOf(hidden)])
    expect((await world.cli("trees", "--force")).stderr).toMatch(/needs names/)

    const audit = (await world.cli("audit", "--tool", "trees")).stdout
    expect(audit).toContain(nameOf(late))
  })

  it("has no say over a person's tree on a disk that is not there now", async () => {
    await using world = await makeWorld(obedient)
    const shop = world.projectOf("shop")
    git(shop, "worktree", "add", "-q", "-b", "mine", join(world.directory, "disk"))
    const entries = join(shop, ".git/worktrees")
    writeFileSync(join(entries, "disk/gitdir"), join(world.directory, "unplugged/.git\n"))
    const client = await world.connect()
    await spawn(client, "brief", "true")
    await completed(client, "brief")
    expect(await remove(client, "brief")).toEqual(["brief was removed."])
    expect(readdirSync(entries)).toEqual(["disk"])
  })
})
