import { execFileSync, spawn } from "node:child_process"
import { mkdirSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { pathToFileURL } from "node:url"
import { Client } from "@modelcontextprotocol/sdk/client/index.js"
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js"
import { describe, expect, it, vi } from "vitest"
import { z } from "zod"
import { type ModelRequest, say, use } from "../model/model.ts"
import { git } from "./code-root.ts"
import { eventually, main, makeWorld } from "./world.ts"

/** Two whole agents in each test, and other tests beside them. */
vi.setConfig({ testTimeout: 240_000 })

/**
 * A fleet whose every directory has a name that means something else to a URL, a shell, PATH or a
 * file of git.
 */

const commit =
  'cd "$RALF_PROJECT_DIR" && echo text > "$(basename "$PWD").md" && git add -A && git commit -q -m "Add a file"'
const bash = (command: string) =>
  use([{ name: "Bash", input: { command, description: "as told" } }])

const reports = z.object({
  findings: z.array(z.object({ check: z.string(), state: z.string(), what: z.string() })),
})

const oddName = "ein é # : % ? ' \" & $x `y` %41 [z]"

describe.each([
  ["spaces, umlauts, quotes and what URLs, shells and PATH read otherwise", oddName, ""],
  [
    "a state directory whose socket's path is too long",
    "a long one",
    `/${"state ".repeat(20)}/${"x".repeat(100)}`,
  ],
])("with %s", (_, under, deep) => {
  it.each(["auto", "off"])(
    "agents work, from their spawn to commit and mail (isolation: %s)",
    async (isolation) => {
      const script = ({ toolResults, text }: ModelRequest) => {
        if (toolResults.length === 0) return bash(commit)
        return text.includes("use euros")
          ? say("Done.\n<promise>COMPLETE</promise>")
          : bash("sleep 0.2")
      }
      // Its directory's name is no valid project name.
      const directory = "Mein Projekt: é #1 %41?"
      await using world = await makeWorld(script, { projects: [directory], under })
      // What is cloned comes from such a directory, and goes into one.
      const upstream = join(world.directory, under, "upstream")
      git(
        world.directory,
        "clone",
        "--quiet",
        "--bare",
        world.projectOf(directory),
        join(upstream, "acme/tool.git"),
      )
      world.policy(
        `isolation: ${isolation}\nrepositories: ${JSON.stringify(`${pathToFileURL(upstream)}/`)}\n`,
      )
      const state = world.state + deep
      mkdirSync(state, { recursive: true, mode: 0o700 })
      Object.assign(world.env, {
        BLACKBOX5_STATE: state,
        XDG_RUNTIME_DIR: join(world.directory, "run"),
      })
      mkdirSync(join(world.directory, "run"), { mode: 0o700 })

      const { call } = await world.connect()
      const projects = z
        .array(z.object({ name: z.string() }))
        .parse((await call("fleet_status", {})).projects)
      expect(projects.map(({ name }) => name)).toEqual(["mein-projekt-e-1-41"])
      const [project] = projects.map(({ name }) => name)

      // The first works in the person's tree, the second in a tree of its own, the third in one of
      // a clone.
      const names = ["one", "two", "three"]
      for (const name of names.slice(0, 2))
        await call("spawn_instance", { project, name, goal: "Add a file." })
      await call("spawn_instance", { repository: "acme/tool", name: "three", goal: "Add a file." })
      const committed = (at: string, ref: string): boolean =>
        git(at, "log", "-1", "--format=%s", ref) === "Add a file"
      const own = world.projectOf(directory)
      const clone = join(state, "clones/acme/tool.git")
      await eventually(
        () =>
          committed(own, "main") && committed(own, "ralf/two") && committed(clone, "ralf/three"),
        "all commits",
        120,
      )
      const sent = await call("message_instances", {
        to: names,
        text: "Please use euros.",
        urgency: "now",
        waitSeconds: 50,
      })
      expect(sent.receipts).toMatchObject(names.map(() => ({ state: "delivered" })))
      const completed = await call("wait_for_instances", {
        names,
        until: "finished",
        timeoutSeconds: 50,
      })
      expect(completed.instances).toMatchObject(names.map(() => ({ phase: "Completed" })))

      const looked = reports.parse(
        JSON.parse((await world.cli("doctor", "--json")).stdout),
      ).findings
      expect(looked.find(({ check }) => check === "socket")).toMatchObject({
        state: "ok",
        what: expect.stringContaining("accepts"),
      })
      const removed = await world.cli("stop-instances", ...names, "--remove", "--json")
      expect(removed.code).toBe(0)
      await eventually(async () => (await call("list_instances", {})).total === 0, "the removal")
    },
  )
})

const entriesSchema = z.object({
  mcpServers: z.object({
    blackbox5: z.looseObject({
      command: z.string(),
      args: z.array(z.string()),
      env: z.record(z.string(), z.string()),
    }),
  }),
})

describe("the lines that serve prints", () => {
  it("connect clients to a fleet with such directories, from any shell", async () => {
    await using world = await makeWorld(() => say("unused"), { under: oddName })
    const serve = spawn(process.execPath, [main, "serve"], {
      env: { ...world.env, BLACKBOX5_PORT: "0" },
      cwd: world.codeRoot,
    })
    const home = world.env.HOME ?? ""
    let printed = ""
    serve.stdout.setEncoding("utf8").on("data", (more: string) => {
      printed += more
    })
    const lineOf = (client: string): string | undefined =>
      new RegExp(`^ +(.* connect ${client}.*)$`, "m").exec(printed)?.[1]
    await eventually(() => lineOf("claude-desktop"), "the lines")
    // A shell of the same user, in which nothing of ours is set.
    const env = Object.fromEntries(
      Object.entries(world.env).filter(([name]) => !name.startsWith("BLACKBOX5_")),
    )
    for (const client of ["claude-code", "claude-desktop"])
      execFileSync("sh", ["-c", lineOf(client) ?? "false"], { env, cwd: "/", stdio: "pipe" })

    const wanted = {
      BLACKBOX5_CODE_ROOT: world.codeRoot,
      BLACKBOX5_STATE: world.state,
      BLACKBOX5_CONFIG: world.env.BLACKBOX5_CONFIG,
    }
    for (const file of [".claude.json", ".config/Claude/claude_desktop_config.json"]) {
      const { blackbox5 } = entriesSchema.parse(
        JSON.parse(readFileSync(join(home, file), "utf8")),
      ).mcpServers
      expect(blackbox5.env).toEqual(wanted)
      const client = new Client({ name: "paths", version: "1" })
      await client.connect(
        new StdioClientTransport({
          ...blackbox5,
          env: { ...env, ...blackbox5.env },
          cwd: "/",
          stderr: "inherit",
        }),
      )
      const status = await client.callTool({ name: "fleet_status", arguments: {} })
      expect(status.structuredContent).toMatchObject({ projects: [{ name: "shop" }] })
      await client.close()
    }
    expect(world.servePid()).toBe(serve.pid)
  })
})
