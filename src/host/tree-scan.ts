import type { Stats } from "node:fs"
import { lstat, readdir } from "node:fs/promises"
import { basename, join, relative } from "node:path"
import { errorCode } from "../core/error-code.ts"

/**
 * What lies in a directory tree that git itself does not tell: other repositories, ignored ones
 * too, mounts, what cannot be read; and its size.
 */

/** A tree with more in it is not looked through: half a minute on a slow disk. */
const entriesMaxUsual = 2_000_000
/** Repositories that are not git's. */
const foreign = new Set([".hg", ".jj", ".svn", ".bzr", ".pijul", "_darcs"])
const inGitDirectory = new Set(["objects", "hooks", "info", "logs", "refs"])

export interface TreeScan {
  /**
   * Directories that hold a git repository's data: `.git` directories, bare ones, those of
   * submodules.
   */
  readonly gitDirectories: readonly string[]
  /** Directories in which `.git` is a file or a link: linked work trees, submodules. */
  readonly linked: readonly string[]
  /** Why it could not be looked at as a whole, in words. */
  readonly obstacles: readonly string[]
  /** Where other file systems are mounted: a deletion would empty them. */
  readonly mounts: readonly string[]
  /** On the disk; 0 unless that was asked for. */
  readonly bytes: number
  readonly entries: number
}

export async function scanTree(
  top: string,
  {
    sized = false,
    signal,
    entriesMax = entriesMaxUsual,
  }: { sized?: boolean; signal?: AbortSignal; entriesMax?: number } = {},
): Promise<TreeScan> {
  const gitDirectories: string[] = []
  const linked: string[] = []
  const obstacles: string[] = []
  const mounts: string[] = []
  const device = (await lstat(top)).dev
  const waiting = [top]
  let [entries, bytes] = [0, 0]
  for (let directory = waiting.pop(); directory !== undefined; directory = waiting.pop()) {
    const name = relative(top, directory) || "."
    signal?.throwIfAborted()
    try {
      if ((await lstat(directory)).dev !== device) {
        mounts.push(name)
        continue
      }
      const children = await readdir(directory, { withFileTypes: true })
      entries += children.length
      if (entries > entriesMax) {
        obstacles.push(`it has more than ${entriesMax} files, too many to look through`)
        break
      }
      const names = new Set(children.map((child) => child.name))
      const isGitDirectory = names.has("HEAD") && names.has("objects") && names.has("refs")
      if (isGitDirectory) gitDirectories.push(directory)
      else if (basename(directory) === ".git" && names.has("objects"))
        obstacles.push(`${name} is a damaged repository`)
      for (const child of children) {
        const path = join(directory, child.name)
        if (child.name === ".git" && !child.isDirectory() && directory !== top)
          linked.push(directory)
        if (foreign.has(child.name) && child.isDirectory())
          obstacles.push(`it holds a repository that is not git's (${relative(top, path)})`)
        if (sized) bytes += sizeOf(await lstat(path))
        if (child.isDirectory() && (sized || !(isGitDirectory && inGitDirectory.has(child.name))))
          waiting.push(path)
      }
    } catch (error) {
      obstacles.push(`${name} cannot be read (${errorCode(error) ?? String(error)})`)
    }
  }
  return { gitDirectories, linked, obstacles: [...new Set(obstacles)], mounts, bytes, entries }
}
/** stat(2): blocks are of 512 bytes, whatever the file system's are. */
const sizeOf = ({ blocks }: Stats): number => blocks * 512
