import { execFile } from "node:child_process"
import { mkdirSync, readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { describe, expect, it } from "vitest"
import { z } from "zod"
import { tools } from "../../tools/index.ts"
import { type ModelRequest, type Reply, say, use } from "../model/model.ts"
import { makeWorld, type World } from "./world.ts"

const checkout = fileURLToPath(new URL("../..", import.meta.url))

/** The real claude, in the checkout, whose `.mcp.json` it finds. */
const claude = (world: World, ...args: string[]): Promise<{ stdout: string; code: number }> =>
  new Promise((resolve) => {
    const child = execFile(
      join(checkout, "node_modules/.bin/claude"),
      args,
      // Claude waits 2 s for its servers by default, and then asks the model without their tools.
      // With this it waits for them.
      { env: { ...world.env, MCP_CONNECTION_NONBLOCKING: "0" }, cwd: checkout },
      (_error, stdout) => resolve({ stdout, code: child.exitCode ?? -1 }),
    )
    child.stdin?.end()
  })

describe("the real Claude Code as the client", () => {
  it("connects through .mcp.json", async () => {
    await using world = await makeWorld(() => say("unused"))
    // A person approves a project's servers once; this is that approval.
    mkdirSync(join(world.env.HOME ?? "", ".claude"), { recursive: true })
    writeFileSync(
      join(world.env.HOME ?? "", ".claude/settings.json"),
      JSON.stringify({ enableAllProjectMcpServers: true }),
    )
    const { stdout } = await claude(world, "mcp", "list")
    expect(stdout).toMatch(/blackbox5: .* Connected/)
  })

  it("connects over HTTP with a header, calls, and is told the same", async () => {
    const results: string[] = []
    let system = ""
    await using world = await makeWorld((request) => {
      system ||= request.text
      if (request.toolResults.length > 0)
        results.push(request.toolResults.map(({ text }) => text).join("\n"))
      return results.length === 0
        ? use([{ name: "mcp__fleet__fleet_status", input: {} }])
        : say("Nobody works.")
    })
    await world.cli("fleet-status") // serve is started by the first call
    const served = z
      .object({ url: z.string() })
      .parse(JSON.parse(readFileSync(join(world.state, "serve.json"), "utf8")))
    const header = `Authorization: Bearer ${readFileSync(join(world.state, "token"), "utf8").trim()}`
    await claude(
      world,
      "mcp",
      "add",
      "--transport",
      "http",
      "--scope",
      "user",
      "fleet",
      `${served.url}/mcp`,
      "--header",
      header,
    )
    const { stdout: listed } = await claude(world, "mcp", "list")
    expect(listed).toMatch(/fleet: .*\(HTTP\).* Connected/)
    const { stdout, code } = await claude(
      world,
      "-p",
      "Who works?",
      "--dangerously-skip-permissions",
    )
    expect({ stdout: stdout.trim(), code }).toEqual({ stdout: "Nobody works.", code: 0 })
    expect(JSON.parse(results[0] ?? "")).toMatchObject({
      headline: expect.stringContaining("No agents"),
    })
    expect(system).toContain("Blackbox5 runs a fleet of RALF agents")
  })

  it("stops all by their count where nobody can be asked, as in -p", async () => {
    const results: string[] = []
    await using world = await makeWorld((request) => {
      if (request.toolResults.length > 0)
        results.push(request.toolResults.map(({ text }) => text).join("\n"))
      return results.length > 0
        ? say("Done.")
        : use([
            {
              name: "mcp__blackbox5__stop_instances",
              input: { all: true, remove: true, expect: 0 },
            },
          ])
    })
    const { stdout, code } = await claude(
      world,
      "-p",
      "Remove all agents.",
      "--dangerously-skip-permissions",
    )
    expect({ stdout: stdout.trim(), code }).toEqual({ stdout: "Done.", code: 0 })
    expect(JSON.parse(results[0] ?? "")).toMatchObject({
      count: 0,
      next: expect.stringContaining("No instance matches"),
    })
  })

  it("spawns, inspects and messages an agent, and finds what it needs in structuredContent", async () => {
    const results: string[] = []
    const steps: readonly ((previous: string) => Reply)[] = [
      () => use([{ name: "mcp__blackbox5__fleet_status", input: {} }]),
      () =>
        use([
          {
            name: "mcp__blackbox5__spawn_instance",
            input: { project: "shop", goal: "Sell things.", model: "claude-sonnet-4-5" },
          },
        ]),
      () =>
        use([
          {
            name: "mcp__blackbox5__message_instances",
            input: { to: ["shop-1"], text: "Please use euros.", urgency: "now", waitSeconds: 40 },
          },
        ]),
      () => use([{ name: "mcp__blackbox5__inspect_instance", input: { name: "shop-1" } }]),
      () => use([{ name: "mcp__blackbox5__inspect_instance", input: { name: "nobody" } }]),
      () => say("The agent works."),
    ]
    let operators: ModelRequest | undefined
    await using world = await makeWorld((request) => {
      if (request.text.includes("You are RALF"))
        return request.text.includes("use euros")
          ? say("Status: PARTIAL")
          : use([{ name: "Bash", input: { command: "sleep 0.2" } }])
      operators ??= request
      if (request.toolResults.length > 0)
        results.push(request.toolResults.map(({ text }) => text).join("\n"))
      return steps[results.length]?.(results.at(-1) ?? "") ?? say("too far")
    })
    const { stdout, code } = await claude(
      world,
      "-p",
      "Start an agent on shop and tell it to use euros.",
      "--dangerously-skip-permissions",
    )
    expect({ stdout: stdout.trim(), code }).toEqual({ stdout: "The agent works.", code: 0 })

    // The tools are there for the model, and it is told when to use them.
    expect(
      operators?.tools.filter((name) => name.startsWith("mcp__blackbox5__")).toSorted(),
    ).toEqual(
      tools
        .flatMap(({ name, toolset }) => (toolset === "admin" ? [] : [`mcp__blackbox5__${name}`]))
        .toSorted(),
    )
    const [status, spawned, messaged, inspected, missing] = results
    expect(JSON.parse(status ?? "")).toMatchObject({
      headline: expect.stringContaining("No agents"),
      turns: { used: 0, max: 4 },
    })
    expect(JSON.parse(spawned ?? "")).toMatchObject({
      name: "shop-1",
      phase: "Starting",
      next: expect.stringContaining("shop-1"),
    })
    expect(JSON.parse(messaged ?? "")).toMatchObject({
      receipts: [
        { to: "shop-1", state: "delivered", note: expect.stringContaining("iteration 1") },
      ],
    })
    const seen = z
      .object({ phase: z.string(), why: z.string(), fix: z.string() })
      .parse(JSON.parse(inspected ?? ""))
    expect(seen.phase).toBe("Running")
    expect(seen.why).toMatch(/iteration/i)
    // Of an error the model reads the text alone: what, and what to do.
    expect(missing).toMatch(/no instance nobody/)
    expect(missing).toMatch(/list_instances/)
  })
})
