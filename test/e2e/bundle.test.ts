import { execFileSync } from "node:child_process"
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { join, sep } from "node:path"
import { fileURLToPath } from "node:url"
import { getMcpConfigForManifest, v0_3 } from "@anthropic-ai/mcpb"
import { Client } from "@modelcontextprotocol/sdk/client/index.js"
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js"
import { expect, it } from "vitest"
import { z } from "zod"
import { makeBundle } from "../../bundle/bundle.ts"
import { version } from "../../src/settings/version.ts"
import { say } from "../model/model.ts"
import { eventually, makeWorld, processesOf, type World } from "./world.ts"

/**
 * The bundle, as a person installs it: packed, validated and unpacked by the tool of its makers,
 * started as its manifest says.
 */

const mcpb = (...args: string[]): string =>
  execFileSync(
    process.execPath,
    [fileURLToPath(new URL("../../node_modules/.bin/mcpb", import.meta.url)), ...args],
    {
      encoding: "utf8",
    },
  )

async function install(world: World): Promise<string> {
  const packed = await makeBundle(join(world.directory, "out"))
  expect(packed).toBe(join(world.directory, "out", `blackbox5-${version}.mcpb`))
  const installed = join(world.directory, "Claude Extensions", "blackbox5")
  mcpb("unpack", packed, installed)
  return installed
}

/**
 * Starts the server of an unpacked bundle as an app does, which fills the placeholders that a
 * person gave values for.
 */
async function connect(
  world: World,
  installed: string,
  { flags = [], env = {} }: { flags?: readonly string[]; env?: Record<string, string> } = {},
): Promise<Client> {
  const manifest = v0_3.McpbManifestSchema.parse(
    JSON.parse(readFileSync(join(installed, "manifest.json"), "utf8")),
  )
  const config = await getMcpConfigForManifest({
    manifest,
    extensionPath: installed,
    systemDirs: { HOME: join(world.directory, "home") },
    userConfig: { code_root: world.codeRoot, state: world.state },
    pathSeparator: sep,
  })
  expect(config).toMatchObject({
    command: "node",
    args: [join(installed, "server/index.js")],
    // Nothing was given: apps leave the placeholder.
    env: {
      BLACKBOX5_CODE_ROOT: world.codeRoot,
      BLACKBOX5_URL: `\${user_config.url}`,
      BLACKBOX5_LOG: "info",
    },
  })
  const own = Object.entries(world.env).filter(([name]) => !name.startsWith("BLACKBOX5_"))
  const client = new Client({ name: "desktop", version: "1" })
  await client.connect(
    new StdioClientTransport({
      command: process.execPath,
      args: [...flags, ...(config?.args ?? [])],
      env: { ...Object.fromEntries(own), ...config?.env, ...env },
      // Apps start their servers anywhere.
      cwd: "/",
      stderr: "inherit",
    }),
  )
  return client
}

const served = (world: World) =>
  z
    .object({ entry: z.tuple([z.string(), z.string()]) })
    .parse(JSON.parse(readFileSync(join(world.state, "serve.json"), "utf8")))

it("validates, offers what its manifest says, and its agents outlive it", async () => {
  await using world = await makeWorld(() => say("Status: PARTIAL"))
  const installed = await install(world)
  expect(mcpb("validate", join(installed, "manifest.json"))).toContain("validation passes")
  const manifest = v0_3.McpbManifestSchema.parse(
    JSON.parse(readFileSync(join(installed, "manifest.json"), "utf8")),
  )
  expect(manifest).toMatchObject({ manifest_version: "0.3", name: "blackbox5", version })

  const client = await connect(world, installed)
  expect(client.getServerVersion()).toMatchObject({ name: "blackbox5", version })
  const { tools } = await client.listTools()
  expect(tools.map(({ name, description }) => ({ name, description }))).toEqual(manifest.tools)
  const { prompts } = await client.listPrompts()
  expect(prompts.map(({ name }) => name)).toEqual(manifest.prompts?.map(({ name }) => name))
  expect(manifest.prompts).toContainEqual(
    expect.objectContaining({
      name: "triage",
      arguments: ["name"],
      text: expect.stringContaining(`the agent \${arguments.name} is stuck`),
    }),
  )
  expect(await client.callTool({ name: "fleet_status", arguments: {} })).toMatchObject({
    structuredContent: { instances: { running: 0 } },
  })

  // What goes on without the app runs from a copy: an update or a removal takes the bundle's
  // directory away.
  const programs = join(world.directory, "home/.local/share/blackbox5")
  const [copy = ""] = readdirSync(programs)
  expect(copy).toMatch(new RegExp(`^${version}-[0-9a-f]{12}$`))
  expect(served(world).entry).toEqual([process.execPath, join(programs, copy, "main.js")])
  const spawned = await client.callTool({
    name: "spawn_instance",
    arguments: { project: "shop", name: "one", goal: "Write." },
  })
  expect(spawned.isError ?? false).toBe(false)
  await client.close()
  rmSync(installed, { recursive: true })
  const iterations = async (): Promise<number> => {
    const { stdout } = await world.cli("inspect-instance", "one", "--json")
    return z.object({ usage: z.object({ iterations: z.number() }) }).parse(JSON.parse(stdout)).usage
      .iterations
  }
  const before = await iterations()
  await eventually(async () => (await iterations()) >= before + 2, "two more iterations")
  const named = processesOf(world.directory).filter(({ command }) =>
    command.includes("Claude Extensions"),
  )
  expect(named).toEqual([])
})

it("starts its control plane under an installed node where the app's own program is none, from a copy that is whole", async () => {
  await using world = await makeWorld(() => say("unused"))
  const installed = await install(world)
  // As Claude Desktop runs it: in a process of Electron, whose program starts nothing, with
  // arguments of its own.
  const electron = join(world.directory, "electron.mjs")
  writeFileSync(
    electron,
    `Object.defineProperty(process, "versions", { value: { ...process.versions, electron: "39.0.0" } })
process.execPath = "/nowhere/Claude Helper"
process.argv = [process.execPath, "nodeHost.js"]
`,
  )
  const first = await connect(world, installed, { flags: ["--import", electron] })
  expect(await first.callTool({ name: "fleet_status", arguments: {} })).toMatchObject({
    structuredContent: { projects: [{ name: "shop" }] },
  })
  const [node, main] = served(world).entry
  expect(node).not.toContain("nowhere")
  expect(main).toContain("/.local/share/blackbox5/")
  await first.close()

  // A loss of power left a file without its content; serve is gone too.
  for (const { pid } of processesOf(world.directory)) process.kill(pid, "SIGKILL")
  writeFileSync(main, "")
  const second = await connect(world, installed)
  expect(await second.callTool({ name: "fleet_status", arguments: {} })).toMatchObject({
    structuredContent: { instances: { running: 0 } },
  })
  expect(readFileSync(main)).toEqual(readFileSync(join(installed, "server/main.js")))
  await second.close()
})

it("says where the program could not be copied to", async () => {
  await using world = await makeWorld(() => say("unused"))
  const installed = await install(world)
  writeFileSync(join(world.directory, "file"), "")
  const client = await connect(world, installed, {
    env: { XDG_DATA_HOME: join(world.directory, "file") },
  })
  expect(await client.callTool({ name: "fleet_status", arguments: {} })).toMatchObject({
    isError: true,
    content: [
      {
        text: expect.stringMatching(
          /could not be copied to .*file\/blackbox5.* Next: .*XDG_DATA_HOME/s,
        ),
      },
    ],
  })
  expect(existsSync(join(world.state, "serve.json"))).toBe(false)
  await client.close()
})
