import { spawn } from "node:child_process"
import { randomUUID } from "node:crypto"
import { readFileSync } from "node:fs"
import { constants } from "node:os"
import { setTimeout as sleep } from "node:timers/promises"
import { z } from "zod"
import { processId, turnVariable } from "../processes.ts"

// An import of node:http also loads what it re-exports, node's fetch and WebSocket: 40 ms and 12 MiB in every turn.
const { request } = process.getBuiltinModule("node:http")

/** What the loop finds as `claude`: asks the supervisor for a turn, waits, runs the real one and stays its parent. */

export const agentUrlVariable = "BLACKBOX5_AGENT_URL"
export const agentTokenVariable = "BLACKBOX5_AGENT_TOKEN"
export const claudeVariable = "BLACKBOX5_AGENT_CLAUDE"
/** The instance's name, for what speaks to its agent. */
export const agentNameVariable = "BLACKBOX5_AGENT_NAME"

/** What is read of claude's settings; all else goes through. */
const settingsSchema = z.looseObject({
  env: z.record(z.string(), z.string()).optional(),
  hooks: z.record(z.string(), z.array(z.unknown())).optional(),
})
export type Settings = z.output<typeof settingsSchema>
/** What the supervisor gives with a turn. Said, not written: its run directory cannot be seen from inside. */
export const grantSchema = z.object({ settings: settingsSchema, model: z.string().optional(), mcp: z.string() })
export type Grant = z.output<typeof grantSchema>

/** sysexits.h: a temporary failure; the loop tries again by itself. */
const exitTempFail = 75
/** A supervisor that cannot be asked for so long will not come back by itself: the loop's own retry takes over. */
const unreachableMsMax = 600_000
/** One question waits at most this long at the supervisor, which then answers 204: ask again. */
const askMsMax = 60_000

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
function ask(method: string, path: string, body: unknown): Promise<Asked> {
  const url = new URL(path, process.env[agentUrlVariable])
  return new Promise((resolve, reject) => {
    const text = JSON.stringify(body)
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
async function insist(path: string, body: unknown, msMax: number): Promise<Asked | undefined> {
  const sinceMs = performance.now()
  for (let waitMs = 20; performance.now() - sinceMs < msMax; waitMs = Math.min(1000, waitMs * 2)) {
    try {
      const asked = await ask("POST", path, body)
      if (asked.status !== 204) return asked
      waitMs = 20
    } catch {
      await sleep(waitMs)
    }
  }
  return undefined
}

/** The caller's own `--settings` (a file or JSON) with ours on top: of two, claude counts the last alone. */
export function mergeSettings(args: readonly string[], ours: Settings): string[] {
  const merged = { ...ours }
  const rest: string[] = []
  for (let index = 0; index < args.length; index++) {
    const arg = args[index] ?? ""
    const text =
      arg === "--settings" ? args[++index] : arg.startsWith("--settings=") ? arg.slice("--settings=".length) : undefined
    if (text === undefined) rest.push(arg)
    else absorb(merged, JSON.parse(text.trimStart().startsWith("{") ? text : readFileSync(text, "utf8")) as Settings) // as claude itself would read it
  }
  return ["--settings", JSON.stringify(merged), ...rest]
}
function absorb(ours: Settings, theirs: Settings): void {
  const { env, hooks, ...others } = theirs
  ours.env = { ...env, ...ours.env }
  for (const [event, list] of Object.entries(hooks ?? {}))
    ours.hooks = { ...ours.hooks, [event]: [...(ours.hooks?.[event] ?? []), ...list] }
  for (const [key, value] of Object.entries(others)) if (!(key in ours)) ours[key] = value
}

/**
 * Flags behind the caller's, before a `--` that ends them. Of several `--mcp-config` claude takes all servers, and of two with one name the
 * last: so ours stand behind the caller's, and behind nothing that a list of values could swallow.
 */
export function appended(args: readonly string[], flags: readonly string[]): string[] {
  const end = args.indexOf("--")
  return end < 0 ? [...args, ...flags] : [...args.slice(0, end), ...flags, ...args.slice(end)]
}

/** Runs one claude. Resolves with the exit code to end with. */
export async function runTurn(args: readonly string[]): Promise<number> {
  const claude = process.env[claudeVariable]
  if (!claude || !process.env[agentUrlVariable]) {
    process.stderr.write("blackbox5 turn: there is no supervisor to ask; this command runs only inside an instance.\n")
    return exitTempFail
  }
  // Nested, it runs inside the outer turn, without doors.
  if (process.env[turnVariable] || !isPrompt(args)) return (await run(claude, args, process.env)).code
  const id = `t-${randomUUID()}`
  const asked = await insist(`/turns/${id}`, processId(process.pid), unreachableMsMax)
  if (asked?.status !== 200) {
    process.stderr.write(
      `blackbox5 turn: no turn could be had${asked ? ` (${asked.body.slice(0, 300)})` : ": the supervisor does not answer"}; no iteration was started.\n`,
    )
    return exitTempFail
  }
  const { settings, model, mcp } = grantSchema.parse(JSON.parse(asked.body))
  const own = args.includes("--model") || model === undefined ? [] : ["--model", model]
  const began = performance.now()
  const withOurs = appended(mergeSettings(args, settings), ["--mcp-config", mcp, ...own])
  const { code } = await run(claude, withOurs, { ...process.env, [turnVariable]: id })
  await insist(`/turns/${id}/end`, { code, ms: Math.round(performance.now() - began) }, askMsMax)
  return code
}

function run(claude: string, args: readonly string[], env: NodeJS.ProcessEnv): Promise<{ code: number }> {
  return new Promise((resolve) => {
    const child = spawn(claude, args, { stdio: "inherit", env })
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
    child.once("exit", (code, signal) => over(code ?? 128 + (signal ? constants.signals[signal] : 0)))
  })
}
