import { chmodSync, closeSync, constants, openSync, statSync } from "node:fs"
import { errorCode } from "../../core/error-code.ts"
import { Fault } from "../../core/faults.ts"

/**
 * The database and the files beside it are its owner's alone, whatever the umask is, and whatever
 * an older version or a copy left.
 */
const ownOnly = 0o600
/** SQLite makes these with the mode that the database has then (os_unix.c, findCreateFileMode). */
const besides = ["-wal", "-shm", "-journal"]

const isMissing = (error: unknown): boolean =>
  ["ENOENT", "ENOTDIR"].includes(errorCode(error) ?? "")

/**
 * Before SQLite opens it. Makes the file where there is none; one that is there is never opened,
 * for closing it again would drop this process's locks on it. @throws Invalid where others can read
 * it and its mode cannot be changed.
 */
export function keepPrivate(path: string): void {
  try {
    closeSync(openSync(path, constants.O_CREAT | constants.O_EXCL | constants.O_WRONLY, ownOnly))
  } catch {
    // It is there, or SQLite says what is wrong.
  }
  for (const file of [path, ...besides.map((end) => path + end)]) keepOwn(file)
}

function keepOwn(file: string): void {
  try {
    const found = statSync(file)
    if (found.isFile() && (found.mode & 0o777 & ~ownOnly) !== 0) chmodSync(file, ownOnly)
  } catch (error) {
    if (isMissing(error)) return
    throw new Fault(
      "Invalid",
      `Other users may read ${file}, and its mode cannot be changed (${error instanceof Error ? error.message : error}).`,
      "Give the file to this user, with mode 0600.",
      error,
    )
  }
}
