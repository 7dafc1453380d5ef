import { errorCode } from "../core/error-code.ts"
import type { FileName, FileOf, RunDirectory } from "../run/run-directory.ts"

/**
 * Errors of a disk that has no room, or of one that fails for now (errno(3)): they pass, and
 * nothing is lost by waiting.
 */
const passing = new Set(["ENOSPC", "EDQUOT", "EIO", "EROFS", "EMFILE", "ENFILE"])
export const passes = (error: unknown): boolean => passing.has(errorCode(error) ?? "")

/**
 * The files of a run as its supervisor writes them: what finds no room on the disk is written when
 * there is some.
 */
export interface DiskRetry {
  /** True when it is on the disk now; otherwise the last value of each file is tried again. */
  set<N extends FileName>(name: N, value: FileOf<N>): boolean
  remove(name: FileName): void
  /** Tries again what could not be written. True when nothing is left to write. */
  retry(): boolean
}

export function createDiskRetry(
  directory: RunDirectory,
  failed: (error: unknown) => void,
): DiskRetry {
  const pending = new Map<FileName, () => void>()
  const attempt = (name: FileName, write: () => void): boolean => {
    try {
      write()
      pending.delete(name)
      return true
    } catch (error) {
      if (!passes(error)) throw error
      if (pending.size === 0) failed(error)
      pending.set(name, write)
      return false
    }
  }
  return {
    set: (name, value) => attempt(name, () => directory.set(name, value)),
    remove(name) {
      pending.delete(name)
      directory.remove(name)
    },
    retry() {
      for (const [name, write] of pending) if (!attempt(name, write)) return false
      return true
    },
  }
}

/** Repeats what a full disk refuses, until there is room. */
export async function whenThereIsRoom<T>(
  work: () => T,
  failed: (error: unknown) => void,
): Promise<T> {
  for (;;) {
    try {
      return work()
    } catch (error) {
      if (!passes(error)) throw error
      failed(error)
      await new Promise((resolve) => setTimeout(resolve, retryMs))
    }
  }
}
const retryMs = 1000

/** The files of a run for its supervisor, which warns people once until everything is written. */
export interface RunDisk extends DiskRetry {
  /** Repeats what a full disk refuses, until there is room. */
  whenThereIsRoom<T>(work: () => T): Promise<T>
}

export function createRunDisk(directory: RunDirectory, warn: (message: string) => void): RunDisk {
  let hasWarned = false
  const failed = (error: unknown): void => {
    if (hasWarned) return
    hasWarned = true
    const why = error instanceof Error ? error.message : String(error)
    warn(`Cannot write to the run directory (${why}). Free some space on its disk.`)
  }
  const files = createDiskRetry(directory, failed)
  return {
    set: files.set,
    remove: files.remove,
    retry() {
      const isWritten = files.retry()
      if (isWritten) hasWarned = false
      return isWritten
    },
    whenThereIsRoom: (work) => whenThereIsRoom(work, failed),
  }
}
