import { spawn } from "node:child_process"
import { accessSync, closeSync, constants, existsSync } from "node:fs"
import { delimiter, join, relative } from "node:path"
import { lastingOf } from "../core/environment.ts"
import type { Problem } from "../core/instance.ts"
import { secretsVariable } from "../core/mcp-servers.ts"
import { oneLine, shellWord } from "../core/view.ts"
import { planView } from "../host/agent-view.ts"
import type { Guarded } from "../host/guarded.ts"
import { isolated, scratchOf } from "../host/isolation.ts"
import { instanceVariable, isAlive, type ProcessId, processId } from "../host/processes.ts"
import { systemPath, systemShell } from "../host/system-path.ts"
import { fileName, type RunDirectory } from "../run/run-directory.ts"
import {
  agentNameVariable,
  agentTokenVariable,
  agentUrlVariable,
  claudeVariable,
} from "./claude-shim.ts"
import type { DiskRetry } from "./disk-retry.ts"
import type { Output } from "./output.ts"
import { pathEntryFor } from "./path-entry.ts"
import type { PortAccess } from "./settings.ts"
import { writeShims } from "./shims.ts"
import { makeSockets } from "./sockets.ts"

/**
 * From SIGTERM to SIGKILL when the loop ends and leaves something behind, or is told to stop:
 * enough for claude to write its transcript.
 */
export const graceSeconds = 8

/**
 * Without settings of ours, of which an instance gets only the variables below, and without the
 * secrets of MCP servers.
 */
const inherited = (): NodeJS.ProcessEnv => {
  const secrets = new Set(process.env[secretsVariable]?.split(","))
  return Object.fromEntries(
    Object.entries(lastingOf(process.env)).filter(
      ([name]) => !name.startsWith("BLACKBOX5_") && !secrets.has(name),
    ),
  )
}

/**
 * Why the loop cannot be started, in words that say what to do. Its claude may be missing: it waits
 * for that at its turn.
 */
function obstacle(directory: string, program: string): Problem | undefined {
  if (!existsSync(directory))
    return {
      reason: "DirectoryMissing",
      message: `The directory ${directory} does not exist any more. Restore it, then run resume_instances.`,
    }
  if (!program.includes("/")) return undefined
  try {
    accessSync(program, constants.X_OK)
    return undefined
  } catch {
    return existsSync(program)
      ? {
          reason: "NotExecutable",
          message: `${program} (the loop) is not executable. Run chmod +x ${shellWord(program)}, then run resume_instances.`,
        }
      : {
          reason: "ProgramMissing",
          message: `${program} (the loop) does not exist. Install it or correct the policy, then run resume_instances.`,
        }
  }
}

/** What there is beside a run. */
export interface Outside {
  /** What is used outside of agents' namespaces, and so is not theirs to change. */
  guarded(): Guarded
  /** Tells people. */
  warn(message: string): void
}
const worksInProgram = (open: readonly string[]): string =>
  `This agent can change Blackbox5's own files, which also run outside of its namespaces, because it works in the same place: ${oneLine(open.join(", "), 600)}. Give it a work tree (workspace: worktree), or install Blackbox5 elsewhere.`

/**
 * The loop's parent, outside of its namespaces: it writes down how the loop ended, even when no
 * supervisor is there to see it. An argument of the shell, for a shell may read a file on while an
 * agent changes it; and what it runs at the end it looks for where no agent writes.
 */
const parent = `bb5_ended=$1 bb5_path=$2
shift 2
"$@"
bb5_code=$?
PATH=$bb5_path
printf '{"code":%d}' "$bb5_code" > "$bb5_ended.tmp" && mv "$bb5_ended.tmp" "$bb5_ended"
exit "$bb5_code"
`

/**
 * Starts the loop in a session of its own, its output into the FIFO: neither ends with its
 * supervisor. `Rival`: another supervisor has.
 */
export function startLoop(
  directory: RunDirectory,
  diskRetry: DiskRetry,
  output: Pick<Output, "openForLoop">,
  access: PortAccess,
  over: (code: number) => void,
  outside: Outside,
): Problem | "Rival" | undefined {
  const run = directory.get("run")
  if (!run) throw new Error(`${directory.path} is no run directory`)
  const problem = obstacle(run.directory, run.command[0] ?? "")
  if (problem) return problem
  const first = pathEntryFor(directory, process.env)
  if ("problem" in first) return first.problem
  const shell = writeShims(directory, first.entry, process.env.SHELL)
  const sockets = makeSockets(directory)
  const file = output.openForLoop()
  if (!directory.claim("launched", { atMs: Date.now() })) return "Rival"
  const { stateDirectory } = directory
  const { path, project, root, common } = run.tree ?? {}
  const work = [run.directory, path, project, root, common].filter((one) => one !== undefined)
  const view = planView({
    stateDirectory,
    scratch: scratchOf(stateDirectory),
    guarded: outside.guarded(),
    work,
  })
  if (view.open.length > 0 && run.isolation === "pid and mount namespaces")
    outside.warn(worksInProgram(view.open))
  const command = isolated(run.isolation, run.command, {
    stateDirectory,
    directory: run.directory,
    graceSeconds,
    view,
    bin: relative(stateDirectory, directory.bin),
  })
  const ended = join(directory.status, fileName("ended"))
  const child = spawn(
    systemShell,
    ["-c", parent, "blackbox5-loop", ended, systemPath, ...command],
    {
      cwd: run.directory,
      detached: true,
      stdio: ["ignore", file, file],
      env: {
        ...inherited(),
        ...run.environment,
        ...sockets,
        PATH: `${first.entry}${delimiter}${process.env.PATH ?? ""}`,
        SHELL: shell,
        [instanceVariable]: `${run.uid}/${run.place}`,
        [agentUrlVariable]: `http://127.0.0.1:${access.port}`,
        [agentTokenVariable]: access.token,
        [claudeVariable]: run.claude,
        [agentNameVariable]: run.name,
        // Claude Code sends hooks through a configured proxy, too, unless it is told not to.
        NO_PROXY: [process.env.NO_PROXY ?? process.env.no_proxy, "127.0.0.1"]
          .filter(Boolean)
          .join(","),
      },
    },
  )
  closeSync(file)
  // Fork or exec failed: the system is out of processes or memory.
  child.once("error", () => over(126))
  const id = child.pid === undefined ? undefined : processId(child.pid)
  if (id) diskRetry.set("loop", id)
  child.once("exit", (code, signal) =>
    over(directory.get("ended")?.code ?? code ?? (signal ? 143 : 1)),
  )
  return undefined
}

/**
 * The exit code of a loop that a predecessor started; undefined while it runs. Its exit cannot be
 * awaited, so it is looked for.
 */
export const adoptedExit = (directory: RunDirectory, id: ProcessId): number | undefined =>
  directory.get("ended")?.code ?? (isAlive(id) ? undefined : 137)
