import { spawn } from "node:child_process"
import { randomUUID } from "node:crypto"
import { fstatSync, openSync, readlinkSync, writeSync } from "node:fs"
import { constants } from "node:os"
import { Writable } from "node:stream"
import { setTimeout as sleep } from "node:timers/promises"
import { z } from "zod"
import { oneLine } from "../core/view.ts"
import { instanceVariable, processId, turnVariable } from "../host/processes.ts"
import { mergeSettings, nestedSettings, settingsSchema, wayOut } from "./settings.ts"

// An import of node:http also loads what it re-exports, node's fetch and WebSocket: 40 ms and 12
// MiB in every turn.
const { request } = process.getBuiltinModule("node:http")

/**
 * What the loop finds as `claude`: asks the supervisor for a turn, waits, runs the real one and
 * stays its parent.
 */

export const agentUrlVariable = "BLACKBOX5_AGENT_URL"
export const agentTokenVariable = "BLACKBOX5_AGENT_TOKEN"
export const claudeVariable = "BLACKBOX5_AGENT_CLAUDE"
/** The instance's name, for what speaks to its agent. */
export const agentNameVariable = "BLACKBOX5_AGENT_NAME"

/**
 * What the supervisor gives with a turn. Said, not written: its run directory cannot be seen from
 * inside.
 */
export const grantSchema = z.object({
  settings: settingsSchema,
  model: z.string().optional(),
  mcp: z.string(),
  /** Where the real claude is now. A supervisor of before this was known does not say. */
  claude: z.string().optional(),
})
export type Grant = z.output<typeof grantSchema>

/** sysexits.h: a temporary failure; the loop tries again by itself. */
const exitTempFail = 75
/**
 * A supervisor that cannot be asked for so long will not come back by itself: the loop's own retry
 * takes over.
 */
const unreachableMsMax = 600_000
/** One question waits at most this long at the supervisor, which then answers 204: ask again. */
const askMsMax = 60_000

/** What else runs in this instance has asked more often than its supervisor takes. */
const tooOftenMs = 1000

/** Claude's subcommands and flags that talk to no model (claude --help). */
const subcommands = new Set([
  "agents",
  "auth",
  "auto-mode",
  "config",
  "doctor",
  "install",
  "mcp",
  "plugin",
  "plugins",
  "setup-token",
  "update",
  "upgrade",
  "migrate-installer",
])
const informational = new Set(["--version", "-v", "--help", "-h"])
export const isPrompt = (args: readonly string[]): boolean =>
  !subcommands.has(args[0] ?? "") && !args.some((arg) => informational.has(arg))

interface Asked {
  readonly status: number
  readonly body: string
}
function ask(method: string, path: string, text: string): Promise<Asked> {
  const url = new URL(path, process.env[agentUrlVariable])
  return new Promise((resolve, reject) => {
    const call = request(
      url,
      {
        method,
        agent: false,
        timeout: askMsMax + 10_000,
        headers: {
          authorization: `Bearer ${process.env[agentTokenVariable] ?? ""}`,
          "content-type": "application/json",
          "content-length": Buffer.byteLength(text),
        },
      },
      (response) => {
        let answer = ""
        response.setEncoding("utf8")
        response.on("data", (chunk: string) => {
          answer += chunk
        })
        response.on("end", () => resolve({ status: response.statusCode ?? 0, body: answer }))
        response.on("error", reject)
      },
    )
    call.on("timeout", () => call.destroy(new Error("no answer in time")))
    call.on("error", reject)
    call.end(text)
  })
}

/** Asks until there is an answer; a supervisor that is being replaced is asked again. */
async function insist(path: string, text: string, msMax: number): Promise<Asked | undefined> {
  let heardMs = performance.now()
  for (let waitMs = 20; performance.now() - heardMs < msMax; waitMs = Math.min(1000, waitMs * 2)) {
    try {
      const asked = await ask("POST", path, text)
      if (asked.status === 429) {
        await sleep(tooOftenMs)
        continue
      }
      if (asked.status !== 204) return asked
      waitMs = 20
      heardMs = performance.now() // who says "not yet" is there, however long that lasts
    } catch {
      await sleep(waitMs)
    }
  }
  return undefined
}

/**
 * Flags behind the caller's, before a `--` that ends them. Of several `--mcp-config` claude takes
 * all servers, and of two with one name the last: so ours stand behind the caller's, and behind
 * nothing that a list of values could swallow.
 */
export function appended(args: readonly string[], flags: readonly string[]): string[] {
  const end = args.indexOf("--")
  return end < 0 ? [...args, ...flags] : [...args.slice(0, end), ...flags, ...args.slice(end)]
}

/**
 * What marks this instance's processes, and leads them to its supervisor: a project's settings may
 * not say otherwise to what claude starts.
 */
const ownOf = (env: NodeJS.ProcessEnv): Record<string, string> =>
  Object.fromEntries(
    [
      instanceVariable,
      turnVariable,
      agentUrlVariable,
      agentTokenVariable,
      agentNameVariable,
      claudeVariable,
    ].map((name) => [name, env[name] ?? ""]),
  )

/**
 * Node opens its stderr whenever a socket ends, and thereby makes it non-blocking, for all who
 * share it (see `ownOutput`): this one never does.
 */
function plainStderr(): void {
  const write = (chunk: Buffer, _encoding: string, done: () => void): void => {
    writeSync(2, chunk)
    done()
  }
  Object.defineProperty(process, "stderr", { configurable: true, value: new Writable({ write }) })
}

/** Runs one claude. Resolves with the exit code to end with. */
export async function runTurn(args: readonly string[]): Promise<number> {
  plainStderr()
  const claude = process.env[claudeVariable]
  const url = process.env[agentUrlVariable]
  if (!claude || !url) {
    process.stderr.write(
      "blackbox5 turn: there is no supervisor to ask; this command runs only inside an instance.\n",
    )
    return exitTempFail
  }
  if (!isPrompt(args)) return (await run(claude, args, process.env)).code
  const outer = process.env[turnVariable]
  // Nested, it runs inside the outer turn, without doors.
  if (outer) {
    const counted = nestedSettings(url, process.env[agentTokenVariable] ?? "")
    const nested = await inFile(
      outer,
      mergeSettings(args, counted, wayOut(process.env, process.cwd())),
    )
    return nested
      ? (await run(claude, nested.args, { ...process.env, [turnVariable]: nested.turn })).code
      : exitTempFail
  }
  const id = `t-${randomUUID()}`
  const asked = await insist(
    `/turns/${id}`,
    JSON.stringify(processId(process.pid)),
    unreachableMsMax,
  )
  if (asked?.status !== 200) {
    refusedBecause(asked)
    return exitTempFail
  }
  const { settings, model, mcp, claude: real = claude } = grantSchema.parse(JSON.parse(asked.body))
  const own = args.includes("--model") || model === undefined ? [] : ["--model", model]
  const env = { ...process.env, [turnVariable]: id, [claudeVariable]: real }
  const ours = { ...settings, env: { ...settings.env, ...ownOf(env) } }
  const began = performance.now()
  const begun = await inFile(id, mergeSettings(args, ours, wayOut(env, process.cwd())))
  const code =
    begun?.turn === id
      ? (await run(real, appended(begun.args, ["--mcp-config", mcp, ...own]), env)).code
      : exitTempFail
  await insist(
    `/turns/${id}/end`,
    JSON.stringify({ code, ms: Math.round(performance.now() - began) }),
    askMsMax,
  )
  return code
}

const refusalSchema = z.object({ error: z.object({ message: z.string(), next: z.string() }) })
function wordsOf(body: string): string {
  try {
    const { message, next } = refusalSchema.parse(JSON.parse(body)).error
    return `${message} ${next}`
  } catch {
    return body
  }
}
function refusedBecause(asked: Asked | undefined): void {
  const why = asked ? ` (${oneLine(wordsOf(asked.body), 300)})` : ": the supervisor does not answer"
  process.stderr.write(`blackbox5 turn: no turn could be had${why}; no iteration was started.\n`)
}

const placedSchema = z.object({ path: z.string(), turn: z.string() })
/**
 * The settings in a file instead of an argument, which all users of the machine could read. The
 * supervisor writes it, for the agent may not change it. `turn` is the one that runs, which is not
 * always the one that this claude was started under: the agent's tmux server may be older.
 */
async function inFile(
  outer: string,
  [flag = "", settings = "", ...rest]: readonly string[],
): Promise<{ readonly args: readonly string[]; readonly turn: string } | undefined> {
  const asked = await insist(`/turns/${outer}/settings`, settings, unreachableMsMax)
  // A supervisor of before this was known has no such path.
  if (asked?.status === 404) return { args: [flag, settings, ...rest], turn: outer }
  if (asked?.status !== 200) {
    refusedBecause(asked)
    return undefined
  }
  const { path, turn } = placedSchema.parse(JSON.parse(asked.body))
  return { args: [flag, path, ...rest], turn }
}

/**
 * Claude makes its output non-blocking, for all who share it, and leaves it so: the loop's next
 * line would be lost where the FIFO is full. So it gets an opening of its own. A pipe has a reader
 * of the loop's making, and is left as it is.
 */
function ownOutput(descriptor: 1 | 2): number | "inherit" {
  try {
    const path = `/proc/self/fd/${descriptor}`
    const named = fstatSync(descriptor).isFIFO() && readlinkSync(path).startsWith("/")
    return named ? openSync(path, "r+") : "inherit"
  } catch {
    return "inherit" // no Linux
  }
}

function run(
  claude: string,
  args: readonly string[],
  env: NodeJS.ProcessEnv,
): Promise<{ code: number }> {
  return new Promise((resolve) => {
    const child = spawn(claude, args, { stdio: ["inherit", ownOutput(1), ownOutput(2)], env })
    const names = ["SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT"] as const
    const pass = (name: NodeJS.Signals): void => void child.kill(name)
    for (const name of names) process.on(name, pass)
    const over = (code: number): void => {
      for (const name of names) process.off(name, pass)
      resolve({ code })
    }
    child.once("error", (error) => {
      process.stderr.write(`blackbox5 turn: ${claude} could not be started: ${error.message}\n`)
      over(127)
    })
    child.once("exit", (code, signal) =>
      over(code ?? 128 + (signal ? constants.signals[signal] : 0)),
    )
  })
}
