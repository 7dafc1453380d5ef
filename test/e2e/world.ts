import { execFile } from "node:child_process"
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"
import { Client } from "@modelcontextprotocol/sdk/client/index.js"
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js"
import { z } from "zod"
import { runsOf } from "../../src/run/runs.ts"
import { type Model, type Script, startModel } from "../model/model.ts"
import { type Layout, makeCodeRoot } from "./code-root.ts"
import { type Person, type Seat, seatOf } from "./person.ts"

/**
 * One user on one machine, whole: a code root, a home, a state directory, a scripted model, the
 * built bundle, a real MCP client.
 */

const repository = fileURLToPath(new URL("../..", import.meta.url))
export const main = join(repository, "dist/main.js")
export const claudeDirectory = join(repository, "node_modules/.bin")

export interface World extends AsyncDisposable {
  readonly directory: string
  readonly codeRoot: string
  readonly state: string
  readonly model: Model
  readonly env: Record<string, string>
  projectOf(name: string): string
  /**
   * A real MCP client over stdio; `from` another directory, where it finds the code root by itself.
   */
  connect(from?: string): Promise<McpClient>
  /** The bundle that this world runs. */
  readonly main: string
  /** A program as the person whose world it is; resolves with what it printed and its exit code. */
  run(program: string, args: readonly string[], options?: { cwd?: string }): Promise<Ran>
  /** The bundle as a command. */
  cli(...args: string[]): Promise<Ran>
  /** Writes a file that belongs to the person. */
  write(path: string, text: string, mode?: number): void
  policy(text: string): void
  /** pid of the serve that runs now. */
  servePid(): number
  /** The newest run directory of an instance. */
  runOf(uid: string): string
}
export interface Ran {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}
export interface McpClient {
  readonly client: Client
  /**
   * Calls a tool; returns its structured content. @throws an Error with the tool's text when it is
   * an error.
   */
  call(tool: string, input?: Record<string, unknown>): Promise<Result>
  close(): Promise<void>
}
/** Structured content as a test reads it. */
export type Result = { [key: string]: unknown } & { readonly [Symbol.toStringTag]?: never }

/** That of whoever runs the tests. */
const ownSeat: Seat = {
  main,
  node: process.execPath,
  programs: claudeDirectory,
  give: () => {},
  argv: (program, args) => [program, ...args],
}

const statSchema = z.object({ pid: z.number() })

export async function makeWorld(
  script: Script,
  options: {
    projects?: readonly string[]
    layout?: Layout
    policy?: string
    env?: Record<string, string>
    state?: string
    /** The directory that everything is in, below the world's own. */
    under?: string
    /**
     * Whose world it is, and with which /bin/sh; without it, that of whoever runs the tests, as
     * they are.
     */
    person?: Person
  } = {},
): Promise<World> {
  // An ordinary user may reach neither root's own temporary directory nor root's checkout.
  const directory = mkdtempSync(join(options.person ? "/tmp" : tmpdir(), "bb5-"))
  const at = (name: string): string => join(directory, options.under ?? "", name)
  const [codeRoot, home, state, config] = [
    at("code"),
    at("home"),
    options.state ?? at("state"),
    at("config"),
  ]
  for (const path of [codeRoot, home, state, config])
    mkdirSync(path, { recursive: true, mode: 0o700 })
  makeCodeRoot(codeRoot, options.projects ?? ["shop"], options.layout)
  const seat = options.person ? seatOf(options.person, repository, directory) : ownSeat
  seat.give(directory)
  if (options.state !== undefined) seat.give(state)
  const write = (path: string, text: string, mode?: number): void => {
    writeFileSync(path, text, { mode })
    seat.give(path)
  }
  const policy = (text: string): void => write(join(config, "policy.yaml"), text)
  policy(options.policy ?? "{}\n")
  const model = await startModel(script)
  const env: Record<string, string> = {
    ...model.environment(home),
    PATH: [seat.programs, dirname(seat.node), process.env.PATH ?? ""].join(":"),
    HOME: home,
    GIT_AUTHOR_NAME: "RALF",
    GIT_AUTHOR_EMAIL: "ralf@example.invalid",
    GIT_COMMITTER_NAME: "RALF",
    GIT_COMMITTER_EMAIL: "ralf@example.invalid",
    IS_SANDBOX: "1",
    LOOP_PAUSE: "0.2",
    BLACKBOX5_CODE_ROOT: codeRoot,
    BLACKBOX5_STATE: state,
    BLACKBOX5_CONFIG: config,
    ...options.env,
  }
  const clients = new Set<McpClient>()
  const servePid = (): number =>
    statSchema.parse(JSON.parse(readFileSync(join(state, "serve.json"), "utf8"))).pid

  const run: World["run"] = (program, args, { cwd = codeRoot } = {}) =>
    new Promise((resolve) => {
      const [first, ...rest] = seat.argv(program, args)
      const child = execFile(
        first,
        rest,
        { env, cwd, maxBuffer: 64 * 1024 * 1024 },
        (_error, stdout, stderr) => resolve({ code: child.exitCode ?? -1, stdout, stderr }),
      )
    })

  return {
    ...{ directory, codeRoot, state, model, env, main: seat.main, run, write, policy, servePid },
    projectOf: (name) => join(codeRoot, "5-project-memory", name),
    runOf: (uid) => runsOf(state, uid).at(-1) ?? "",
    async connect(from) {
      const { BLACKBOX5_CODE_ROOT: _, ...elsewhere } = env
      const where = from === undefined ? { env, cwd: codeRoot } : { env: elsewhere, cwd: from }
      const client = new Client({ name: "story", version: "1" })
      const [command, ...args] = seat.argv(seat.node, [seat.main, "mcp"])
      await client.connect(new StdioClientTransport({ command, args, ...where, stderr: "inherit" }))
      const mcp: McpClient = {
        client,
        async call(tool, input = {}) {
          const result = await client.callTool({ name: tool, arguments: input })
          if (result.isError) throw new Error(JSON.stringify(result.content))
          return z.record(z.string(), z.unknown()).parse(result.structuredContent)
        },
        async close() {
          clients.delete(mcp)
          await client.close()
        },
      }
      clients.add(mcp)
      return mcp
    },
    cli: (...args) => run(seat.node, [seat.main, ...args]),
    async [Symbol.asyncDispose]() {
      for (const client of clients) await client.close()
      await endEverything(directory)
      await model.close()
      rmSync(directory, { recursive: true, force: true })
    },
  }
}

/** Every process whose environment names this world. */
export function processesOf(
  directory: string,
): readonly { pid: number; parent: number; command: string; state: string }[] {
  return readdirSync("/proc").flatMap((entry) => {
    const pid = Number(entry)
    if (!Number.isInteger(pid) || pid === process.pid) return []
    try {
      if (!readFileSync(`/proc/${pid}/environ`, "utf8").includes(directory)) return []
      const stat = readFileSync(`/proc/${pid}/stat`, "utf8")
      const [state = "", parent] = stat.slice(stat.lastIndexOf(")") + 2).split(" ")
      return state === "Z"
        ? []
        : [
            {
              pid,
              parent: Number(parent),
              state,
              command: readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " "),
            },
          ]
    } catch {
      return []
    }
  })
}

/**
 * Stopped; or a shell that has vforked and waits (D) for a child that is stopped before it could
 * execute anything.
 */
export const standsStill = ({ state }: { readonly state: string }): boolean =>
  state === "T" || state === "D"

/** Ends all that a world started, its control plane first: nothing of a test outlives it. */
async function endEverything(directory: string): Promise<void> {
  for (;;) {
    const left = processesOf(directory)
    if (left.length === 0) return
    for (const { pid } of left.toSorted(
      (a, b) => Number(b.command.includes(" serve")) - Number(a.command.includes(" serve")),
    )) {
      try {
        process.kill(pid, "SIGKILL")
      } catch {
        // It ended meanwhile.
      }
    }
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
}

/**
 * Looks until a condition holds; the value that it gave. What the world does on its own time has no
 * event that could be awaited.
 */
export async function eventually<T>(
  look: () => T | undefined | false | Promise<T | undefined | false>,
  what: string,
  seconds = 90,
): Promise<T> {
  const deadline = performance.now() + seconds * 1000
  for (let last: unknown; ; ) {
    try {
      const found = await look()
      if (found !== undefined && found !== false) return found
    } catch (error) {
      last = error
    }
    if (performance.now() > deadline)
      throw new Error(`never came: ${what}${last ? ` (${String(last)})` : ""}`)
    await new Promise((resolve) => setTimeout(resolve, 15))
  }
}
