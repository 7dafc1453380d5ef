import { dirname } from "node:path"
import { DiskFull, Fault } from "../../core/faults.ts"

/** What SQLite says, for the reader who must act. */

// Primary result codes of SQLite (https://sqlite.org/rescode.html).
const busy = 5
const readOnly = 8
const ioError = 10
const corrupt = 11
const full = 13
const cannotOpen = 14
const notDatabase = 26

const resultOf = (error: unknown): number | undefined =>
  error instanceof Error && "errcode" in error && typeof error.errcode === "number"
    ? error.errcode & 0xff
    : undefined

export const isBusy = (error: unknown): boolean => resultOf(error) === busy
export const isFull = (error: unknown): boolean => resultOf(error) === full

export const unwritable = (path: string, cause: unknown): Fault =>
  new Fault(
    "Invalid",
    `The database ${path} cannot be opened for writing.`,
    `Give this user a writable directory ${dirname(path)}, or set BLACKBOX5_STATE to another one.`,
    cause,
  )

export const damaged = (path: string, cause: unknown): Fault =>
  new Fault(
    "Invalid",
    `The database ${path} is damaged or is no database; it was left as it is.`,
    `Put a copy back, or move it and ${path}-wal aside together and start again with an empty fleet.`,
    cause,
  )

export function faultOf(error: unknown, path: string): unknown {
  switch (resultOf(error)) {
    case busy:
      return new Fault(
        "Unavailable",
        `Another process has ${path} open; it belongs to one \`blackbox5 serve\`.`,
        "Use that one, or end it, or set BLACKBOX5_STATE to another directory.",
        error,
      )
    case corrupt:
    case notDatabase:
      return damaged(path, error)
    case full:
      return new DiskFull(path, error)
    case ioError:
      return new Fault(
        "Unavailable",
        `The disk of ${path} failed to read or write.`,
        "Look at the system's log for that disk.",
        error,
      )
    case readOnly:
    case cannotOpen:
      return unwritable(path, error)
    default:
      return error
  }
}
