import { existsSync, readdirSync } from "node:fs"
import { basename, isAbsolute, join } from "node:path"
import { Fault } from "../../core/faults.ts"
import type { Spec } from "../../core/instance.ts"
import type { Completion, NamedLoop } from "../../core/loop.ts"
import { shellWord } from "../../core/view.ts"
import { searchClaude } from "../../host/find-claude.ts"
import { isDirectory, projectsDirectory } from "../../host/find-code-root.ts"
import { executable } from "../../host/find-program.ts"
import type { TreeFile } from "../../run/tree-file.ts"
import { canCarry, directoryNamed, projectNames } from "./project-names.ts"

/**
 * Where a checkout of the RALF layout keeps its engine, which its loop script and its prompts
 * belong to.
 */
const engine = "2-engine/.autonomous"

/** A loop script that stands in a code root. */
export interface RalfScript {
  /** Within the code root. */
  readonly path: string
  /**
   * The engine's takes the project's directory as an argument, and needs `.autonomous` in it. The
   * other takes none: it works in its own directory, on the whole checkout.
   */
  readonly takesProject: boolean
}
/** The places where public checkouts have their loop script. The first that is there counts. */
const scripts: readonly RalfScript[] = [
  { path: `${engine}/shell/ralf-loop.sh`, takesProject: true },
  { path: "bin/ralf-tools/ralf-loop.sh", takesProject: false },
]

/** Where there is none. Never a bare name, which would find the shim. */
const usualClaude = "/usr/local/bin/claude"

/** What a start needs to know. */
export interface Launch {
  readonly command: readonly string[]
  readonly directory: string
  /** The real claude, an absolute path; it may not be there now: the loop waits for it. */
  readonly claude: string
  readonly claudeNamed: boolean
  /** What the loop finds in its environment, as the checkout's own `bin/ralf` sets it. */
  readonly environment: Readonly<Record<string, string>>
  /** What decides that it is complete. */
  readonly completion: Completion
  /** Which loop it is, and where it stands, in words. */
  readonly loop: string
}
export interface CodeRootOptions {
  /** Loops of the policy. */
  loops(): Readonly<Record<string, NamedLoop>>
  /** The policy's claude, if it names one. */
  claude(): string | undefined
  /** argv that runs the built-in loop on a directory. */
  readonly builtIn: readonly string[]
}

const laidOut = (root: string): boolean => isDirectory(join(root, projectsDirectory))
/** A checkout of the RALF layout, or a git repository, which is a project by itself. */
export const isCodeRoot = (path: string): boolean =>
  canCarry(path) && (laidOut(path) || (isDirectory(path) && existsSync(join(path, ".git"))))

/** The directories in which projects may be; hidden ones hold none. */
const directoriesIn = (root: string): readonly string[] =>
  readdirSync(join(root, projectsDirectory), { withFileTypes: true })
    .filter((entry) => entry.isDirectory() && !entry.name.startsWith("."))
    .map(({ name }) => name)

/**
 * The names of the projects of a code root. Looks at the disk each time: people add projects while
 * we run.
 */
export function projectsIn(root: string): readonly string[] {
  if (!isCodeRoot(root)) return []
  return [...projectNames(laidOut(root) ? directoriesIn(root) : [basename(root)]).keys()].toSorted()
}
/** True for each name that a project of a code root is found by; the listed one is among them. */
export const hasProject = (root: string, project: string): boolean =>
  isCodeRoot(root) &&
  directoryNamed(laidOut(root) ? directoriesIn(root) : [basename(root)], project) !== undefined
/** Where a project that is there has its directory. */
export const directoryIn = (root: string, project: string): string =>
  laidOut(root)
    ? join(root, projectsDirectory, directoryNamed(directoriesIn(root), project) ?? project)
    : root

/**
 * The RALF loop script of a code root. A clone is no checkout of its own: what takes no argument
 * cannot work on it.
 */
export const scriptIn = (
  root: string,
  { repository }: Pick<Spec, "repository"> = {},
): RalfScript | undefined =>
  laidOut(root)
    ? scripts.find(
        ({ path, takesProject }) =>
          (takesProject || repository === undefined) && existsSync(join(root, path)),
      )
    : undefined
/** The program of a named loop that stands in the code root, as a path within. */
export const programIn = (loop: NamedLoop | undefined): string | undefined => {
  const program = loop?.command[0] ?? ""
  return program.includes("/") && !isAbsolute(program) ? program : undefined
}

/**
 * How a loop is started. `root`: the code root that the project or its loop script is in; `tree`:
 * where the instance works.
 * @throws Fault with what to do, when it could not be.
 */
export function launchOf(
  { loops, claude, builtIn }: CodeRootOptions,
  spec: Pick<Spec, "project" | "loop" | "repository">,
  root: string | undefined,
  tree: TreeFile,
): Launch {
  // In a tree of its own that holds the code root, the loop of that tree runs, not the person's.
  const at = tree.root ?? root ?? tree.project
  const policys = claude()
  const found = searchClaude({ named: policys })
  const always = {
    claude: "path" in found ? found.path : (policys ?? usualClaude),
    claudeNamed: policys !== undefined,
    environment: environmentOf(root, at, tree.project),
  }
  const named = loops()[spec.loop]
  if (named) return { ...always, ...launchNamed(spec.loop, named, root, tree) }
  if (spec.loop !== "ralf")
    throw new Fault(
      "NotFound",
      `The policy has no loop ${spec.loop}.`,
      `Use one of: ${["ralf", ...Object.keys(loops())].join(", ")}, or add it to the policy file.`,
    )
  const script = root === undefined ? undefined : scriptIn(root, spec)
  if (root === undefined || script === undefined)
    return {
      ...always,
      command: [...builtIn, tree.project],
      directory: tree.project,
      completion: "marker",
      loop: `built-in${root === undefined ? "" : whyBuiltIn(root)}`,
    }
  if (!executable(join(root, script.path))) throw notExecutable(join(root, script.path))
  if (script.takesProject && !tree.own && !isDirectory(join(tree.project, ".autonomous")))
    throw new Fault(
      "Invalid",
      `The project ${spec.project} has no directory .autonomous, which ralf-loop.sh needs.`,
      "Make it in the project's directory.",
    )
  const where = `${script.path} in ${tree.root === undefined ? root : `its own work tree of ${root}`}`
  return {
    ...always,
    // The script changes its directory before it uses the project's path: a relative one would lead
    // nowhere.
    command: ["bash", join(at, script.path), ...(script.takesProject ? [tree.project] : [])],
    directory: at,
    completion: "marker",
    loop: script.takesProject
      ? where
      : `${where}; it takes no project and works on that whole checkout`,
  }
}

function launchNamed(
  name: string,
  loop: NamedLoop,
  root: string | undefined,
  tree: TreeFile,
): Pick<Launch, "command" | "directory" | "completion" | "loop"> {
  const at = tree.root ?? root ?? tree.project
  const [program = "", ...args] = loop.command.map((part) =>
    part.replaceAll("{project}", tree.project),
  )
  const within = programIn(loop)
  // A tree of its own may not be made yet: what it will hold stands in the person's.
  const looked = within === undefined ? program : join(root ?? at, within)
  if (looked.includes("/") && !executable(looked)) throw notExecutable(looked)
  const path = within === undefined ? program : join(at, within)
  const where = tree.root === undefined ? `in ${at}` : `in its own work tree of ${root}`
  return {
    command: [path, ...args],
    directory: at,
    completion: loop.completion,
    loop: `${name} of the policy: ${program} ${where}`,
  }
}

/**
 * What the checkout's `bin/ralf` exports. A loop that takes no argument learns from it which
 * project is meant.
 */
function environmentOf(
  root: string | undefined,
  at: string,
  project: string,
): Record<string, string> {
  if (root === undefined || !laidOut(root)) return {}
  return {
    RALF_PROJECT_DIR: project,
    RALF_BLACKBOX5_DIR: at,
    ...(isDirectory(join(root, engine)) && { RALF_ENGINE_DIR: join(at, engine) }),
  }
}

/** Why a code root's own loop was not taken; nothing of a plain repository, which has none. */
const whyBuiltIn = (root: string): string => {
  if (!laidOut(root)) return ""
  const unfit = scriptIn(root)
  return unfit
    ? `; ${unfit.path} in ${root} cannot work on a clone`
    : `; ${root} has no ${scripts.map(({ path }) => path).join(" and no ")}`
}

const notExecutable = (path: string): Fault =>
  existsSync(path)
    ? new Fault(
        "Invalid",
        `The loop script ${path} is not executable.`,
        `Run chmod +x ${shellWord(path)}, then try again.`,
      )
    : new Fault(
        "NotFound",
        `The loop script ${path} is not there.`,
        "Correct the loop in the policy file.",
      )
