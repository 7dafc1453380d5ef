import { existsSync, realpathSync } from "node:fs"
import { isAbsolute, join } from "node:path"
import { Fault } from "../../core/faults.ts"
import type { Spec } from "../../core/instance.ts"
import { isDirectory } from "../../host/find-code-root.ts"
import type { TreeFile } from "../../run/tree-file.ts"
import {
  type CodeRootOptions,
  directoryIn,
  hasProject,
  type Launch,
  launchOf,
  programIn,
  projectsIn,
  scriptIn,
} from "./code-root.ts"
import { type KnownRoots, noCodeRoot, openKnownRoots } from "./known-roots.ts"

export interface CodeRootsOptions extends CodeRootOptions {
  readonly stateDirectory: string
  /** The one that serve itself was started with; undefined when it found none. */
  readonly first: string | undefined
}
export interface Layout {
  readonly root: string | undefined
  /** Of a project in the code root; what is cloned has none there. */
  readonly directory: string | undefined
  /**
   * The file of the code root, an absolute path, by which this spec's loop is run; undefined when
   * it is run by another program.
   */
  readonly program: string | undefined
  /** Its loop script needs `.autonomous` in the project. */
  readonly autonomous: boolean
  /** Its loop works on the whole code root, whatever the project is. */
  readonly whole: boolean
}
/** The code roots that serve knows: its own, and those that its clients found. */
export interface CodeRoots {
  /** The names of all projects, or of those of one root. */
  list(root?: string): readonly string[]
  /** Names of projects that several roots have, each with these roots. */
  shared(): ReadonlyMap<string, readonly string[]>
  /**
   * The root with that path, by whatever name it is reached. @throws NotFound for one that is not
   * known.
   */
  named(path: string): string
  /** Remembers the root that a caller found; the same, or undefined when it is none. */
  admit(root: string): string | undefined
  /**
   * The root in which a project is. In a collision the caller's own wins. @throws NotFound,
   * Conflict, Unavailable.
   */
  find(project: string, callers: string | undefined): string
  /** The caller's, or the first. */
  usual(callers: string | undefined): string | undefined
  /** @throws NotFound, Unavailable. */
  layoutOf(spec: Pick<Spec, "project" | "loop" | "repository" | "codeRoot">): Layout
  /** @throws Fault when a loop could not be started so. */
  launch(spec: Spec, tree: TreeFile): Launch
}

export function createCodeRoots(options: CodeRootsOptions): CodeRoots {
  const roots = openKnownRoots(options.stateDirectory, options.first)
  const usual = (callers: string | undefined): string | undefined => callers ?? roots.all()[0]
  const layoutOf: CodeRoots["layoutOf"] = (spec) => layoutIn(roots, options, spec, usual)
  return {
    list(root) {
      if (root !== undefined) return projectsIn(root)
      // Without a code root there are repositories to work on, and a fleet to look at.
      const known = roots.first === undefined ? roots.all() : roots.some()
      return [...new Set(known.flatMap(projectsIn))].toSorted()
    },
    shared: () => sharedProjects(roots.all()),
    named(path) {
      const known = roots.some()
      const real = isAbsolute(path) && existsSync(path) ? realpathSync(path) : path
      if (known.includes(real)) return real
      throw new Fault(
        "NotFound",
        `No code root ${path} is known here.`,
        `Use one of: ${known.slice(0, 20).join(", ")}. Others become known when a client starts in them.`,
      )
    },
    admit: roots.admit,
    find: (project, callers) => findProjectRoot(roots, project, callers),
    usual,
    layoutOf,
    launch: (spec, tree) => launchOf(options, spec, layoutOf(spec).root, tree),
  }
}

function sharedProjects(roots: readonly string[]): ReadonlyMap<string, readonly string[]> {
  const rootsByProject = new Map<string, string[]>()
  for (const root of roots)
    for (const name of projectsIn(root))
      rootsByProject.set(name, [...(rootsByProject.get(name) ?? []), root])
  return new Map([...rootsByProject].filter(([, having]) => having.length > 1))
}

function findProjectRoot(roots: KnownRoots, project: string, callers: string | undefined): string {
  const known = roots.some()
  if (callers !== undefined && hasProject(callers, project)) return callers
  const having = known.filter((root) => hasProject(root, project))
  const [only, second] = having
  if (only === undefined) throw missingProject(project, known)
  if (second === undefined) return only
  throw new Fault(
    "Conflict",
    `Several code roots have a project ${project}: ${having.slice(0, 5).join(", ")}.`,
    `Name one with codeRoot, for example ${JSON.stringify(only)}, or call from inside it.`,
  )
}

function missingProject(project: string, roots: readonly string[]): Fault {
  const names = [...new Set(roots.flatMap(projectsIn))]
  return new Fault(
    "NotFound",
    `There is no project ${project} in ${roots.slice(0, 5).join(", ")}.`,
    names.length > 0
      ? `Use one of: ${names.slice(0, 20).join(", ")}.`
      : `Make the directory 5-project-memory/${project} in the code root.`,
  )
}

/** An agent in that project reads this too, so no other project is named. */
const vanishedProject = (project: string, root: string | undefined): Fault =>
  new Fault(
    "NotFound",
    `The project ${project} is no longer in ${root ?? "any code root"}.`,
    "Put its directory back, or remove the instance.",
  )

/** The root of an instance that was spawned before code roots were part of the spec. */
function findFormerRoot(roots: KnownRoots, project: string): string {
  if (!roots.some().some((root) => hasProject(root, project)))
    throw vanishedProject(project, undefined)
  return findProjectRoot(roots, project, roots.first)
}

function layoutIn(
  roots: KnownRoots,
  { loops }: Pick<CodeRootOptions, "loops">,
  { project, loop, repository, codeRoot }: Parameters<CodeRoots["layoutOf"]>[0],
  usual: CodeRoots["usual"],
): Layout {
  const root =
    repository === undefined ? (codeRoot ?? findFormerRoot(roots, project)) : usual(codeRoot)
  if (codeRoot !== undefined && !isDirectory(codeRoot)) throw noCodeRoot(codeRoot)
  if (repository === undefined && root !== undefined && !hasProject(root, project))
    throw vanishedProject(project, root)
  const directory =
    repository === undefined && root !== undefined ? directoryIn(root, project) : undefined
  const script = loop === "ralf" && root !== undefined ? scriptIn(root, { repository }) : undefined
  const within = script?.path ?? programIn(loops()[loop])
  const program = root === undefined || within === undefined ? undefined : join(root, within)
  return {
    root,
    directory,
    program: program !== undefined && existsSync(program) ? program : undefined,
    autonomous: script?.takesProject === true,
    whole: script?.takesProject === false,
  }
}
