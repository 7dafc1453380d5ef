import { spawn } from "node:child_process"
import { once } from "node:events"
import { chmodSync, renameSync } from "node:fs"
import { join } from "node:path"
import { createInterface } from "node:readline"
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest"
import { z } from "zod"
import { use } from "../model/model.ts"
import {
  errorSchema,
  inShell,
  look,
  mcpText,
  reaches,
  rest,
  restOf,
  run,
  toldBy,
  withoutAge,
} from "./every-face.ts"
import { removableClaude } from "./removable-claude.ts"
import { eventually, type McpClient, main, makeWorld, processesOf, type World } from "./world.ts"

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
      ...{ message: /Which project/, next: /Give project, one of: blog, shop/ },
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
        message: /The code root .*code does not exist/,
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
      ...{ message: /This means 2 instances now, so it needs expect/, next: /dryRun: true/ },
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
      error: { code: -32700, message: expect.stringContaining("longer than 4194304 bytes") },
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
    [["spawn-instance", "--input", "{"], /--input must be JSON/, /spawn-instance --help/],
    [["spwan-instance"], /Unknown command: spwan-instance/, /main\.js spawn-instance$/],
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
