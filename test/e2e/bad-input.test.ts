import { execFile, spawn } from "node:child_process"
import { createHash } from "node:crypto"
import { once } from "node:events"
import {
  accessSync,
  chmodSync,
  constants,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from "node:fs"
import { request } from "node:http"
import { type AddressInfo, createServer, type Server } from "node:net"
import { tmpdir } from "node:os"
import { delimiter, dirname, join } from "node:path"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest"
import { z } from "zod"
import { createHints } from "../../src/roles/hints.ts"
import { tools } from "../../tools/index.ts"
import { type ModelRequest, say, use } from "../model/model.ts"
import { makeCodeRoot } from "./code-root.ts"
import { eventually, type McpClient, main, makeWorld, processesOf, type World } from "./world.ts"

/** A claude that a test can take away: the only one on the PATH of its world. */
const realClaude = fileURLToPath(new URL("../../node_modules/.bin/claude", import.meta.url))
const bins: string[] = []
function removableClaude(): { PATH: string; remove(): void; bring(): void } {
  const bin = mkdtempSync(join(tmpdir(), "bb5-bin-"))
  bins.push(bin)
  const others = (process.env.PATH ?? "").split(delimiter).filter((entry) => {
    try {
      accessSync(join(entry, "claude"), constants.X_OK)
      return false
    } catch {
      return entry !== ""
    }
  })
  const path = join(bin, "claude")
  const bring = (): void => symlinkSync(realClaude, path)
  bring()
  return {
    PATH: [bin, dirname(process.execPath), ...others]
      .filter(unlike(dirname(realClaude)))
      .join(delimiter),
    remove: () => rmSync(path),
    bring,
  }
}
const unlike = (one: string) => (other: string) => one !== other
afterAll(() => {
  for (const bin of bins) rmSync(bin, { recursive: true })
})

interface Ran {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}
/** The bundle as a command, from a directory that stays. */
const run = (
  world: World,
  args: readonly string[],
  env: Record<string, string> = {},
): Promise<Ran> =>
  new Promise((resolve) => {
    const child = execFile(
      process.execPath,
      [main, ...args],
      { env: { ...world.env, ...env }, cwd: world.directory },
      (_error, stdout, stderr) => resolve({ code: child.exitCode ?? -1, stdout, stderr }),
    )
  })
/** What stands behind `error:` and `next:`, below log lines. */
const toldBy = ({ stderr }: Ran): { message: string; next: string } => {
  const [, message = "", next = ""] =
    /^error: ((?:.|\n)*?)\nnext: ((?:.|\n)*?)\n$/m.exec(stderr) ?? []
  return { message, next }
}

interface Answer {
  readonly status: number
  readonly json: unknown
}
const errorSchema = z.object({
  error: z.object({ code: z.string(), message: z.string(), next: z.string() }),
})
const rest = (
  world: World,
  door: "socket" | "tcp",
  method: string,
  path: string,
  body?: string,
): Promise<Answer> =>
  new Promise((resolve, reject) => {
    const { url } = z
      .object({ url: z.string() })
      .parse(JSON.parse(readFileSync(join(world.state, "serve.json"), "utf8")))
    const call = request({
      ...(door === "socket"
        ? { socketPath: join(world.state, "serve.sock") }
        : { host: "127.0.0.1", port: new URL(url).port }),
      method,
      path,
      agent: false,
      headers: {
        ...(door === "tcp" && {
          authorization: `Bearer ${readFileSync(join(world.state, "token"), "utf8").trim()}`,
        }),
        ...(body !== undefined && {
          "content-type": "application/json",
          "content-length": Buffer.byteLength(body),
        }),
      },
    })
    call.once("error", reject)
    call.once("response", async (response) => {
      let text = ""
      for await (const chunk of response.setEncoding("utf8")) text += chunk
      resolve({ status: response.statusCode ?? 0, json: JSON.parse(text) })
    })
    call.end(body)
  })
const restOf = (
  name: string,
  input: Record<string, unknown>,
): [method: string, path: string, body?: string] => {
  const [method = "", path = ""] = tools.find((tool) => tool.name === name)?.route.split(" ") ?? []
  const query = Object.entries(input).map(([key, value]): [string, string] => [key, String(value)])
  if (method === "GET") return [method, `${path}?${new URLSearchParams(query)}`]
  return [method, path, JSON.stringify(input)]
}
const mcpText = async (
  { client }: McpClient,
  name: string,
  input: Record<string, unknown>,
): Promise<{ isError: boolean; text: string }> => {
  const result = await client.callTool({ name, arguments: input })
  const [{ text }] = z.tuple([z.object({ text: z.string() })]).parse(result.content)
  return { isError: result.isError === true, text }
}

const endlessWork = ({ toolResults }: ModelRequest) =>
  toolResults.length === 0
    ? use([{ name: "Bash", input: { command: "sleep 0.1" } }])
    : say("Status: PARTIAL")
const inspected = z.looseObject({ phase: z.string(), why: z.string(), fix: z.string() })
const look = async ({ call }: McpClient, name: string) =>
  inspected.parse(await call("inspect_instance", { name }))
const reaches = (mcp: McpClient, name: string, ...phases: readonly string[]) =>
  eventually(
    async () => {
      const seen = await look(mcp, name)
      return phases.includes(seen.phase) && seen
    },
    `${name}: ${phases.join(" or ")}`,
    60,
  )

/** How long ago something was made goes on between two calls. */
const withoutAge = (answer: unknown): unknown =>
  JSON.parse(JSON.stringify(answer).replace(/\d+ (?:s|min) ago/g, "a while ago"))

/** A hint as the command line says it: no launcher is on this PATH. */
const inShell = createHints(tools, `${process.execPath} ${main}`).text

describe("a call that cannot be done", () => {
  const claude = removableClaude()
  let world: World
  let mcp: McpClient
  let script: string
  let before: readonly string[]
  /** All that there is, as far as it may not change. */
  const everything = async (): Promise<readonly string[]> => {
    const inspect = (name: string) =>
      mcp.call("inspect_instance", { name, sections: ["spec", "mail", "events"] })
    const told = [
      await mcp.call("list_instances", { detail: true }),
      await inspect("kept"),
      await inspect("stopped"),
    ]
    const agents = processesOf(world.directory).filter(
      ({ command }) => !/main\.js (?!serve|agent|turn)/.test(command),
    )
    return [
      // The fences of each answer are new, and ages go on.
      ...told.map((one) =>
        JSON.stringify(one).replace(/untrusted-\w+|\(\d+ \w+\)|\d+ \w+ ago/g, ""),
      ),
      // What stands still stays so; the program's own processes come and go from sleep.
      ...agents
        .map(
          ({ pid, state, command }) =>
            `${pid} ${command.includes("main.js") ? "" : state} ${command}`,
        )
        .toSorted(),
      `serve ${world.servePid()}`,
    ]
  }
  beforeAll(async () => {
    world = await makeWorld(
      () => use([{ name: "Bash", input: { command: "sleep 1000", timeout: 600_000 } }]),
      {
        projects: ["shop", "blog"],
        env: { PATH: claude.PATH },
      },
    )
    script = join(world.codeRoot, "2-engine/.autonomous/shell/ralf-loop.sh")
    mcp = await world.connect()
    for (const name of ["kept", "stopped"])
      await mcp.call("spawn_instance", { project: "shop", name, goal: `The goal of ${name}.` })
    await eventually(
      () =>
        processesOf(world.directory).filter(({ command }) => command.startsWith("sleep 1000"))
          .length === 2,
      "both work",
      60,
    )
    await mcp.call("stop_instances", { names: ["stopped"] })
    await mcp.call("pause_instances", { names: ["kept"], note: "the night" })
    await reaches(mcp, "stopped", "Stopped")
    await eventually(
      async () => (await look(mcp, "kept")).why.includes("are frozen"),
      "kept stands still",
    )
    before = await everything()
  }, 120_000)
  afterAll(() => world[Symbol.asyncDispose]())
  afterEach(async () => {
    expect(await everything()).toEqual(before)
  })

  interface Case {
    readonly what: string
    readonly tool: string
    readonly input: Record<string, unknown>
    readonly status: number
    readonly code: string
    readonly message: RegExp
    readonly next: RegExp
    /** Makes it so; what it returns undoes it. */
    spoil?(): () => void
  }
  const spawnOn = (more: Record<string, unknown> = {}) => ({
    tool: "spawn_instance",
    input: { project: "shop", ...more },
  })
  const cases: readonly Case[] = [
    {
      what: "an unknown project",
      ...spawnOn({ project: "shoop" }),
      ...{ status: 404, code: "NotFound" },
      ...{ message: /There is no project shoop in .*code/, next: /Use one of: blog, shop/ },
    },
    {
      what: "no project where there are several",
      ...{ tool: "spawn_instance", input: { goal: "Write a price list." } },
      ...{ status: 400, code: "Invalid" },
      ...{ message: /not said on which project/, next: /Give project: blog, shop/ },
    },
    {
      what: "claude is not installed",
      ...spawnOn(),
      ...{ status: 503, code: "Unavailable" },
      ...{
        message: /`claude` is not on the PATH/,
        next: /npm install -g @anthropic-ai\/claude-code.*policy file.*try again/,
      },
      spoil() {
        claude.remove()
        return claude.bring
      },
    },
    {
      what: "the loop script is not executable",
      ...spawnOn(),
      ...{ status: 400, code: "Invalid" },
      ...{ message: /ralf-loop\.sh is not executable/, next: /chmod \+x .*ralf-loop\.sh/ },
      spoil() {
        chmodSync(script, 0o644)
        return () => chmodSync(script, 0o755)
      },
    },
    {
      what: "the project lacks what the loop script needs",
      ...spawnOn({ project: "blog" }),
      ...{ status: 400, code: "Invalid" },
      ...{ message: /blog has no directory \.autonomous/, next: /Make it in the project/ },
      spoil() {
        const [at, aside] = [
          join(world.projectOf("blog"), ".autonomous"),
          join(world.directory, "aside"),
        ]
        renameSync(at, aside)
        return () => renameSync(aside, at)
      },
    },
    {
      what: "the code root is gone",
      ...spawnOn(),
      ...{ status: 503, code: "Unavailable" },
      ...{
        message: /The code root .*code is not there/,
        next: /--code-root or BLACKBOX5_CODE_ROOT/,
      },
      spoil() {
        renameSync(world.codeRoot, `${world.codeRoot}-aside`)
        return () => renameSync(`${world.codeRoot}-aside`, world.codeRoot)
      },
    },
    {
      what: "an unknown loop",
      ...spawnOn({ loop: "ralph" }),
      ...{ status: 400, code: "Invalid" },
      ...{ message: /The policy has no loop "ralph"/, next: /Give one of: ralf/ },
    },
    {
      what: "a name that is taken",
      ...spawnOn({ name: "kept" }),
      ...{ status: 409, code: "Conflict" },
      ...{ message: /The name kept is taken/, next: /Give another name, e\.g\. "name":"kept-1"/ },
    },
    {
      what: "a name that is none",
      ...spawnOn({ name: "Kept!" }),
      ...{ status: 400, code: "Invalid" },
      ...{ message: /name must be a lower-case DNS label/, next: /Correct that and call again/ },
    },
    {
      what: "an unknown key",
      ...spawnOn({ colour: "red" }),
      ...{ status: 400, code: "Invalid" },
      ...{ message: /has no field "colour"/, next: /Correct that and call again/ },
    },
    {
      what: "an unknown key within",
      ...spawnOn({ budget: { euros: 3 } }),
      ...{ status: 400, code: "Invalid" },
      ...{ message: /budget has no field "euros"/, next: /Correct that and call again/ },
    },
    {
      what: "a text of more than 16 KiB",
      ...{ tool: "message_instances", input: { to: ["kept"], text: "ü".repeat(8193) } },
      ...{ status: 400, code: "Invalid" },
      ...{ message: /text must be at most 16 KiB/, next: /Correct that and call again/ },
    },
    {
      what: "a goal of more than 16 KiB",
      ...spawnOn({ goal: "x".repeat(16_385) }),
      ...{ status: 400, code: "Invalid" },
      ...{ message: /goal must be at most 16 KiB/, next: /Correct that and call again/ },
    },
    {
      what: "a number that is none, in a query",
      ...{ tool: "list_instances", input: { limit: "many" } },
      ...{ status: 400, code: "Invalid" },
      ...{ message: /limit must be a number/, next: /Correct that and call again/ },
    },
    {
      what: "an instance that is none, beside one that is",
      ...{ tool: "stop_instances", input: { names: ["kept", "nobody"], remove: true } },
      ...{ status: 404, code: "NotFound" },
      ...{ message: /no instance nobody/, next: /list_instances/ },
    },
    {
      what: "all, without saying how many that is",
      ...{ tool: "stop_instances", input: { all: true, remove: true } },
      ...{ status: 400, code: "Invalid" },
      ...{ message: /This means 2 instances now, and needs expect/, next: /dryRun: true/ },
    },
    {
      what: "another number than it is",
      ...{ tool: "resume_instances", input: { all: true, expect: 3 } },
      ...{ status: 409, code: "Conflict" },
      ...{ message: /2 instances match now, not 3; nothing was changed/, next: /expect: 2/ },
    },
    {
      what: "nobody in particular",
      ...{ tool: "pause_instances", input: {} },
      ...{ status: 400, code: "Invalid" },
      ...{ message: /Which agents/, next: /Give names/ },
    },
  ]

  it.each(cases)(
    "says so, and what to do, alike through MCP, REST and CLI, and changes nothing: $what",
    async (one) => {
      const { tool, input, status, code, message, next } = one
      const mend = one.spoil?.()
      try {
        const answers = [
          await rest(world, "socket", ...restOf(tool, input)),
          await rest(world, "tcp", ...restOf(tool, input)),
        ]
        const { error } = errorSchema.parse(answers[0]?.json)
        expect(error).toEqual({
          code,
          message: expect.stringMatching(message),
          next: expect.stringMatching(next),
        })
        const aged = { status, json: { error } }
        for (const answer of answers) expect(withoutAge(answer)).toEqual(withoutAge(aged))
        const text = `${error.message} Next: ${error.next}`
        expect(withoutAge(await mcpText(mcp, tool, input))).toEqual(
          withoutAge({ isError: true, text }),
        )
        const ran = await run(world, [tool.replaceAll("_", "-"), "--input", JSON.stringify(input)])
        const stderr = `error: ${inShell(error.message)}\nnext: ${inShell(error.next)}\n`
        expect(withoutAge(ran)).toEqual(withoutAge({ code: 1, stdout: "", stderr }))
      } finally {
        mend?.()
      }
      // What was spoilt is well again: nothing of it was remembered.
      if (mend)
        expect(await mcp.call("spawn_instance", { ...input, dryRun: true })).toMatchObject({
          created: false,
        })
    },
  )

  it("says so when it is too large, however it comes", async () => {
    const input = { project: "shop", goal: "x".repeat(1_048_577) }
    for (const door of ["socket", "tcp"] as const)
      expect(await rest(world, door, ...restOf("spawn_instance", input))).toEqual({
        status: 413,
        json: {
          error: {
            code: "TooLarge",
            message: "The body is larger than 1048576 bytes.",
            next: "Send less in one call.",
          },
        },
      })
    expect(await mcpText(mcp, "spawn_instance", input)).toEqual({
      isError: true,
      text: "The input of spawn_instance is too large. Next: Send less in one call.",
    })
  })

  it("goes on after a line of MCP that is too large, or is none", async () => {
    const child = spawn(process.execPath, [main, "mcp"], {
      env: world.env,
      cwd: world.directory,
      stdio: ["pipe", "pipe", "inherit"],
    })
    const lines = createInterface(child.stdout)[Symbol.asyncIterator]()
    const tell = async (line: string): Promise<unknown> => {
      child.stdin.write(`${line}\n`)
      const { value } = await lines.next()
      return JSON.parse(z.string().parse(value))
    }
    const message = (id: number, method: string, params: object): string =>
      JSON.stringify({ jsonrpc: "2.0", id, method, params })
    const params = {
      protocolVersion: "2025-06-18",
      capabilities: {},
      clientInfo: { name: "raw", version: "1" },
    }
    expect(await tell(message(1, "initialize", params))).toMatchObject({ id: 1, result: {} })
    child.stdin.write(
      `${JSON.stringify({ jsonrpc: "2.0", method: "notifications/initialized" })}\n`,
    )
    const spawning = {
      name: "spawn_instance",
      arguments: { project: "shop", goal: "x".repeat(4_194_304) },
    }
    expect(await tell(message(2, "tools/call", spawning))).toMatchObject({
      id: null,
      error: { code: -32700, message: expect.stringContaining("more than 4194304 bytes") },
    })
    expect(await tell("{")).toMatchObject({ id: null, error: { code: -32700 } })
    const after = await tell(message(3, "tools/call", { name: "list_instances", arguments: {} }))
    expect(after).toMatchObject({ id: 3, result: { structuredContent: { total: 2 } } })
    child.stdin.end()
    await once(child, "exit")
    expect(child.exitCode).toBe(0)
  })

  it.each([
    [["spawn-instance", "--colour", "red"], /--colour/, /spawn-instance --help/],
    [["spawn-instance", "--input", "{"], /--input is not JSON/, /spawn-instance --help/],
    [["spwan-instance"], /no command spwan-instance/, /main\.js spawn-instance$/],
    [["pause-instances", "--all", "--expect"], /expect/, /pause-instances --help/],
  ])("tells who called the command wrongly how it is called: %j", async (args, message, next) => {
    const ran = await run(world, args)
    expect([ran.code, ran.stdout]).toEqual([2, ""])
    expect(toldBy(ran)).toEqual({
      message: expect.stringMatching(message),
      next: expect.stringMatching(next),
    })
  })
})

describe("a serve that cannot begin", () => {
  const held: Server[] = []
  afterEach(async () => {
    for (const server of held.splice(0)) await new Promise((resolve) => server.close(resolve))
  })
  /** Takes a port; 0 for any. Undefined when somebody has it already. */
  const take = async (port: number): Promise<number | undefined> => {
    const server = createServer()
    const taken = await new Promise<boolean>((resolve) => {
      server.once("error", () => resolve(false))
      server.listen(port, "127.0.0.1", () => resolve(true))
    })
    if (!taken) return undefined
    held.push(server)
    return (server.address() as AddressInfo).port // TCP, so no path
  }
  const idle = () => makeWorld(() => say("Status: PARTIAL"))
  /** Starts a serve and lets it run; its screen. */
  const begin = async (
    world: World,
    ...args: string[]
  ): Promise<{ pid: number; screen: string; end(): Promise<number | null> }> => {
    const child = spawn(process.execPath, [main, "serve", ...args], {
      env: world.env,
      cwd: world.directory,
      stdio: ["ignore", "pipe", "ignore"],
    })
    const ended = once(child, "exit").then(() => child.exitCode)
    let screen = ""
    await new Promise<void>((resolve, reject) => {
      child.stdout.setEncoding("utf8").on("data", (more: string) => {
        screen += more
        if (screen.includes("the agents keep running.")) resolve()
      })
      void ended.then((code) => reject(new Error(`serve ended with ${code}`)))
    })
    return {
      pid: child.pid ?? 0,
      screen,
      end() {
        child.kill("SIGTERM")
        return ended
      },
    }
  }

  it("says that a port it was told to take is taken, and leaves nothing behind", async () => {
    await using world = await idle()
    const port = await take(0)
    for (const ran of [
      await run(world, ["serve", "--port", String(port)]),
      await run(world, ["serve"], { BLACKBOX5_PORT: String(port) }),
    ]) {
      expect([ran.code, ran.stdout]).toEqual([1, ""])
      expect(toldBy(ran)).toEqual({
        message: `Port ${port} is taken by another program.`,
        next: expect.stringMatching(/--port or BLACKBOX5_PORT/),
      })
    }
    for (const name of ["serve.sock", "serve.json"])
      expect(existsSync(join(world.state, name))).toBe(false)
    expect(processesOf(world.directory)).toEqual([])
    const ran = await run(world, ["serve", "--port", "all"])
    expect([ran.code, toldBy(ran)]).toEqual([
      1,
      {
        message: '"all" is not a valid TCP port.',
        next: expect.stringMatching(/number from 0 .* to 65535/),
      },
    ])
    const free = await begin(world, "--port", "0")
    expect(await free.end()).toBe(0)
  })

  it("takes another port when the usual one is taken, and says which", async () => {
    await using world = await idle()
    // Another test's serve may have the usual port, and give it back at any moment: then it is
    // tried again.
    const { screen } = await eventually(async () => {
      await take(7505)
      const served = await begin(world)
      const beside = !served.screen.includes("127.0.0.1:7505 ")
      if (!beside) await served.end()
      return beside && served
    }, "a serve beside the usual port")
    const { url } = z
      .object({ url: z.string() })
      .parse(JSON.parse(readFileSync(join(world.state, "serve.json"), "utf8")))
    expect(url).toMatch(/^http:\/\/127\.0\.0\.1:\d+$/)
    expect(screen).toContain(`REST         ${url} `)
    expect((await rest(world, "tcp", "GET", "/v1/instances")).status).toBe(200)
  })

  it("ends well when one serves already", async () => {
    await using world = await idle()
    const { pid } = await begin(world)
    const ran = await run(world, ["serve"])
    expect(ran).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(
        /^blackbox5 already serves on .*serve\.sock; this one exits\.\n$/,
      ),
    })
    expect(world.servePid()).toBe(pid)
    expect((await rest(world, "socket", "GET", "/v1/instances")).status).toBe(200)
  })

  it("says that another program has its database open, to its clients too, and serves when that is over", async () => {
    await using world = await idle()
    const path = join(world.state, "blackbox5.db")
    const lock = `const { DatabaseSync } = require("node:sqlite")
      const database = new DatabaseSync(${JSON.stringify(path)})
      database.exec("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE; CREATE TABLE foreign_table (x)")
      process.stdout.write("locked")
      setInterval(() => {}, 1e6)`
    const holder = spawn(process.execPath, ["-e", lock], {
      env: world.env,
      stdio: ["ignore", "pipe", "inherit"],
    })
    await once(holder.stdout, "data")
    const ran = await run(world, ["serve"])
    expect([ran.code, ran.stdout]).toEqual([1, ""])
    const told = toldBy(ran)
    expect(told).toEqual({
      message: expect.stringMatching(/Another process has .*blackbox5\.db open/),
      next: expect.stringMatching(/end it, or set BLACKBOX5_STATE/),
    })
    const mcp = await world.connect()
    const { isError, text } = await mcpText(mcp, "fleet_status", {})
    expect(isError).toBe(true)
    for (const part of [told.message, told.next]) expect(text).toContain(part)
    holder.kill("SIGKILL")
    await once(holder, "exit")
    expect(await mcp.call("fleet_status")).toMatchObject({ turns: { used: 0 } })
  })

  describe("because its database is damaged", () => {
    const overwrite = (path: string, at: number, bytes: Buffer): void =>
      void writeSync(openSync(path, "r+"), bytes, 0, bytes.length, at)
    it.each<[string, (path: string) => void]>([
      ["the head was overwritten", (path) => overwrite(path, 0, Buffer.alloc(100, 0xff))],
      [
        "its pages were overwritten",
        (path) => overwrite(path, 4096, Buffer.alloc(readFileSync(path).length - 4096, 0xa5)),
      ],
      ["one page was overwritten", (path) => overwrite(path, 4096, Buffer.alloc(4096, 0xa5))],
      [
        "its last page was overwritten",
        (path) => overwrite(path, readFileSync(path).length - 4096, Buffer.alloc(4096, 0xa5)),
      ],
      ["it was cut", (path) => truncateSync(path, readFileSync(path).length / 2)],
      ["it is a text", (path) => writeFileSync(path, "no database at all\n".repeat(1000))],
    ])(
      "says what to do, leaves it as it is, and serves again when that was done: %s",
      async (_, damage) => {
        await using world = await idle()
        const path = join(world.state, "blackbox5.db")
        const first = await begin(world)
        const mcp = await world.connect()
        await mcp.call("spawn_instance", { project: "shop", name: "kept", labels: { team: "web" } })
        await mcp.call("stop_instances", { names: ["kept"] })
        await reaches(mcp, "kept", "Stopped")
        await eventually(
          () =>
            !processesOf(world.directory).some(({ command }) => command.includes("main.js agent")),
          "its supervisor's end",
        )
        expect(await first.end()).toBe(0)
        copyFileSync(path, `${path}.copy`)
        damage(path)
        const digest = (): string => createHash("sha256").update(readFileSync(path)).digest("hex")
        const damaged = digest()

        const ran = await run(world, ["serve"])
        expect([ran.code, ran.stdout]).toEqual([1, ""])
        const told = toldBy(ran)
        expect(told).toEqual({
          message: `The database ${path} is damaged or is no database; it was left as it is.`,
          next: `Put a copy back, or move it and ${path}-wal aside together and start again with an empty fleet.`,
        })
        const { isError, text } = await mcpText(mcp, "list_instances", {})
        expect(isError).toBe(true)
        for (const part of [told.message, told.next]) expect(text).toContain(part)
        const listed = await run(world, ["list-instances"])
        expect(listed.code).toBe(1)
        for (const part of [told.message, told.next]) expect(listed.stderr).toContain(part)
        expect(digest()).toBe(damaged)

        // Moved aside: an empty fleet, for which all works.
        renameSync(path, `${path}.aside`)
        if (existsSync(`${path}-wal`)) renameSync(`${path}-wal`, `${path}.aside-wal`)
        expect(await mcp.call("list_instances")).toMatchObject({ total: 0 })
        expect(await mcp.call("spawn_instance", { project: "shop", dryRun: true })).toMatchObject({
          name: "shop-1",
        })
        // The copy put back: what was there.
        process.kill(world.servePid(), "SIGTERM")
        await eventually(() => !existsSync(join(world.state, "serve.json")), "the end of serve")
        await eventually(
          () =>
            !processesOf(world.directory).some(({ command }) => / serve$| serve /.test(command)),
          "the end of serve",
        )
        copyFileSync(`${path}.copy`, path)
        expect(await mcp.call("list_instances")).toMatchObject({
          total: 1,
          instances: [{ name: "kept", phase: "Stopped" }],
        })
      },
    )
  })

  it("says that its state directory cannot be made, alike to all who ask", async () => {
    await using world = await idle()
    const file = join(world.directory, "a file")
    writeFileSync(file, "mine")
    for (const state of [file, join(file, "below")]) {
      const env = { BLACKBOX5_STATE: state }
      for (const args of [["serve"], ["fleet-status"], ["spawn-instance", "--project", "shop"]]) {
        const ran = await run(world, args, env)
        expect([ran.code, ran.stdout]).toEqual([1, ""])
        expect(toldBy(ran)).toEqual({
          message: expect.stringContaining(`The state directory ${state} cannot be `),
          next: "Set BLACKBOX5_STATE to a directory that this user may write.",
        })
      }
      const child = await run(world, ["list-instances", "--json"], env)
      expect(child.code).toBe(1)
    }
    expect(readFileSync(file, "utf8")).toBe("mine")
    expect(processesOf(world.directory)).toEqual([])
  })
})

describe("what goes wrong only when a loop is started", () => {
  const claude = removableClaude()
  let world: World
  let mcp: McpClient
  let script: string
  beforeAll(async () => {
    world = await makeWorld(endlessWork, { env: { PATH: claude.PATH }, projects: ["shop"] })
    script = join(world.codeRoot, "2-engine/.autonomous/shell/ralf-loop.sh")
    world.policy(`loops:\n  mine: [${join(world.directory, "mine.sh")}, "{project}"]\n`)
    writeFileSync(join(world.directory, "mine.sh"), `#!/bin/sh\nexec ${script} "$1"\n`, {
      mode: 0o755,
    })
    mcp = await world.connect()
  })
  afterAll(() => world[Symbol.asyncDispose]())

  let count = 0
  const remove = async (name: string): Promise<void> => {
    await mcp.call("stop_instances", { names: [name], remove: true })
    await eventually(
      async () => !JSON.stringify(await mcp.call("list_instances")).includes(`"${name}"`),
      "it is removed",
    )
  }
  const aside = (path: () => string) => (): (() => void) => {
    const other = join(world.directory, "aside")
    renameSync(path(), other)
    return () => renameSync(other, path())
  }
  it.each<[string, string, () => () => void, RegExp]>([
    [
      "the loop script is not executable any more",
      "ralf",
      () => {
        chmodSync(script, 0o644)
        return () => chmodSync(script, 0o755)
      },
      /ralf-loop\.sh is not executable.*chmod \+x/,
    ],
    [
      "the project is gone",
      "ralf",
      aside(() => world.projectOf("shop")),
      /The project shop is not in .* any more\. Put its directory back/,
    ],
    [
      "the code root was deleted and is checked out again",
      "ralf",
      () => {
        rmSync(world.codeRoot, { recursive: true })
        return () => {
          mkdirSync(world.codeRoot)
          makeCodeRoot(world.codeRoot, ["shop"])
        }
      },
      /The code root .* is not there.*--code-root/,
    ],
    [
      "the policy's loop is gone",
      "mine",
      aside(() => join(world.directory, "mine.sh")),
      /mine\.sh is not there.*policy/,
    ],
    [
      "the policy has the loop no more",
      "mine",
      () => {
        const path = join(world.directory, "config/policy.yaml")
        const text = readFileSync(path, "utf8")
        world.policy("{}\n")
        return () => world.policy(text)
      },
      /The policy has no loop mine.*add it to the policy file/,
    ],
  ])(
    "is a crash loop that says why, and goes on when it is mended and resumed: %s",
    async (_, loop, spoil, why) => {
      const name = `one-${++count}`
      const refused = async () =>
        (await mcpText(mcp, "spawn_instance", { project: "shop", loop, dryRun: true })).isError
      await mcp.call("spawn_instance", { project: "shop", name, loop })
      await reaches(mcp, name, "Running")
      await mcp.call("pause_instances", { names: [name] })
      await eventually(
        async () => (await look(mcp, name)).why.includes("are frozen"),
        "it stands still",
      )
      await mcp.call("stop_instances", { names: [name] })
      await reaches(mcp, name, "Stopped")
      const mend = spoil()
      try {
        await eventually(refused, "the obstacle is seen")
        await mcp.call("resume_instances", { names: [name] })
        const crashed = await reaches(mcp, name, "CrashLoop")
        expect(crashed.why).toMatch(/^It(s loop is missing| could not be started)/)
        expect(crashed.untrusted).toMatch(why)
        expect(crashed.fix).toContain(`resume_instances {"names":["${name}"]}`)
        expect(await mcp.call("list_instances", { phases: ["CrashLoop"] })).toMatchObject({
          total: 1,
          instances: [{ name }],
        })
      } finally {
        mend()
      }
      await eventually(async () => !(await refused()), "the obstacle is gone")
      await mcp.call("resume_instances", { names: [name] })
      const { why: well } = await reaches(mcp, name, "Running")
      expect(well).toMatch(/iteration/)
      await remove(name)
    },
    120_000,
  )

  const missing = /`claude` is not on the PATH: \/.*waits for it and goes on by itself\.\n/
  const iterationsOf = async (name: string) =>
    z
      .looseObject({
        usage: z.looseObject({ iterations: z.int() }),
        run: z.looseObject({ restarts: z.int() }),
      })
      .parse(await mcp.call("inspect_instance", { name }))

  it("claude, removed during a pause, is waited for: its loop goes on when it is there again, and nothing counts", async () => {
    const name = "patient"
    await mcp.call("spawn_instance", { project: "shop", name })
    await reaches(mcp, name, "Running")
    await mcp.call("pause_instances", { names: [name] })
    await eventually(
      async () => (await look(mcp, name)).why.includes("are frozen"),
      "it stands still",
    )
    const [before] = processesOf(world.directory).filter(({ command }) =>
      /claude.*--settings/.test(command),
    )
    claude.remove()
    await mcp.call("resume_instances", { names: [name] })
    if (before) process.kill(before.pid, "SIGKILL") // so that the loop calls claude again
    const held = await reaches(mcp, name, "Held")
    expect(held.why).toMatch(/^The program claude is missing/)
    expect(held.untrusted).toMatch(missing)
    expect(held.fix).toMatch(/Install claude again/)
    const { usage, run } = await iterationsOf(name)
    claude.bring()
    const requests = world.model.requests.length
    await eventually(() => world.model.requests.length > requests, "claude at work again")
    expect(await iterationsOf(name)).toMatchObject({
      usage: { iterations: usage.iterations },
      run: { restarts: run.restarts },
    })
    await remove(name)
  }, 120_000)

  it("claude, missing when a loop is started, is waited for in the same way", async () => {
    const name = "early"
    await mcp.call("spawn_instance", { project: "shop", name })
    await reaches(mcp, name, "Running")
    await mcp.call("stop_instances", { names: [name] })
    await reaches(mcp, name, "Stopped")
    const { usage } = await iterationsOf(name)
    claude.remove()
    try {
      await mcp.call("resume_instances", { names: [name] })
      expect((await reaches(mcp, name, "Held")).untrusted).toMatch(missing)
      expect(await iterationsOf(name)).toMatchObject({
        usage: { iterations: usage.iterations },
        run: { restarts: 0 },
      })
    } finally {
      claude.bring()
    }
    await reaches(mcp, name, "Running")
    expect(await iterationsOf(name)).toMatchObject({
      usage: { iterations: usage.iterations },
      run: { restarts: 0 },
    })
    await remove(name)
  }, 120_000)
})

describe("a loop script that exits at once", () => {
  it("is started again ever later, is called a crash loop with its exit code, stops, and runs when it is mended", async () => {
    const claude = removableClaude()
    await using world = await makeWorld(endlessWork, { env: { PATH: claude.PATH } })
    const script = join(world.codeRoot, "2-engine/.autonomous/shell/ralf-loop.sh")
    const starts = join(world.directory, "starts")
    const good = readFileSync(script, "utf8")
    writeFileSync(
      script,
      `#!/usr/bin/env bash\ndate +%s%3N >> ${starts}\necho "no key for the shop" >&2\nexit 3\n`,
    )
    const mcp = await world.connect()
    await mcp.call("spawn_instance", { project: "shop", name: "hasty" })
    const crashed = await reaches(mcp, "hasty", "CrashLoop")
    expect(crashed.why).toMatch(/ended without running claude \(exit code 3\).* started 4 times/)
    expect(crashed.fix).toContain("read_logs")
    expect(JSON.stringify(await mcp.call("read_logs", { name: "hasty" }))).toContain(
      "no key for the shop",
    )
    const moments = readFileSync(starts, "utf8").trim().split("\n").map(Number)
    expect(moments.length).toBeGreaterThanOrEqual(4)
    // 1 s, 2 s, 4 s: bounds from below, which no slow machine can break.
    for (const [index, moment] of moments.slice(1).entries())
      expect(moment - (moments[index] ?? 0)).toBeGreaterThanOrEqual(1000 * 2 ** index)

    await mcp.call("stop_instances", { names: ["hasty"] })
    await reaches(mcp, "hasty", "Stopped")
    expect(
      processesOf(world.directory).filter(({ command }) =>
        /ralf-loop|main\.js agent/.test(command),
      ),
    ).toEqual([])
    const stopped = readFileSync(starts, "utf8")

    writeFileSync(script, good)
    await mcp.call("resume_instances", { names: ["hasty"] })
    await reaches(mcp, "hasty", "Running")
    expect(readFileSync(starts, "utf8")).toBe(stopped)
    expect(await mcp.call("inspect_instance", { name: "hasty" })).toMatchObject({
      run: { restarts: 0 },
    })
  }, 120_000)
})
