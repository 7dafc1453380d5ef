import { globSync, readFileSync, statSync } from "node:fs"
import { homedir, userInfo } from "node:os"
import { isAbsolute, join } from "node:path"
import { isBelow } from "./find-program.ts"

/**
 * What ssh reads of the person's, as text that includes nothing which agents may write:
 * ssh_config(5).
 */

const fileBytesMax = 1_048_576
const filesMax = 100
/** As ssh's own limit. */
const depthMax = 16
const systemConfig = "/etc/ssh/ssh_config"

/**
 * A file of the person's as it is now: empty where there is none, or what stands there is no file
 * of a usual size.
 */
export function contentOf(path: string): Buffer {
  const found = statSync(path, { throwIfNoEntry: false })
  return found?.isFile() && found.size <= fileBytesMax ? readFileSync(path) : Buffer.alloc(0)
}

/** ssh does not look at HOME. */
function accountHome(): string {
  try {
    return userInfo().homedir
  } catch {
    return homedir()
  }
}
function pathOf(name: string, home: string): string {
  if (name.startsWith("~/")) return join(home, name.slice(2))
  return isAbsolute(name) ? name : join(home, ".ssh", name)
}
const wordsOf = (text: string): readonly string[] =>
  [...text.matchAll(/"([^"]*)"|(\S+)/g)].map(([, quoted, plain = ""]) => quoted ?? plain)

/**
 * The person's configuration, followed by the system's, which ssh does not read by itself where it
 * is given a file. `put` keeps a text in a file and tells its path.
 */
export function sshConfig(put: (text: string) => string, home = accountHome()): string {
  let files = 0
  const copied = (path: string, depth: number): string => {
    if (++files > filesMax || depth > depthMax) return ""
    return contentOf(path)
      .toString()
      .split("\n")
      .map((line) => {
        const [, start, named] = /^(\s*include(?:\s*=\s*|\s+))(.+)$/i.exec(line) ?? []
        return start === undefined || named === undefined
          ? line
          : included(start, wordsOf(named), depth)
      })
      .join("\n")
  }
  /**
   * What is not there is left out, for an agent could make it later; what the administrator alone
   * writes is read as ever.
   */
  const included = (start: string, names: readonly string[], depth: number): string => {
    const paths = names.flatMap((name) => {
      const path = pathOf(name, home)
      return isBelow(path, "/etc")
        ? [path]
        : globSync(path)
            .toSorted()
            .map((file) => put(copied(file, depth + 1)))
    })
    return paths.length === 0 ? "" : start + paths.map((path) => `"${path}"`).join(" ")
  }
  return `${copied(join(home, ".ssh/config"), 0)}\nMatch all\nInclude ${systemConfig}\n`
}
