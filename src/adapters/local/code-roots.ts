import { existsSync, mkdirSync, readFileSync, realpathSync } from "node:fs"
import { isAbsolute, join } from "node:path"
import { z } from "zod"
import { Fault } from "../../core/faults.ts"
import type { Spec } from "../../core/instance.ts"
import { isDirectory } from "../../host/find-code-root.ts"
import { replaceFile } from "../../host/replace-file.ts"
import type { TreeFile } from "../../run/tree-file.ts"
import {
  type CodeRootOptions,
  directoryIn,
  hasProject,
  isCodeRoot,
  type Launch,
  launchOf,
  programIn,
  projectsIn,
  scriptIn,
} from "./code-root.ts"
import { canCarry } from "./project-names.ts"

/**
 * Code roots that are remembered; the one used longest ago is forgotten. What an instance works in
 * stands in its spec.
 */
const rootsMax = 50

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

export function noCodeRoot(path: string | undefined): Fault {
  const next =
    "Start `blackbox5 serve` in the checkout, or give --code-root or BLACKBOX5_CODE_ROOT."
  if (path === undefined)
    return new Fault(
      "Unavailable",
      "No code root is known: there is neither a RALF checkout nor a git repository here.",
      next,
    )
  if (canCarry(path)) return new Fault("Unavailable", `The code root ${path} is not there.`, next)
  return new Fault(
    "Unavailable",
    `The path of the code root ${JSON.stringify(path)} has a line break or another control character, which git cannot carry.`,
    "Rename that directory.",
  )
}

export function createCodeRoots(options: CodeRootsOptions): CodeRoots {
  const { stateDirectory } = options
  const first =
    options.first !== undefined && existsSync(options.first)
      ? realpathSync(options.first)
      : options.first
  const path = join(stateDirectory, "code-roots.json")
  const read = (): readonly string[] => {
    try {
      return z.array(z.string()).parse(JSON.parse(readFileSync(path, "utf8")))
    } catch {
      return [] // none was told yet; what cannot be read is told again by the clients
    }
  }
  let told = read()
  /** Those that vanished are left out, and come back with their directory. */
  const all = (): readonly string[] =>
    [...new Set([...(first === undefined ? [] : [first]), ...told])].filter(isCodeRoot)
  const known = (): readonly string[] => {
    const roots = all()
    if (roots.length > 0) return roots
    throw noCodeRoot(first)
  }
  const missing = (project: string, roots: readonly string[]): Fault => {
    const names = [...new Set(roots.flatMap(projectsIn))]
    return new Fault(
      "NotFound",
      `There is no project ${project} in ${roots.slice(0, 5).join(", ")}.`,
      names.length > 0
        ? `Use one of: ${names.slice(0, 20).join(", ")}.`
        : `Make the directory 5-project-memory/${project} in the code root.`,
    )
  }
  /**
   * Of an instance that was spawned there. Its agent is told of it too, so no other project is
   * named.
   */
  const gone = (project: string, root: string | undefined): Fault =>
    new Fault(
      "NotFound",
      `The project ${project} is ${root === undefined ? "in no code root" : `not in ${root}`} any more.`,
      "Put its directory back, or remove the instance.",
    )
  const find = (project: string, callers: string | undefined): string => {
    const roots = known()
    if (callers !== undefined && hasProject(callers, project)) return callers
    const having = roots.filter((root) => hasProject(root, project))
    const [only, second] = having
    if (only === undefined) throw missing(project, roots)
    if (second === undefined) return only
    throw new Fault(
      "Conflict",
      `There is a project ${project} in each of ${having.slice(0, 5).join(", ")}.`,
      `Say which one: give codeRoot, e.g. ${JSON.stringify(only)}, or call from it.`,
    )
  }
  /** Where an instance of before code roots were kept is. */
  const findFormer = (project: string): string => {
    if (!known().some((root) => hasProject(root, project))) throw gone(project, undefined)
    return find(project, first)
  }
  const usual = (callers: string | undefined): string | undefined => callers ?? all()[0]
  const layoutOf: CodeRoots["layoutOf"] = ({ project, loop, repository, codeRoot }) => {
    const root = repository === undefined ? (codeRoot ?? findFormer(project)) : usual(codeRoot)
    if (codeRoot !== undefined && !isDirectory(codeRoot)) throw noCodeRoot(codeRoot)
    if (repository === undefined && root !== undefined && !hasProject(root, project))
      throw gone(project, root)
    const directory =
      repository === undefined && root !== undefined ? directoryIn(root, project) : undefined
    const script =
      loop === "ralf" && root !== undefined ? scriptIn(root, { repository }) : undefined
    const within = script?.path ?? programIn(options.loops()[loop])
    const program = root === undefined || within === undefined ? undefined : join(root, within)
    return {
      root,
      directory,
      program: program !== undefined && existsSync(program) ? program : undefined,
      autonomous: script?.takesProject === true,
      whole: script?.takesProject === false,
    }
  }

  return {
    list(root) {
      if (root !== undefined) return projectsIn(root)
      // Without a code root there are repositories to work on, and a fleet to look at.
      const roots = first === undefined ? all() : known()
      return [...new Set(roots.flatMap(projectsIn))].toSorted()
    },
    shared() {
      const having = new Map<string, string[]>()
      for (const root of all())
        for (const name of projectsIn(root)) having.set(name, [...(having.get(name) ?? []), root])
      return new Map([...having].filter(([, roots]) => roots.length > 1))
    },
    named(path) {
      const roots = known()
      const real = isAbsolute(path) && existsSync(path) ? realpathSync(path) : path
      if (roots.includes(real)) return real
      throw new Fault(
        "NotFound",
        `No code root ${path} is known here.`,
        `Give one of: ${roots.slice(0, 20).join(", ")}. Another is known once a client was started in it.`,
      )
    },
    admit(root) {
      if (!isAbsolute(root) || !isCodeRoot(root)) return undefined
      const real = realpathSync(root)
      if (real !== first && told[0] !== real) {
        told = [real, ...told.filter((one) => one !== real)].slice(0, rootsMax)
        mkdirSync(stateDirectory, { recursive: true, mode: 0o700 })
        replaceFile(path, JSON.stringify(told))
      }
      return real
    },
    find,
    usual,
    layoutOf,
    launch: (spec, tree) => launchOf(options, spec, layoutOf(spec).root, tree),
  }
}
