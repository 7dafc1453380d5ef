import { once } from "node:events"
import { existsSync, readFileSync, writeFileSync } from "node:fs"
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { McpServer } from "@modelcontextprotocol/sdk/server/mcp.js"
import { StreamableHTTPServerTransport } from "@modelcontextprotocol/sdk/server/streamableHttp.js"
import { describe, expect, it } from "vitest"
import { z } from "zod"
import { parseYaml } from "../../src/settings/followed-file.ts"
import { outsideServersSchema } from "../../src/settings/outside-servers.ts"
import { type ModelRequest, say, use } from "../model/model.ts"
import { eventually, makeWorld, processesOf } from "./world.ts"

/**
 * MCP servers from outside: a file of named ones, which agents use, and whose secrets they do not
 * see.
 */

const program = fileURLToPath(new URL("../mcp-server/look.ts", import.meta.url))
/** As the file names a variable. */
const reference = (name: string): string => `$${`{${name}}`}`
const secret = "s3cret-of-the-shop"

/** A server over HTTP, which tells by which Authorization it was called. */
async function startHttp() {
  const http = createServer(async (request, response) => {
    const server = new McpServer({ name: "far", version: "1" })
    server.registerTool("look", { description: "Looks." }, () => ({
      content: [{ type: "text", text: `called with ${request.headers.authorization}` }],
    }))
    const transport = new StreamableHTTPServerTransport({})
    await server.connect(transport)
    await transport.handleRequest(request, response)
  })
  http.listen(0, "127.0.0.1")
  await once(http, "listening")
  return {
    // A TCP server's address is never a path.
    url: `http://127.0.0.1:${(http.address() as AddressInfo).port}/mcp/`,
    [Symbol.dispose]() {
      http.close()
      http.closeAllConnections()
    },
  }
}

describe("MCP servers from outside", () => {
  it("are the agents' tools, in the projects that get them; secrets stay with the supervisor, processes end with the iteration", async () => {
    using far = await startHttp()
    const results: string[] = []
    let first: ModelRequest | undefined
    const looks = ["plain", "behind", "far"].map((name) => ({
      name: `mcp__${name}__look`,
      input: {},
    }))
    await using world = await makeWorld(
      (request) => {
        first ??= request
        results.push(...request.toolResults.map(({ text }) => text))
        if (results.length === 0) return use(looks)
        if (results.length === 3)
          return use([
            { name: "Bash", input: { command: "env; tr '\\0' '\\n' < /proc/$PPID/environ" } },
          ])
        return existsSync(join(world.directory, "go"))
          ? say("<promise>COMPLETE</promise>")
          : use([{ name: "Bash", input: { command: "sleep 0.2" } }])
      },
      { env: { SHOP_TOKEN: secret } },
    )
    writeFileSync(
      join(world.env.BLACKBOX5_CONFIG ?? "", "mcp-servers.yaml"),
      JSON.stringify({
        servers: {
          plain: {
            command: process.execPath,
            args: [program, "{tree}"],
            env: { COLOUR: "green" },
            projects: ["shop"],
          },
          behind: {
            command: process.execPath,
            args: [program, "{project}"],
            env: { TOKEN: reference("SHOP_TOKEN") },
          },
          far: { url: far.url, headers: { Authorization: `Bearer ${reference("SHOP_TOKEN")}` } },
          elsewhere: { command: process.execPath, args: [program], projects: ["other"] },
          unset: {
            command: process.execPath,
            args: [program],
            env: { TOKEN: reference("NOBODY_SET_THIS") },
          },
        },
      }),
    )
    const { call } = await world.connect()
    const { uid } = await call("spawn_instance", { project: "shop", name: "one" })
    await eventually(() => results.length >= 4, "all were called", 90)

    // Each answers, from where it should be.
    const [plain = "", behind = "", overHttp = "", environment = ""] = results
    expect(JSON.parse(plain)).toMatchObject({
      args: [world.projectOf("shop")],
      env: { COLOUR: "green" },
    })
    expect(JSON.parse(behind)).toMatchObject({
      args: [world.projectOf("shop")],
      env: { TOKEN: secret },
    })
    expect(overHttp).toBe(`called with Bearer ${secret}`)
    expect(first?.tools.filter((name) => /^mcp__(?!blackbox5)/.test(name)).toSorted()).toEqual(
      looks.map(({ name }) => name).toSorted(),
    )
    const { events } = z
      .object({
        events: z.array(
          z.object({
            kind: z.string(),
            message: z.string().optional(),
            untrusted: z.string().optional(),
          }),
        ),
      })
      .parse(await call("read_events", { name: "one", kinds: ["Warning"] }))
    expect(JSON.stringify(events)).toContain("unset is left out: NOBODY_SET_THIS is not set")

    // The secret is with serve, its supervisor, and the program that uses it: not with the loop,
    // nor with what it started.
    expect(environment).toContain("BLACKBOX5_INSTANCE")
    expect(
      JSON.stringify(
        world.model.requests
          .filter(({ text }) => !text.includes("called with"))
          .map(({ body }) => body),
      ),
    ).not.toContain(secret)
    expect(environment).not.toContain(secret)
    const knowing = processesOf(world.directory).filter(
      ({ pid, command }) =>
        readFileSync(`/proc/${pid}/environ`, "latin1").includes(secret) || command.includes(secret),
    )
    const inside = knowing.filter(({ pid }) =>
      readFileSync(`/proc/${pid}/environ`, "latin1").includes("BLACKBOX5_INSTANCE="),
    )
    expect(inside.filter(({ command }) => !command.includes("look.ts"))).toEqual([])
    expect(
      knowing.filter(({ command }) => !/main\.js (serve|agent|mcp$)|look\.ts/.test(command.trim())),
    ).toEqual([])
    const bridged = knowing.filter(({ command }) => command.includes("look.ts"))
    expect(bridged).toHaveLength(1)
    const supervisor = z
      .object({ pid: z.number() })
      .parse(
        JSON.parse(readFileSync(join(world.runOf(String(uid)), "status/supervisor.json"), "utf8")),
      )
    expect(bridged[0]?.parent).toBe(supervisor.pid)

    // A pause stops it with everything else; the end of the iteration ends it.
    const stateOf = () =>
      processesOf(world.directory).find(({ pid }) => pid === bridged[0]?.pid)?.state
    await call("pause_instances", { names: ["one"] })
    await eventually(() => stateOf() === "T", "it stands still")
    await call("resume_instances", { names: ["one"] })
    writeFileSync(join(world.directory, "go"), "")
    await eventually(() => stateOf() === undefined, "it ended", 90)
    await eventually(
      async () => (await call("inspect_instance", { name: "one" })).phase === "Completed",
      "Completed",
      90,
    )
  }, 240_000)

  it("work as the example says: files of the tree that the agent works in", async () => {
    const example = parseYaml(
      outsideServersSchema,
      readFileSync("mcp-servers.example.yaml", "utf8"),
    )
    if ("refused" in example) throw new Error(example.refused)
    const { filesystem } = example.value.servers
    const results: string[] = []
    await using world = await makeWorld((request) => {
      results.push(...request.toolResults.map(({ text }) => text))
      return results.length > 0
        ? say("<promise>COMPLETE</promise>")
        : use([
            {
              name: "mcp__filesystem__directory_tree",
              input: { path: world.projectOf("shop"), excludePatterns: [".git"] },
            },
          ])
    })
    // The same program as `npx` would fetch, from where it is installed already.
    const installed = fileURLToPath(
      new URL("../../node_modules/.bin/mcp-server-filesystem", import.meta.url),
    )
    writeFileSync(
      join(world.env.BLACKBOX5_CONFIG ?? "", "mcp-servers.yaml"),
      JSON.stringify({
        servers: { filesystem: { command: installed, args: filesystem?.args.slice(2) } },
      }),
    )
    const { call } = await world.connect()
    await call("spawn_instance", { project: "shop", name: "one" })
    await eventually(() => results.length > 0, "an answer", 90)
    expect(results[0]).toContain("README.md")
  }, 120_000)

  it("go on in the same iteration when their supervisor is killed, and leave no process of before behind", async () => {
    const results: string[] = []
    await using world = await makeWorld(
      (request) => {
        results.push(...request.toolResults.map(({ text }) => text))
        if (existsSync(join(world.directory, "go"))) return say("<promise>COMPLETE</promise>")
        return use([
          { name: "mcp__behind__look", input: {} },
          { name: "Bash", input: { command: "sleep 0.2" } },
        ])
      },
      { env: { SHOP_TOKEN: secret } },
    )
    writeFileSync(
      join(world.env.BLACKBOX5_CONFIG ?? "", "mcp-servers.yaml"),
      JSON.stringify({
        servers: {
          behind: {
            command: process.execPath,
            args: [program],
            env: { TOKEN: reference("SHOP_TOKEN") },
          },
        },
      }),
    )
    const { call } = await world.connect()
    const { uid } = await call("spawn_instance", { project: "shop", name: "one" })
    const answered = (): number => results.filter((text) => text.includes(secret)).length
    await eventually(() => answered() > 0, "an answer", 90)
    const looks = (): number[] =>
      processesOf(world.directory).flatMap(({ pid, command }) =>
        command.includes("look.ts") ? [pid] : [],
      )
    const [before] = looks()
    const file = join(world.runOf(String(uid)), "status/supervisor.json")
    process.kill(
      z.object({ pid: z.number() }).parse(JSON.parse(readFileSync(file, "utf8"))).pid,
      "SIGKILL",
    )
    const then = answered()
    await eventually(() => answered() > then + 1, "answers again", 90)
    await eventually(
      () => looks().length === 1 && !looks().includes(before ?? 0),
      "one process, another one",
    )
    writeFileSync(join(world.directory, "go"), "")
    await eventually(
      async () => (await call("inspect_instance", { name: "one" })).phase === "Completed",
      "Completed",
      90,
    )
    expect(await call("inspect_instance", { name: "one" })).toMatchObject({
      usage: { iterations: 1 },
    })
    expect(looks()).toEqual([])
  }, 240_000)
})
