import { existsSync, mkdirSync, readFileSync, realpathSync } from "node:fs"
import { isAbsolute, join } from "node:path"
import { z } from "zod"
import { Fault } from "../../core/faults.ts"
import { replaceFile } from "../../host/replace-file.ts"
import { isCodeRoot } from "./code-root.ts"
import { canCarry } from "./project-names.ts"

/**
 * Code roots that are remembered; the one used longest ago is forgotten. What an instance works in
 * is in its spec.
 */
const rootsMax = 50

/** The code roots of a machine: the one that serve was started with, and those of its clients. */
export interface KnownRoots {
  readonly first: string | undefined
  /** Without those that vanished, which come back with their directory. */
  all(): readonly string[]
  /** @throws Unavailable when there is none. */
  some(): readonly string[]
  /**
   * Remembers the root that a caller found; returns its real path, or undefined when it is none.
   */
  admit(root: string): string | undefined
}

export function openKnownRoots(stateDirectory: string, given: string | undefined): KnownRoots {
  const first = given !== undefined && existsSync(given) ? realpathSync(given) : given
  const path = join(stateDirectory, "code-roots.json")
  let remembered = readRoots(path)
  const all = (): readonly string[] =>
    [...new Set([...(first === undefined ? [] : [first]), ...remembered])].filter(isCodeRoot)
  return {
    first,
    all,
    some() {
      const roots = all()
      if (roots.length > 0) return roots
      throw noCodeRoot(first)
    },
    admit(root) {
      if (!isAbsolute(root) || !isCodeRoot(root)) return undefined
      const real = realpathSync(root)
      if (real !== first && remembered[0] !== real) {
        remembered = [real, ...remembered.filter((one) => one !== real)].slice(0, rootsMax)
        mkdirSync(stateDirectory, { recursive: true, mode: 0o700 })
        replaceFile(path, JSON.stringify(remembered))
      }
      return real
    },
  }
}

function readRoots(path: string): readonly string[] {
  try {
    return z.array(z.string()).parse(JSON.parse(readFileSync(path, "utf8")))
  } catch {
    return [] // none yet; a damaged file is written anew as clients come
  }
}

export function noCodeRoot(path: string | undefined): Fault {
  const next = "Start `blackbox5 serve` in the checkout, or set --code-root or BLACKBOX5_CODE_ROOT."
  if (path === undefined)
    return new Fault(
      "Unavailable",
      "No code root found: this is neither a RALF checkout nor a git repository.",
      next,
    )
  if (canCarry(path)) return new Fault("Unavailable", `The code root ${path} does not exist.`, next)
  return new Fault(
    "Unavailable",
    `The path of the code root ${JSON.stringify(path)} has a line break or another control character, which git cannot carry.`,
    "Rename that directory.",
  )
}
