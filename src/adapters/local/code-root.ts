import { existsSync, readdirSync, statSync } from "node:fs"
import { basename, dirname, join } from "node:path"
import { Fault } from "../../core/faults.ts"
import type { Spec } from "../../core/instance.ts"
import type { Projects } from "../../core/ports.ts"
import { executable, findClaude } from "../../find-claude.ts"

/** Where the RALF layout keeps its loop script and its projects. */
const script = "2-engine/.autonomous/shell/ralf-loop.sh"
const projectsDirectory = "5-project-memory"

export interface CodeRootOptions {
  /** The checkout; undefined when none was found. */
  readonly path: string | undefined
  /** Loops of the policy: argv, in which `{project}` stands for the project's directory. */
  loops(): Readonly<Record<string, readonly string[]>>
  /** The policy's claude, if it names one. */
  claude(): string | undefined
  /** argv that runs the built-in loop on a directory. */
  readonly builtIn: readonly string[]
}
/** What a start needs to know. */
export interface Launch {
  readonly command: readonly string[]
  readonly directory: string
  readonly claude: string
}
export interface CodeRoot extends Projects {
  resolve(spec: Pick<Spec, "project" | "loop">): Launch
}

const isDirectory = (path: string): boolean => statSync(path, { throwIfNoEntry: false })?.isDirectory() === true
/** Upward from a directory to the first that has the RALF layout, else the first that is a git repository. */
export function findCodeRoot(from: string): string | undefined {
  const upward: string[] = []
  for (let at = from; ; at = dirname(at)) {
    upward.push(at)
    if (at === dirname(at)) break
  }
  return upward.find((at) => isDirectory(join(at, projectsDirectory))) ?? upward.find((at) => existsSync(join(at, ".git")))
}

/** The projects of a code root, and how a loop on one of them is started. Looks at the disk each time: people add projects while we run. */
export function createCodeRoot({ path, loops, claude, builtIn }: CodeRootOptions): CodeRoot {
  const root = (): string => {
    const next = "Start `blackbox5 serve` in the checkout, or give --code-root or BLACKBOX5_CODE_ROOT."
    if (path === undefined)
      throw new Fault("Unavailable", "No code root is known: there is neither a RALF checkout nor a git repository here.", next)
    if (!isDirectory(path)) throw new Fault("Unavailable", `The code root ${path} is not there.`, next)
    return path
  }
  const laidOut = (at: string): boolean => isDirectory(join(at, projectsDirectory))
  const names = (at: string): readonly string[] =>
    laidOut(at)
      ? readdirSync(join(at, projectsDirectory), { withFileTypes: true })
          .filter((entry) => entry.isDirectory() && /^(?!\.)[A-Za-z0-9._-]{1,63}$/.test(entry.name))
          .map(({ name }) => name)
          .toSorted()
      : existsSync(join(at, ".git"))
        ? [basename(at)]
        : []

  const resolve = ({ project, loop }: Pick<Spec, "project" | "loop">): Launch => {
    const at = root()
    const known = names(at)
    if (!known.includes(project))
      throw new Fault(
        "NotFound",
        `There is no project ${project} in ${at}.`,
        known.length > 0
          ? `Use one of: ${known.slice(0, 20).join(", ")}.`
          : `Make the directory ${projectsDirectory}/${project} in the code root.`,
      )
    const directory = laidOut(at) ? join(at, projectsDirectory, project) : at
    const real = findClaude(claude())
    const named = loops()[loop]
    if (named) {
      const command = named.map((part) => part.replaceAll("{project}", directory))
      const program = command[0] ?? ""
      if (program.includes("/") && !executable(program)) throw notExecutable(program)
      return { command, directory: at, claude: real }
    }
    if (loop !== "ralf")
      throw new Fault(
        "NotFound",
        `The policy has no loop ${loop}.`,
        `Use one of: ${["ralf", ...Object.keys(loops())].join(", ")}, or add it to the policy file.`,
      )
    const ralf = join(at, script)
    if (!laidOut(at) || !existsSync(ralf)) return { command: [...builtIn, directory], directory, claude: real }
    if (!executable(ralf)) throw notExecutable(ralf)
    if (!isDirectory(join(directory, ".autonomous")))
      throw new Fault(
        "Invalid",
        `The project ${project} has no directory .autonomous, which ralf-loop.sh needs.`,
        `Make it: mkdir ${join(directory, ".autonomous")}`,
      )
    return { command: ["bash", ralf, join(projectsDirectory, project)], directory: at, claude: real }
  }
  return {
    list: async () => names(root()),
    check: async (spec) => {
      resolve(spec)
    },
    resolve,
  }
}

const notExecutable = (path: string): Fault =>
  existsSync(path)
    ? new Fault("Invalid", `The loop script ${path} is not executable.`, `Run chmod +x ${path}, then try again.`)
    : new Fault("NotFound", `The loop script ${path} is not there.`, "Correct the loop in the policy file.")
