import { existsSync, readdirSync } from "node:fs"
import { basename, join, relative } from "node:path"
import { Fault } from "../../core/faults.ts"
import { projectSchema, type Spec } from "../../core/instance.ts"
import { findClaude } from "../../find-claude.ts"
import { isDirectory, projectsDirectory } from "../../find-code-root.ts"
import { executable } from "../../find-program.ts"
import type { TreeFile } from "../../tree-file.ts"

/** Where the RALF layout keeps its loop script. */
const script = "2-engine/.autonomous/shell/ralf-loop.sh"

/** What a start needs to know. */
export interface Launch {
  readonly command: readonly string[]
  readonly directory: string
  readonly claude: string
}
export interface CodeRootOptions {
  /** Loops of the policy: argv, in which `{project}` stands for the project's directory. */
  loops(): Readonly<Record<string, readonly string[]>>
  /** The policy's claude, if it names one. */
  claude(): string | undefined
  /** argv that runs the built-in loop on a directory. */
  readonly builtIn: readonly string[]
}

const laidOut = (root: string): boolean => isDirectory(join(root, projectsDirectory))
/** A checkout of the RALF layout, or a git repository, which is a project by itself. */
export const isCodeRoot = (path: string): boolean => laidOut(path) || (isDirectory(path) && existsSync(join(path, ".git")))

/** The projects of a code root. Looks at the disk each time: people add projects while we run. */
export function projectsIn(root: string): readonly string[] {
  if (laidOut(root))
    return readdirSync(join(root, projectsDirectory), { withFileTypes: true })
      .filter((entry) => entry.isDirectory() && projectSchema.safeParse(entry.name).success && !entry.name.startsWith("."))
      .map(({ name }) => name)
      .toSorted()
  return isCodeRoot(root) ? [basename(root)] : []
}
/** Where a project that is there has its directory. */
export const directoryIn = (root: string, project: string): string =>
  laidOut(root) ? join(root, projectsDirectory, project) : root
/** The RALF loop script of a code root that has one. */
export const scriptIn = (root: string): string | undefined =>
  laidOut(root) && existsSync(join(root, script)) ? join(root, script) : undefined

/**
 * How a loop is started. `root`: the code root that the project or its loop script is in; `tree`: where the instance works.
 * @throws Fault with what to do, when it could not be.
 */
export function launchOf(
  { loops, claude, builtIn }: CodeRootOptions,
  { project, loop }: Pick<Spec, "project" | "loop">,
  root: string | undefined,
  tree: TreeFile,
): Launch {
  const real = findClaude(claude())
  const named = loops()[loop]
  const at = tree.root ?? root ?? tree.project
  if (named) {
    const command = named.map((part) => part.replaceAll("{project}", tree.project))
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
  const ralf = root === undefined ? undefined : scriptIn(root)
  if (ralf === undefined) return { command: [...builtIn, tree.project], directory: tree.project, claude: real }
  if (!executable(ralf)) throw notExecutable(ralf)
  if (tree.own)
    return tree.root === undefined
      ? { command: ["bash", ralf, tree.project], directory: at, claude: real }
      : { command: ["bash", join(tree.root, script), relative(tree.root, tree.project)], directory: at, claude: real }
  if (!isDirectory(join(tree.project, ".autonomous")))
    throw new Fault(
      "Invalid",
      `The project ${project} has no directory .autonomous, which ralf-loop.sh needs.`,
      `Make it: mkdir ${join(tree.project, ".autonomous")}`,
    )
  return { command: ["bash", ralf, relative(at, tree.project)], directory: at, claude: real }
}

const notExecutable = (path: string): Fault =>
  existsSync(path)
    ? new Fault("Invalid", `The loop script ${path} is not executable.`, `Run chmod +x ${path}, then try again.`)
    : new Fault("NotFound", `The loop script ${path} is not there.`, "Correct the loop in the policy file.")
