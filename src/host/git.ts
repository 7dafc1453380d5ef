import { spawn } from "node:child_process"
import { existsSync } from "node:fs"
import { errorCode } from "../core/error-code.ts"
import { Fault } from "../core/faults.ts"
import { oneLine } from "../core/view.ts"
import type { FilterCommands, TrustedFilters } from "../core/workspace.ts"
import { programOutside } from "./find-program.ts"
import { type GitSurroundings, gitEnvironment } from "./git-environment.ts"
import { judgeFilters } from "./judge-filters.ts"

/**
 * Our own git. A repository's configuration is written by agents, too, so nothing that it alone
 * names is run: no hooks, no fsmonitor, no filters, no configured programs. What the person has set
 * for all repositories stays in force, credentials and filters among it, as it was when a person
 * last started serve.
 */

/** Reading takes milliseconds; a repository that needs longer than this is not waited for. */
const localMs = 10_000
const bytesMaxUsual = 1_048_576
/** For lists of all files of a repository: half a million of them. */
export const listBytesMax = 67_108_864
/** From SIGTERM, at which git takes its lock files away, to SIGKILL. */
const killMs = 2000

export interface GitResult {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
  /** It was ended because of its time, its output or the signal. */
  readonly cut: boolean
}
export interface GitOptions extends GitSurroundings {
  readonly signal?: AbortSignal | undefined
  /** At most; by default what a reading may take. */
  readonly ms?: number
  /** Of each of its outputs, at most. */
  readonly bytesMax?: number
  /** What it reads on its stdin. */
  readonly input?: string
}
export type Git = (
  args: readonly string[],
  options?: Omit<GitOptions, "signal" | "config">,
) => Promise<GitResult>

/**
 * Runs one git; never waits for a person, and never longer than it may. @throws Fault when there is
 * no git.
 */
export function runGit(
  directory: string,
  args: readonly string[],
  options: GitOptions = {},
): Promise<GitResult> {
  const { signal, ms = localMs, bytesMax = bytesMaxUsual, input } = options
  return new Promise((done, failed) => {
    // A session of its own: no terminal to ask at, and a group that its helpers are ended with.
    const child = spawn(programOutside("git"), args, {
      cwd: directory,
      detached: true,
      stdio: ["pipe", "pipe", "pipe"],
      env: gitEnvironment(options),
    })
    child.stdin.on("error", () => {}) // it ended before it had read all: its exit code says why
    child.stdin.end(input ?? "")
    const texts = { stdout: "", stderr: "" }
    let cut = false
    let killing: NodeJS.Timeout | undefined
    const kill = (name: NodeJS.Signals): void => {
      try {
        if (child.pid !== undefined) process.kill(-child.pid, name)
      } catch {
        // It ended meanwhile.
      }
    }
    const end = (): void => {
      if (cut) return
      cut = true
      kill("SIGTERM")
      killing = setTimeout(() => kill("SIGKILL"), killMs)
    }
    const timer = setTimeout(end, ms)
    signal?.addEventListener("abort", end, { once: true })
    if (signal?.aborted) end()
    for (const name of ["stdout", "stderr"] as const) {
      child[name].setEncoding("utf8")
      child[name].on("data", (chunk: string) => {
        if (texts[name].length + chunk.length > bytesMax) return end()
        texts[name] += chunk
      })
    }
    const over = (): void => {
      clearTimeout(timer)
      clearTimeout(killing)
      signal?.removeEventListener("abort", end)
    }
    child.once("error", (error) => {
      over()
      const missing = errorCode(error) === "ENOENT" && existsSync(directory)
      failed(
        missing
          ? new Fault(
              "Unavailable",
              "There is no git on the PATH of `blackbox5 serve`.",
              "Install git, then try again.",
            )
          : gitFailed(
              `Cannot run git in ${directory}: ${error.message}.`,
              "Check that the directory exists.",
            ),
      )
    })
    child.once("close", (code) => {
      over()
      done({ ...texts, code: cut ? 128 : (code ?? 128), cut })
    })
  })
}

export interface ArmedGit {
  readonly git: Git
  /**
   * Filters that only the repository's own configuration defines and nobody trusts, with their
   * commands. They are not run.
   */
  readonly untrusted: ReadonlyMap<string, FilterCommands>
}
/**
 * git in a directory, with what its repository alone would run taken out. Made anew for each piece
 * of work: the configuration may change.
 * @throws Unavailable with git's own words.
 */
export async function armGit(
  directory: string,
  trusted: TrustedFilters,
  signal?: AbortSignal,
): Promise<ArmedGit> {
  const listed = await runGit(directory, ["config", "--list", "--show-scope", "--includes", "-z"], {
    signal,
  })
  if (listed.code !== 0)
    throw gitFault(listed, `Reading the git configuration of ${directory}`, "Fix that file.")
  const { config, untrusted } = judgeFilters(listed.stdout, trusted)
  return {
    git: (args, options) => runGit(directory, args, { ...options, signal, config }),
    untrusted,
  }
}
/** The same, for who reads only, or checks nothing out. */
export const gitIn = async (
  directory: string,
  trusted: TrustedFilters = {},
  signal?: AbortSignal,
): Promise<Git> => (await armGit(directory, trusted, signal)).git

/** What git said last, with the advice that follows it, as one line that is safe to show. */
export function gitWords({ stderr, cut }: Pick<GitResult, "stderr" | "cut">): string {
  if (cut) return "it took too long, or said too much."
  const lines = stderr.trim().split("\n")
  const from = lines.findLastIndex((line) => /^(?:fatal|error): /.test(line))
  return oneLine(lines.slice(from < 0 ? -1 : from).join(" "), 400) || "nothing"
}
/** What git works on and what it says are the repository's words. */
const gitFailed = (words: string, next: string): Fault =>
  new Fault("Unavailable", "git failed.", next, undefined, words)
export const gitFault = (ran: GitResult, what: string, next: string): Fault =>
  gitFailed(`${what} failed: ${ran.cut ? gitWords(ran) : `git says "${gitWords(ran)}".`}`, next)

/** What it printed. @throws Unavailable with git's own words. */
export function must(
  ran: GitResult,
  what: string,
  next = "Fix what git reports, then try again.",
): string {
  if (ran.code === 0) return ran.stdout.trim()
  throw gitFault(ran, what, next)
}

/**
 * The commit that the first of these names means; undefined when git knows none of them.
 * @throws Unavailable when git cannot say: a repository that it refuses to read is not one without
 * commits.
 */
export async function commitOf(git: Git, names: readonly string[]): Promise<string | undefined> {
  for (const name of names) {
    const ran = await git([
      "rev-parse",
      "--verify",
      "--quiet",
      "--end-of-options",
      `${name}^{commit}`,
    ])
    if (ran.code === 0) return ran.stdout.trim()
    // With --quiet, 1 means that there is no such commit; everything else is a failure.
    if (ran.code !== 1)
      throw gitFault(ran, `Looking up ${name}`, "Fix what git reports, then try again.")
  }
  return undefined
}
