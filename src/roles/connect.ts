import { execFile } from "node:child_process"
import { existsSync, mkdirSync, readFileSync, realpathSync, statSync, writeFileSync } from "node:fs"
import { dirname } from "node:path"
import { isDeepStrictEqual } from "node:util"
import { lastingProgram } from "../client/program.ts"
import { Fault } from "../core/faults.ts"
import { clean, shellWord } from "../core/view.ts"
import { findClaude } from "../host/find-claude.ts"
import { codeRootOf } from "../host/find-code-root.ts"
import { replaceFile } from "../host/replace-file.ts"
import { type Config, claudeDesktopFile, readConfig } from "../settings/config.ts"
import { readPolicy } from "../settings/policy.ts"
import { type ClientEntry, clientEntry } from "./client-entry.ts"
import { parseArguments, showUsage, usageError } from "./parse-args.ts"
import {
  installCommand,
  launcherOf,
  launcherPath,
  offerCommand,
  removeCommand,
} from "./shell-command.ts"

const entryName = "blackbox5"
const claudeMs = 60_000
const scopes = ["user", "local", "project"] as const

const usage = `usage: blackbox5 connect claude-code [--code-root DIR] [--scope ${scopes.join("|")}] [--dry-run]
       blackbox5 connect claude-desktop [--code-root DIR] [--dry-run]
       blackbox5 connect shell [--remove] [--dry-run]

Tells a client about this fleet, with the settings that are in force now and differ from the defaults.
\`connect shell\` makes the command blackbox5 in your ~/.local/bin, so that every shell finds it.

  --code-root DIR  the checkout to work in
  --scope SCOPE    where Claude Code keeps the entry: user (the default), local or project
  --remove         delete the command again
  --dry-run        print what would be written, and write nothing
`
const clients = ["claude-code", "claude-desktop", "shell"]
const ask = (client: string): string =>
  `Then ask, in a new session of ${client}: "What are the agents doing?"\n`

/** Runs claude; resolves with its exit code and what it said. */
const run = (
  program: string,
  args: readonly string[],
): Promise<{ readonly code: number; readonly said: string }> =>
  new Promise((resolve) => {
    const child = execFile(
      program,
      args,
      { timeout: claudeMs, maxBuffer: 1_048_576 },
      (error, stdout, stderr) =>
        resolve({
          code: child.exitCode ?? 1,
          said: clean(`${stderr}${stdout}`).trim() || (error?.message ?? ""),
        }),
    )
    child.stdin?.end()
  })

async function connectClaudeCode(config: Config, scope: string, dryRun: boolean): Promise<string> {
  // Claude Code says which project it is in: a code root that nobody named is found from there.
  const { command, args, env } = clientEntry(config, config.codeRoot)
  const policy = readPolicy(config.configDirectory)
  const claude = findClaude("policy" in policy ? policy.policy.claude : undefined)
  const settings = Object.entries(env).flatMap(([name, value]) => ["-e", `${name}=${value}`])
  const add = ["mcp", "add", "--scope", scope, entryName, ...settings, "--", command, ...args]
  const line = [claude, ...add].map(shellWord).join(" ")
  if (dryRun) return `Would run:\n  ${line}\n`
  let added = await run(claude, add)
  if (added.code !== 0 && /already exists/i.test(added.said)) {
    const removed = await run(claude, ["mcp", "remove", "--scope", scope, entryName])
    if (removed.code === 0) added = await run(claude, add)
  }
  if (added.code !== 0)
    throw new Fault(
      "Unavailable",
      `claude did not take the entry: ${added.said}`,
      `Put right what it says, then run: ${line}`,
    )
  return `Claude Code has the entry ${entryName} now (scope ${scope}):\n  ${line}\n${ask("Claude Code")}`
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value)

/**
 * The settings in a file with the entry in them, all else as it is; undefined when it is there.
 * @throws Invalid when they are none.
 */
function withEntry(path: string, text: string | undefined, entry: ClientEntry): string | undefined {
  const next = "Correct it, or move it aside, then try again; nothing was changed."
  let settings: unknown = {}
  try {
    if (text !== undefined && text.trim() !== "") settings = JSON.parse(text)
  } catch (error) {
    throw new Fault(
      "Invalid",
      `${path} is not JSON (${error instanceof Error ? clean(error.message) : "unreadable"}).`,
      next,
    )
  }
  if (!isObject(settings)) throw new Fault("Invalid", `${path} holds no JSON object.`, next)
  const servers = settings.mcpServers ?? {}
  if (!isObject(servers))
    throw new Fault("Invalid", `mcpServers in ${path} is no JSON object.`, next)
  if (isDeepStrictEqual(servers[entryName], entry)) return undefined
  return `${JSON.stringify({ ...settings, mcpServers: { ...servers, [entryName]: entry } }, null, 2)}\n`
}

function connectClaudeDesktop(config: Config, dryRun: boolean): string {
  // Claude Desktop has no project, and starts its servers anywhere.
  const codeRoot = codeRootOf(config)
  const entry = clientEntry(config, codeRoot)
  const asked = claudeDesktopFile()
  // Where the file is a link, what it leads to is replaced.
  const path = existsSync(asked) ? realpathSync(asked) : asked
  const before = existsSync(path) ? readFileSync(path, "utf8") : undefined
  const after = withEntry(path, before, entry)
  const shown = `  ${JSON.stringify({ [entryName]: entry }, null, 2).replaceAll("\n", "\n  ")}\n`
  const rootless =
    codeRoot === undefined
      ? "It names no code root: none was found here. Give --code-root DIR.\n"
      : ""
  if (dryRun) return `Would write into mcpServers of ${path}:\n${shown}${rootless}`
  if (after === undefined)
    return `${path} has this entry already; nothing was changed.\n${ask("Claude Desktop")}`
  let kept = ""
  try {
    mkdirSync(dirname(path), { recursive: true })
    const mode = before === undefined ? 0o600 : statSync(path).mode & 0o777
    if (before !== undefined) {
      const backup = `${path}.${new Date().toISOString().replaceAll(":", "-")}.bak`
      writeFileSync(backup, before, { mode, flag: "wx" })
      kept = `As it was before: ${backup}\n`
    }
    replaceFile(path, after, mode)
  } catch (error) {
    throw new Fault(
      "Unavailable",
      `${path} could not be written (${error instanceof Error ? error.message : error}).`,
      "Make it writable, then try again; what was there is unchanged.",
      error,
    )
  }
  return `Wrote into mcpServers of ${path}:\n${shown}${kept}${rootless}Start Claude Desktop again. ${ask("Claude Desktop")}`
}

const options = {
  "code-root": { type: "string" },
  scope: { type: "string" },
  remove: { type: "boolean", default: false },
  "dry-run": { type: "boolean", default: false },
  help: { type: "boolean", short: "h", default: false },
} as const

interface Values {
  readonly "code-root"?: string | undefined
  readonly scope?: string | undefined
  readonly remove: boolean
}

/** What was asked for cannot be; undefined when it can. */
function mistakeIn([client = "", ...rest]: readonly string[], values: Values): string | undefined {
  if (client === "") return `Say what to connect: ${clients.join(", ")}.`
  if (!clients.includes(client) || rest.length > 0)
    return `connect knows no ${[client, ...rest].join(" ")}.`
  if (values.scope !== undefined && client !== "claude-code") return "Only Claude Code has scopes."
  if (values.scope !== undefined && !scopes.some((one) => one === values.scope))
    return `There is no scope ${values.scope}.`
  if (values["code-root"] !== undefined && client === "shell")
    return "The command finds the code root where it runs."
  return values.remove && client !== "shell" ? "--remove is for `connect shell`." : undefined
}

function connectShell(remove: boolean, dryRun: boolean): string {
  if (dryRun)
    return remove
      ? `Would delete ${launcherPath()}\n`
      : `Would write ${launcherPath()}:\n${launcherOf(lastingProgram())}`
  return `${remove ? removeCommand() : installCommand()}\n`
}

/**
 * `blackbox5 connect claude-code | claude-desktop | shell`: writes the client's entry. Exit code 0:
 * written; 1: a fault; 2: called wrongly.
 */
export async function connect(argv: readonly string[]): Promise<number> {
  const words = parseArguments(argv, options)
  if (typeof words === "string") return usageError(words, usage)
  const { values, positionals } = words
  if (values.help) return showUsage(usage)
  const mistake = mistakeIn(positionals, values)
  if (mistake !== undefined) return usageError(mistake, usage)
  const [client = ""] = positionals
  const dryRun = values["dry-run"]
  if (client === "shell") {
    process.stdout.write(connectShell(values.remove, dryRun))
    return 0
  }
  const config = readConfig({ codeRoot: values["code-root"] })
  if (config.remote)
    throw new Fault(
      "Invalid",
      `This shell talks to the control plane at ${config.remote.url}; connect writes entries for the one of this machine.`,
      "Run it in a shell without BLACKBOX5_URL, outside of an agent.",
    )
  process.stdout.write(
    client === "claude-code"
      ? await connectClaudeCode(config, values.scope ?? "user", dryRun)
      : connectClaudeDesktop(config, dryRun),
  )
  if (!dryRun) await offerCommand(new AbortController().signal)
  return 0
}
