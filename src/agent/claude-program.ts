import { closeSync, openSync, readFileSync, readlinkSync, readSync, statSync } from "node:fs"
import { resolve } from "node:path"
import { isPrompt } from "./shim-arguments.ts"

/**
 * Tells which processes run the real claude, by what the kernel says that they execute: a process
 * chooses its name and its environment, but not that. A copy is known by its size. What is not
 * known: a copy that was changed, and a program that a claude which is a script starts in its
 * place.
 */
export interface ClaudeProgram {
  /** The claude that is there now; older ones stay known. */
  learn(path: string): void
  /** True for a process that runs claude with a prompt, not to print its version or the like. */
  isRunBy(pid: number): boolean
}

interface Executable {
  readonly device: number
  readonly inode: number
  readonly bytes: number
  readonly script: boolean
}
/** Updates replace the file while older claudes run. */
const knownMax = 4
/** A program of this size has no other one's size by chance; claude 2.1.197 has 245 MB. */
const copyBytesMin = 1_048_576

function isScript(path: string): boolean {
  const file = openSync(path, "r")
  try {
    const start = Buffer.alloc(2)
    return readSync(file, start, 0, 2, 0) === 2 && start.toString("latin1") === "#!"
  } finally {
    closeSync(file)
  }
}
const argumentsOf = (pid: number): readonly string[] =>
  readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0").slice(0, -1)

export function createClaudeProgram(): ClaudeProgram {
  let known: readonly Executable[] = []
  const isFile = (path: string, one: Executable): boolean => {
    const { dev, ino, size } = statSync(path)
    return (
      (dev === one.device && ino === one.inode) ||
      (!one.script && size === one.bytes && size >= copyBytesMin)
    )
  }
  /** What stands behind the program in the arguments; undefined when it is another program. */
  const argumentsBehind = (pid: number, one: Executable): readonly string[] | undefined => {
    if (!one.script) return isFile(`/proc/${pid}/exe`, one) ? argumentsOf(pid).slice(1) : undefined
    // An interpreter gets the script as its first argument, or behind options of its own.
    const all = argumentsOf(pid)
    const at = all.slice(0, 4).findIndex((argument, index) => {
      try {
        return (
          index > 0 &&
          isFile(`/proc/${pid}/root${resolve(readlinkSync(`/proc/${pid}/cwd`), argument)}`, one)
        )
      } catch {
        return false
      }
    })
    return at < 0 ? undefined : all.slice(at + 1)
  }
  return {
    learn(path) {
      try {
        const { dev: device, ino: inode, size: bytes } = statSync(path)
        if (
          known.some((one) => one.device === device && one.inode === inode && one.bytes === bytes)
        )
          return
        known = [{ device, inode, bytes, script: isScript(path) }, ...known].slice(0, knownMax)
      } catch {
        // It is being replaced: what was known before still counts.
      }
    },
    isRunBy(pid) {
      try {
        return known.some((one) => {
          const behind = argumentsBehind(pid, one)
          return behind !== undefined && isPrompt(behind)
        })
      } catch {
        return false // it ended meanwhile, or is another user's
      }
    },
  }
}
