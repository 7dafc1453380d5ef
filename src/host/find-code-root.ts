import { existsSync, statSync } from "node:fs"
import { dirname, join } from "node:path"
import { isBelow } from "./find-program.ts"

/** Where the code root is: a checkout of the RALF layout, or a git repository. */

/** Where the layout keeps its projects. */
export const projectsDirectory = "5-project-memory"

export const isDirectory = (path: string): boolean =>
  statSync(path, { throwIfNoEntry: false })?.isDirectory() === true

/**
 * Upward from a directory to the first that has the RALF layout, else the first that is a git
 * repository.
 */
export function findCodeRoot(from: string): string | undefined {
  const upward: string[] = []
  for (let at = from; ; at = dirname(at)) {
    upward.push(at)
    if (at === dirname(at)) break
  }
  return (
    upward.find((at) => isDirectory(join(at, projectsDirectory))) ??
    upward.find((at) => existsSync(join(at, ".git")))
  )
}

/** The code root that a configuration means, if there is one. */
export const codeRootOf = (config: {
  readonly codeRoot: string | undefined
  readonly clientProject: string | undefined
  readonly stateDirectory: string
}): string | undefined =>
  config.codeRoot ??
  (config.clientProject === undefined ? undefined : findCodeRoot(config.clientProject)) ??
  // Above the state directory, where supervisors run, there may be a repository, but it is nobody's
  // code root.
  (isBelow(process.cwd(), config.stateDirectory) ? undefined : findCodeRoot(process.cwd()))
