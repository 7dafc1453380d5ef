import { execFile } from "node:child_process"
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs"
import { dirname, join } from "node:path"
import { Client } from "@modelcontextprotocol/sdk/client/index.js"
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js"
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest"
import { z } from "zod"
import { claudeDesktopFile } from "../../src/settings/config.ts"
import { say } from "../model/model.ts"
import { main, makeWorld, type World } from "./world.ts"

const entrySchema = z.object({
  command: z.string(),
  args: z.array(z.string()),
  env: z.record(z.string(), z.string()),
})
const knownSchema = z.object({ mcpServers: z.record(z.string(), z.unknown()) })

describe("connect", () => {
  let world: World
  let home: string
  let count = 0
  beforeAll(async () => {
    world = await makeWorld(() => say("unused"))
  })
  afterAll(() => world[Symbol.asyncDispose]())
  beforeEach(() => {
    home = join(world.directory, `home of o'me ${++count}`)
    mkdirSync(home)
  })
  /** As a person with a home of its own types it; without settings unless they are given. */
  const connect = (args: readonly string[], more: Record<string, string> = {}) =>
    new Promise<{ code: number; stdout: string; stderr: string }>((resolve) => {
      const plain = Object.fromEntries(
        Object.entries(world.env).filter(([name]) => !/^(BLACKBOX5|XDG)/.test(name)),
      )
      const env = { ...plain, HOME: home, ...more }
      const child = execFile(
        process.execPath,
        [main, "connect", ...args],
        { env, cwd: home },
        (_error, stdout, stderr) => resolve({ code: child.exitCode ?? -1, stdout, stderr }),
      )
    })
  const claudeKnows = (): Record<string, unknown> =>
    knownSchema.parse(JSON.parse(readFileSync(join(home, ".claude.json"), "utf8"))).mcpServers
  const usual = { command: process.execPath, args: [main, "mcp"] }

  it("makes Claude Code know this program by absolute paths and with its settings, and again with others", async () => {
    const settings = {
      BLACKBOX5_STATE: join(home, "state of $me"),
      BLACKBOX5_CONFIG: join(home, "config"),
    }
    const said = await connect(["claude-code", "--code-root", world.codeRoot], settings)
    expect(said).toMatchObject({ code: 0, stderr: "" })
    expect(said.stdout).toContain('Then start a new session of Claude Code and ask: "')
    const env = { ...settings, BLACKBOX5_CODE_ROOT: world.codeRoot }
    expect(claudeKnows()).toEqual({ blackbox5: { type: "stdio", ...usual, env } })
    // Settings that say the default are none.
    const again = await connect(["claude-code"], {
      BLACKBOX5_STATE: join(home, ".local/state/blackbox5"),
      BLACKBOX5_LOG: "debug",
    })
    expect(again).toMatchObject({ code: 0, stderr: "" })
    expect(claudeKnows()).toEqual({ blackbox5: { type: "stdio", ...usual, env: {} } })
  }, 120_000)

  it("writes into the scope that is asked for, and nothing in a dry run", async () => {
    const dry = await connect(["claude-code", "--scope", "project", "--dry-run"])
    expect(dry.stdout).toMatch(/mcp add --scope project blackbox5 -- \S+ \S+ mcp\n$/)
    expect(existsSync(join(home, ".mcp.json"))).toBe(false)
    await connect(["claude-code", "--scope", "project"])
    expect(JSON.parse(readFileSync(join(home, ".mcp.json"), "utf8"))).toEqual({
      mcpServers: { blackbox5: { type: "stdio", ...usual, env: {} } },
    })
  })

  it("says what to do where there is no claude, or one that takes nothing, and uses the policy's", async () => {
    const bare = { PATH: "/usr/bin:/bin" }
    expect(await connect(["claude-code"], bare)).toMatchObject({
      code: 1,
      stdout: "",
      stderr: expect.stringMatching(/`claude` is not on the PATH.*\nnext: Install it/),
    })
    const other = join(home, "claude of mine")
    writeFileSync(other, `#!/bin/sh\necho "no room for $3" >&2\nexit 3\n`)
    chmodSync(other, 0o700)
    mkdirSync(join(home, ".config/blackbox5"), { recursive: true })
    writeFileSync(join(home, ".config/blackbox5/policy.yaml"), `claude: ${JSON.stringify(other)}\n`)
    const refused = await connect(["claude-code"], bare)
    expect(refused).toMatchObject({
      code: 1,
      stderr: expect.stringContaining("no room for --scope"),
    })
  })

  const desktop = (): string => join(home, ".config/Claude/claude_desktop_config.json")
  const desktopHas = (): unknown => JSON.parse(readFileSync(desktop(), "utf8"))

  it("makes Claude Desktop know it, which then finds the fleet from anywhere", async () => {
    const settings = {
      BLACKBOX5_STATE: world.state,
      BLACKBOX5_CONFIG: join(world.directory, "config"),
    }
    const said = await connect(["claude-desktop", "--code-root", world.codeRoot], settings)
    expect(said).toMatchObject({ code: 0, stderr: "" })
    const { blackbox5 } = z
      .object({ mcpServers: z.object({ blackbox5: entrySchema }) })
      .parse(desktopHas()).mcpServers
    expect(blackbox5).toEqual({
      ...usual,
      env: { ...settings, BLACKBOX5_CODE_ROOT: world.codeRoot },
    })
    const client = new Client({ name: "desktop", version: "1" })
    const env = { HOME: world.env.HOME ?? "", PATH: "/usr/bin:/bin", ...blackbox5.env }
    await client.connect(
      new StdioClientTransport({ ...blackbox5, env, cwd: "/", stderr: "inherit" }),
    )
    const status = await client.callTool({ name: "fleet_status", arguments: {} })
    await client.close()
    expect(status).toMatchObject({
      structuredContent: { projects: [{ name: "shop", instances: 0 }] },
    })
  })

  it("keeps what else is there, its mode, its link, and a copy of before; and writes nothing twice", async () => {
    const real = join(home, "dotfiles.json")
    const before = `{"theme": "dark",\n "mcpServers": {"other": {"command": "x", "args": []}, "blackbox5": {"command": "old"}}, "n": 1}`
    writeFileSync(real, before, { mode: 0o640 })
    mkdirSync(dirname(desktop()), { recursive: true })
    symlinkSync(real, desktop())
    const said = await connect(["claude-desktop", "--code-root", world.codeRoot])
    const entry = { ...usual, env: { BLACKBOX5_CODE_ROOT: world.codeRoot } }
    expect(desktopHas()).toEqual({
      theme: "dark",
      mcpServers: { other: { command: "x", args: [] }, blackbox5: entry },
      n: 1,
    })
    expect(statSync(real).mode & 0o777).toBe(0o640)
    const files = () => readdirSync(home).filter((name) => name.startsWith("dotfiles.json"))
    const backup = files().find((name) => name.endsWith(".bak")) ?? "none"
    expect(said.stdout).toContain(backup)
    expect(readFileSync(join(home, backup), "utf8")).toBe(before)
    const again = await connect(["claude-desktop", "--code-root", world.codeRoot])
    expect(again.stdout).toContain("Nothing was changed")
    expect(files()).toHaveLength(2)
  })

  it("changes nothing in a file that is not what Claude Desktop writes, nor in a dry run", async () => {
    mkdirSync(dirname(desktop()), { recursive: true })
    for (const text of [
      '{"mcpServers": {',
      "[]",
      '"text"',
      '{"mcpServers": []}',
      '{"mcpServers": "x"}',
    ]) {
      writeFileSync(desktop(), text)
      const said = await connect(["claude-desktop"])
      expect([text, said]).toEqual([
        text,
        {
          code: 1,
          stdout: "",
          stderr: expect.stringMatching(
            /(is not JSON|JSON object).*\nnext: Nothing was changed\. Fix the file/,
          ),
        },
      ])
      expect(readFileSync(desktop(), "utf8")).toBe(text)
    }
    writeFileSync(desktop(), "")
    expect((await connect(["claude-desktop", "--dry-run"])).stdout).toContain("Would add")
    expect(readFileSync(desktop(), "utf8")).toBe("")
    expect(readdirSync(dirname(desktop()))).toEqual(["claude_desktop_config.json"])
    expect(await connect(["claude-desktop"])).toMatchObject({
      code: 0,
      stdout: expect.stringContaining("no code root"),
    })
  })

  it("is told apart from a mistake in how it was called", async () => {
    for (const args of [
      [],
      ["cursor"],
      ["claude-code", "more"],
      ["claude-code", "--scope", "all"],
      ["claude-code", "--nonsense"],
    ])
      expect([args, await connect(args)]).toEqual([
        args,
        { code: 2, stdout: "", stderr: expect.stringContaining("usage: blackbox5 connect") },
      ])
    expect(await connect(["claude-code"], { BLACKBOX5_URL: "http://127.0.0.1:1" })).toMatchObject({
      ...{ code: 1, stdout: "" },
      stderr: expect.stringContaining("without BLACKBOX5_URL"),
    })
    expect(await connect(["--help"])).toMatchObject({
      code: 0,
      stdout: expect.stringContaining("usage: blackbox5 connect"),
    })
  })

  it("knows where Claude Desktop keeps its settings", () => {
    expect(claudeDesktopFile({}, "darwin")).toMatch(
      /\/Library\/Application Support\/Claude\/claude_desktop_config\.json$/,
    )
    expect(claudeDesktopFile({ XDG_CONFIG_HOME: "/x" }, "darwin")).not.toContain("/x/")
    expect(claudeDesktopFile({ XDG_CONFIG_HOME: "/x" }, "linux")).toBe(
      "/x/Claude/claude_desktop_config.json",
    )
    expect(claudeDesktopFile({}, "linux")).toMatch(
      /\/\.config\/Claude\/claude_desktop_config\.json$/,
    )
  })
})
