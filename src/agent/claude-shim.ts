import { spawn } from "node:child_process"
import { randomUUID } from "node:crypto"
import { fstatSync, openSync, readlinkSync, writeSync } from "node:fs"
import { constants } from "node:os"
import { Writable } from "node:stream"
import { z } from "zod"
import { instanceVariable, processId, turnVariable } from "../host/processes.ts"
import { mergeSettings, nestedSettings, settingsSchema, wayOut } from "./settings.ts"
import { appended, isPrompt } from "./shim-arguments.ts"
import {
  askMsMax,
  describeRefusal,
  insist,
  type SupervisorAnswer,
  type SupervisorPort,
} from "./shim-calls.ts"

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
/**
 * What marks this instance's processes, and leads them to its supervisor: a project's settings may
 * not say otherwise to what claude starts.
 */
const instanceEnvironment = (env: NodeJS.ProcessEnv): Record<string, string> =>
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
  const { env } = process
  const claude = env[claudeVariable]
  const url = env[agentUrlVariable]
  if (!claude || !url) {
    process.stderr.write(
      "blackbox5 turn: no supervisor to ask. Only loops run this command, inside an instance.\n",
    )
    return exitTempFail
  }
  if (!isPrompt(args)) return run(claude, args, env)
  const port = { url, token: env[agentTokenVariable] ?? "" }
  const outer = env[turnVariable]
  return outer ? runNested(port, claude, outer, args) : runIteration(port, claude, args)
}

/** A claude inside an iteration runs inside its turn, without hooks of ours. */
async function runNested(
  port: SupervisorPort,
  claude: string,
  outer: string,
  args: readonly string[],
): Promise<number> {
  const { env } = process
  const counted = nestedSettings(port.url, port.token)
  const merged = mergeSettings(args, counted, wayOut(env, process.cwd()))
  const nested = await inFile(port, outer, merged)
  return nested ? run(claude, nested.args, { ...env, [turnVariable]: nested.turn }) : exitTempFail
}

/** Waits for a turn, and reports how its claude ended. */
async function runIteration(
  port: SupervisorPort,
  claude: string,
  args: readonly string[],
): Promise<number> {
  const id = `t-${randomUUID()}`
  const self = JSON.stringify(processId(process.pid))
  const answer = await insist(port, `/turns/${id}`, self, unreachableMsMax)
  if (answer?.status !== 200) return refuse(answer)
  const grant = grantSchema.parse(JSON.parse(answer.body))
  const { settings, model, mcp, claude: real = claude } = grant
  const own = args.includes("--model") || model === undefined ? [] : ["--model", model]
  const env = { ...process.env, [turnVariable]: id, [claudeVariable]: real }
  const ours = { ...settings, env: { ...settings.env, ...instanceEnvironment(env) } }
  const beganMs = performance.now()
  const begun = await inFile(port, id, mergeSettings(args, ours, wayOut(env, process.cwd())))
  const code =
    begun?.turn === id
      ? await run(real, appended(begun.args, ["--mcp-config", mcp, ...own]), env)
      : exitTempFail
  const end = JSON.stringify({ code, ms: Math.round(performance.now() - beganMs) })
  await insist(port, `/turns/${id}/end`, end, askMsMax)
  return code
}

function refuse(answer: SupervisorAnswer | undefined): number {
  process.stderr.write(`blackbox5 turn: no iteration started: ${describeRefusal(answer)}\n`)
  return exitTempFail
}

const placedSchema = z.object({ path: z.string(), turn: z.string() })
/**
 * The settings in a file instead of an argument, which all users of the machine could read. The
 * supervisor writes it, for the agent may not change it. `turn` is the one that runs, which is not
 * always the one that this claude was started under: the agent's tmux server may be older.
 */
async function inFile(
  port: SupervisorPort,
  outer: string,
  [flag = "", settings = "", ...rest]: readonly string[],
): Promise<{ readonly args: readonly string[]; readonly turn: string } | undefined> {
  const answer = await insist(port, `/turns/${outer}/settings`, settings, unreachableMsMax)
  // An early supervisor has no such path.
  if (answer?.status === 404) return { args: [flag, settings, ...rest], turn: outer }
  if (answer?.status !== 200) {
    refuse(answer)
    return undefined
  }
  const { path, turn } = placedSchema.parse(JSON.parse(answer.body))
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

function run(claude: string, args: readonly string[], env: NodeJS.ProcessEnv): Promise<number> {
  return new Promise((resolve) => {
    const child = spawn(claude, args, { stdio: ["inherit", ownOutput(1), ownOutput(2)], env })
    const names = ["SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT"] as const
    const pass = (name: NodeJS.Signals): void => void child.kill(name)
    for (const name of names) process.on(name, pass)
    const finish = (code: number): void => {
      for (const name of names) process.off(name, pass)
      resolve(code)
    }
    child.once("error", (error) => {
      process.stderr.write(`blackbox5 turn: could not start ${claude}: ${error.message}\n`)
      finish(127)
    })
    child.once("exit", (code, signal) =>
      finish(code ?? 128 + (signal ? constants.signals[signal] : 0)),
    )
  })
}
