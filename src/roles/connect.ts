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
  launcherPath,
  launcherScript,
  offerCommand,
  removeCommand,
} from "./shell-command.ts"

const entryName = "blackbox5"
const claudeMs = 60_000
const scopes = ["user", "local", "project"] as const

const usage = `usage: blackbox5 connect claude-code [--code-root DIR] [--scope ${scopes.join("|")}] [--dry-run]
       blackbox5 connect claude-desktop [--code-root DIR] [--dry-run]
       blackbox5 connect shell [--remove] [--dry-run]

Connects a client to this fleet, with the current settings.
\`connect shell\` installs the command blackbox5 in ~/.local/bin, so that every shell finds it.

  --code-root DIR  the checkout to work in
  --scope SCOPE    where Claude Code keeps the entry: user (default), local or project
  --remove         delete the command
  --dry-run        show what would be written, but do not write it
`
const clients = ["claude-code", "claude-desktop", "shell"]
const firstQuestion = (client: string): string =>
  `Then start a new session of ${client} and ask: "What are the agents doing?"\n`

/** Runs claude. Resolves with its exit code and output. */
const run = (
  program: string,
  args: readonly string[],
): Promise<{ readonly code: number; readonly output: string }> =>
  new Promise((resolve) => {
    const child = execFile(
      program,
      args,
      { timeout: claudeMs, maxBuffer: 1_048_576 },
      (error, stdout, stderr) =>
        resolve({
          code: child.exitCode ?? 1,
          output: clean(`${stderr}${stdout}`).trim() || (error?.message ?? ""),
        }),
    )
    child.stdin?.end()
  })

async function connectClaudeCode(config: Config, scope: string, dryRun: boolean): Promise<string> {
  // Claude Code says which project it is in, so a code root that was not named is found from there.
  const { command, args, env } = clientEntry(config, config.codeRoot)
  const policy = readPolicy(config.configDirectory)
  const claude = findClaude("policy" in policy ? policy.policy.claude : undefined)
  const settings = Object.entries(env).flatMap(([name, value]) => ["-e", `${name}=${value}`])
  const add = ["mcp", "add", "--scope", scope, entryName, ...settings, "--", command, ...args]
  const line = [claude, ...add].map(shellWord).join(" ")
  if (dryRun) return `Would run:\n  ${line}\n`
  let added = await run(claude, add)
  if (added.code !== 0 && /already exists/i.test(added.output)) {
    const removed = await run(claude, ["mcp", "remove", "--scope", scope, entryName])
    if (removed.code === 0) added = await run(claude, add)
  }
  if (added.code !== 0)
    throw new Fault(
      "Unavailable",
      `claude did not accept the entry: ${added.output}`,
      `Fix what it reports, then run: ${line}`,
    )
  return `Added ${entryName} to Claude Code (scope ${scope}):\n  ${line}\n${firstQuestion("Claude Code")}`
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value)

/**
 * The text of a settings file with the entry added; undefined when it has the entry already.
 * @throws Invalid when the text is not valid settings.
 */
function withEntry(path: string, text: string | undefined, entry: ClientEntry): string | undefined {
  const next = "Nothing was changed. Fix the file or move it away, then try again."
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
  if (!isObject(settings)) throw new Fault("Invalid", `${path} is not a JSON object.`, next)
  const servers = settings.mcpServers ?? {}
  if (!isObject(servers))
    throw new Fault("Invalid", `mcpServers in ${path} is not a JSON object.`, next)
  if (isDeepStrictEqual(servers[entryName], entry)) return undefined
  return `${JSON.stringify({ ...settings, mcpServers: { ...servers, [entryName]: entry } }, null, 2)}\n`
}

function connectClaudeDesktop(config: Config, dryRun: boolean): string {
  // Claude Desktop has no project, and starts its servers in any directory.
  const codeRoot = codeRootOf(config)
  const entry = clientEntry(config, codeRoot)
  const file = claudeDesktopFile()
  // If the file is a link, its target is replaced.
  const path = existsSync(file) ? realpathSync(file) : file
  const before = existsSync(path) ? readFileSync(path, "utf8") : undefined
  const after = withEntry(path, before, entry)
  const shown = `  ${JSON.stringify({ [entryName]: entry }, null, 2).replaceAll("\n", "\n  ")}\n`
  const rootless =
    codeRoot === undefined
      ? "The entry has no code root, because none was found here. To set one, pass --code-root DIR.\n"
      : ""
  if (dryRun) return `Would add to mcpServers in ${path}:\n${shown}${rootless}`
  if (after === undefined)
    return `${path} already has this entry. Nothing was changed.\n${firstQuestion("Claude Desktop")}`
  let kept = ""
  try {
    mkdirSync(dirname(path), { recursive: true })
    const mode = before === undefined ? 0o600 : statSync(path).mode & 0o777
    if (before !== undefined) {
      const backup = `${path}.${new Date().toISOString().replaceAll(":", "-")}.bak`
      writeFileSync(backup, before, { mode, flag: "wx" })
      kept = `Backup of the previous file: ${backup}\n`
    }
    replaceFile(path, after, mode)
  } catch (error) {
    throw new Fault(
      "Unavailable",
      `Cannot write ${path} (${error instanceof Error ? error.message : error}).`,
      "Nothing was changed. Make it writable, then try again.",
      error,
    )
  }
  return `Added to mcpServers in ${path}:\n${shown}${kept}${rootless}Restart Claude Desktop. ${firstQuestion("Claude Desktop")}`
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

/** What is wrong with the arguments; undefined when nothing is. */
function mistakeIn([client = "", ...rest]: readonly string[], values: Values): string | undefined {
  if (client === "") return `What should be connected? Give one of ${clients.join(", ")}.`
  if (!clients.includes(client) || rest.length > 0)
    return `Cannot connect ${[client, ...rest].join(" ")}.`
  if (values.scope !== undefined && client !== "claude-code")
    return "--scope is only for claude-code."
  if (values.scope !== undefined && !scopes.some((one) => one === values.scope))
    return `Unknown scope: ${values.scope}`
  if (values["code-root"] !== undefined && client === "shell")
    return "--code-root is not for `connect shell`: the command looks for the code root where it runs."
  return values.remove && client !== "shell" ? "--remove is only for `connect shell`." : undefined
}

function connectShell(remove: boolean, dryRun: boolean): string {
  if (dryRun)
    return remove
      ? `Would delete ${launcherPath()}\n`
      : `Would write ${launcherPath()}:\n${launcherScript(lastingProgram())}`
  return `${remove ? removeCommand() : installCommand()}\n`
}

/**
 * `blackbox5 connect claude-code | claude-desktop | shell`: writes the client's entry. Exit code 0:
 * written; 1: failed; 2: a usage error.
 */
export async function connect(argv: readonly string[]): Promise<number> {
  const parsed = parseArguments(argv, options)
  if (typeof parsed === "string") return usageError(parsed, usage)
  const { values, positionals } = parsed
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
      `This shell uses the control plane at ${config.remote.url}, but connect writes entries for the one on this machine.`,
      "Run it outside of an agent, in a shell without BLACKBOX5_URL.",
    )
  process.stdout.write(
    client === "claude-code"
      ? await connectClaudeCode(config, values.scope ?? "user", dryRun)
      : connectClaudeDesktop(config, dryRun),
  )
  if (!dryRun) await offerCommand(new AbortController().signal)
  return 0
}
