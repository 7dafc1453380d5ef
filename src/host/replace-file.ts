import { renameSync, rmSync, writeFileSync } from "node:fs"

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
