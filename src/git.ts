import { spawn } from "node:child_process"
import { existsSync, readFileSync, realpathSync, statSync } from "node:fs"
import { dirname, join, resolve } from "node:path"
import { Fault } from "./core/faults.ts"
import { oneLine } from "./core/view.ts"

/**
 * Our own git. A repository's configuration is written by agents, too, so nothing that it names is run: no hooks, no fsmonitor, no filters, no
 * configured programs. What the person has set for all repositories stays in force, credentials among it.
 */

/** Reading takes milliseconds; a repository that needs longer than this is not waited for. */
const localMs = 10_000
const bytesMax = 1_048_576
/** From SIGTERM, at which git takes its lock files away, to SIGKILL. */
const killMs = 2000

export interface Ran {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
  /** It was ended because of its time, its output or the signal. */
  readonly cut: boolean
}
export interface GitOptions {
  readonly signal?: AbortSignal | undefined
  /** At the most; a reading's time if nobody says. */
  readonly ms?: number
  /** May talk to other machines. Otherwise no protocol is allowed at all. */
  readonly network?: boolean
  /** Configuration above that of all files. */
  readonly config?: readonly (readonly [string, string])[]
}
export type Git = (args: readonly string[], options?: Pick<GitOptions, "ms" | "network">) => Promise<Ran>

const always: readonly (readonly [string, string])[] = [
  ["core.hooksPath", "/dev/null"],
  ["core.fsmonitor", "false"],
  ["core.pager", "cat"],
  ["gc.auto", "0"],
  ["maintenance.auto", "false"],
  ["submodule.recurse", "false"],
  ["fetch.recurseSubmodules", "false"],
  ["protocol.ext.allow", "never"],
  // A transfer that stands still ends by itself, also where nobody is left to end it.
  ["http.lowSpeedLimit", "1000"],
  ["http.lowSpeedTime", "60"],
]
/** How the person's git reaches other machines. All other GIT_ variables are of somebody else's repository. */
const kept = /^GIT_(?:SSH|SSH_COMMAND|SSH_VARIANT|SSL_CAINFO|SSL_CAPATH)$/

function environment(config: GitOptions["config"], network: boolean): NodeJS.ProcessEnv {
  const all = [...always, ...(config ?? [])]
  return {
    ...Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("GIT_") || kept.test(name))),
    // Nobody is there to be asked: without a credential it fails at once.
    GIT_TERMINAL_PROMPT: "0",
    GIT_ASKPASS: "",
    SSH_ASKPASS_REQUIRE: "never",
    GCM_INTERACTIVE: "never",
    // Reading takes no lock that an agent's own git could meet.
    GIT_OPTIONAL_LOCKS: "0",
    GIT_ALLOW_PROTOCOL: network ? "https:http:ssh:git:file" : "",
    LC_ALL: "C",
    // Not -c, which cuts names at the first equals sign.
    GIT_CONFIG_COUNT: String(all.length),
    ...Object.fromEntries(
      all.flatMap(([name, value], at) => [
        [`GIT_CONFIG_KEY_${at}`, name],
        [`GIT_CONFIG_VALUE_${at}`, value],
      ]),
    ),
  }
}

/** Runs one git; never waits for a person, and never longer than it may. @throws Fault when there is no git. */
export function runGit(directory: string, args: readonly string[], options: GitOptions = {}): Promise<Ran> {
  const { signal, ms = localMs, network = false, config } = options
  return new Promise((done, failed) => {
    // A session of its own: no terminal to ask at, and a group that its helpers are ended with.
    const child = spawn("git", args, {
      cwd: directory,
      detached: true,
      stdio: ["ignore", "pipe", "pipe"],
      env: environment(config, network),
    })
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
      const missing = "code" in error && error.code === "ENOENT" && existsSync(directory)
      failed(
        missing
          ? new Fault("Unavailable", "There is no git on the PATH of `blackbox5 serve`.", "Install git, then try again.")
          : new Fault("Unavailable", `git could not be run in ${directory}: ${error.message}.`, "Look whether it is there."),
      )
    })
    child.once("close", (code) => {
      over()
      done({ ...texts, code: cut ? 128 : (code ?? 128), cut })
    })
  })
}

/** What a repository's own configuration would have us run at a checkout or a status. What stands in the person's files wins instead. */
async function disarmed(directory: string, signal: AbortSignal | undefined): Promise<[string, string][]> {
  const { code, stdout, stderr } = await runGit(directory, ["config", "--list", "--show-scope", "--includes", "-z"], { signal })
  if (code !== 0)
    throw new Fault("Unavailable", `git cannot read the configuration of ${directory}: ${lastWords(stderr)}`, "Mend it.")
  const persons = new Map<string, string>()
  const planted = new Set<string>()
  const fields = stdout.split("\0")
  for (let at = 0; at + 1 < fields.length; at += 2) {
    const [scope, entry = ""] = [fields[at], fields[at + 1]]
    const cut = entry.indexOf("\n")
    const key = cut < 0 ? entry : entry.slice(0, cut)
    if (!/^(?:filter\..*\.(?:clean|smudge|process|required)|hook\..*\.(?:command|event|enabled))$/s.test(key)) continue
    if (scope === "local" || scope === "worktree") planted.add(key)
    else persons.set(key, cut < 0 ? "true" : entry.slice(cut + 1))
  }
  return [...planted].map((key) => [key, persons.get(key) ?? (/\.(?:required|enabled)$/.test(key) ? "false" : "")])
}

/** git in a directory, with what its repository would run taken out. Made anew for each piece of work: the configuration may change. */
export async function gitIn(directory: string, signal?: AbortSignal): Promise<Git> {
  const config = await disarmed(directory, signal)
  return (args, options) => runGit(directory, args, { ...options, signal, config })
}

/** The last line of what git said, safe to show. */
export const lastWords = (stderr: string): string => oneLine(stderr.trim().split("\n").at(-1) ?? "", 300) || "it said nothing."

/** @throws Unavailable with git's own words. */
export function must(ran: Ran, what: string, next: string): string {
  if (ran.code === 0) return ran.stdout.trim()
  throw new Fault("Unavailable", `${what} failed: ${ran.cut ? "it took too long." : lastWords(ran.stderr)}`, next)
}

export interface Repository {
  /** The work tree that it was found by. */
  readonly top: string
  /** The directory that all its work trees have in common: the same for the same repository. */
  readonly common: string
}

/** The repository that a directory is in, by the file system alone. */
export function findRepository(directory: string): Repository | undefined {
  for (let at = realpathSync(directory); ; at = dirname(at)) {
    const common = commonOf(join(at, ".git"))
    if (common !== undefined) return { top: at, common }
    if (at === dirname(at)) return undefined
  }
}
function commonOf(dotGit: string): string | undefined {
  const stat = statSync(dotGit, { throwIfNoEntry: false })
  const real = (path: string): string | undefined => (existsSync(join(path, "HEAD")) ? realpathSync(path) : undefined)
  if (stat?.isDirectory()) return real(dotGit)
  if (!stat?.isFile() || stat.size > 8192) return undefined
  // A linked work tree or a submodule: gitrepository-layout(5).
  const [, named] = /^gitdir: (.+)\n?$/.exec(readFileSync(dotGit, "utf8")) ?? []
  if (named === undefined) return undefined
  const own = resolve(dirname(dotGit), named)
  const commonFile = join(own, "commondir")
  return real(existsSync(commonFile) ? resolve(own, readFileSync(commonFile, "utf8").trim()) : own)
}

/** True for a work tree of that repository, whose top it is. */
export function isTreeOf(path: string, common: string): boolean {
  const found = findRepository(path)
  return found !== undefined && found.top === realpathSync(path) && found.common === realpathSync(common)
}

/** The commit that a name means here, or on the remote. */
export async function commitOf(git: Git, names: readonly string[]): Promise<string | undefined> {
  for (const name of names) {
    const { code, stdout } = await git(["rev-parse", "--verify", "--quiet", "--end-of-options", `${name}^{commit}`])
    if (code === 0) return stdout.trim()
  }
  return undefined
}

export interface Measured {
  /** Undefined where HEAD is on no branch. */
  readonly branch?: string
  /** Undefined where nothing was committed yet. */
  readonly head?: string
  /** On HEAD, beyond the base. */
  readonly commits: number
  /** Something is changed or untracked, and not ignored; the loop's own logs do not count. */
  readonly dirty: boolean
}

/** What stands in a work tree, below `directory`. @throws Unavailable. */
export async function measure(directory: string, base: string | undefined, signal?: AbortSignal): Promise<Measured> {
  const git = await gitIn(directory, signal)
  const status = await git([
    ...["status", "--porcelain=v2", "--branch", "-z", "--untracked-files=normal", "--ignore-submodules=all", "--no-renames"],
    ...["--", ".", ":(exclude,glob)**/.autonomous/LOGS/**"],
  ])
  // So much output that it was cut is no clean tree.
  if (!status.cut || status.stdout === "") must(status, `git status in ${directory}`, "Look at that tree.")
  const lines = status.stdout.split("\0")
  const header = (name: string): string | undefined => lines.find((line) => line.startsWith(`# ${name} `))?.slice(name.length + 3)
  const [head, branch] = [header("branch.oid"), header("branch.head")]
  const counted =
    base === undefined || head === undefined || head === "(initial)"
      ? undefined
      : await git(["rev-list", "--count", "--end-of-options", `${base}..${head}`])
  return {
    ...(branch !== undefined && branch !== "(detached)" && { branch: oneLine(branch, 200) }),
    ...(head !== undefined && head !== "(initial)" && { head }),
    commits: counted?.code === 0 ? Number(counted.stdout.trim()) : 0,
    dirty: lines.some((line) => line !== "" && !line.startsWith("# ")),
  }
}
