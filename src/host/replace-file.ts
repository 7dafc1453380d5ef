import { closeSync, fsyncSync, openSync, renameSync, rmSync, writeFileSync } from "node:fs"

/** A reader sees the file of before or of after, never a part. */
export function replaceFile(path: string, text: string, mode = 0o600): void {
  const temporary = `${path}.${process.pid}.tmp`
  try {
    writeFileSync(temporary, text, { mode })
    renameSync(temporary, path)
  } catch (error) {
    rmSync(temporary, { force: true }) // a full disk leaves half a file
    throw error
  }
}

/** Returns once a file or directory is on the disk. */
export function syncPath(path: string): void {
  const file = openSync(path, "r")
  try {
    fsyncSync(file)
  } finally {
    closeSync(file)
  }
}
