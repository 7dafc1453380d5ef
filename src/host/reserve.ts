import { randomBytes } from "node:crypto"
import { closeSync, fstatSync, ftruncateSync, openSync } from "node:fs"
import { open, statfs } from "node:fs/promises"
import { join } from "node:path"
import { errorCode } from "../core/error-code.ts"

/**
 * Room that is set aside on the disk of the state directory. When the disk is full, what halts
 * agents is still written down: whoever has to write that takes a piece of the reserve first.
 */

/**
 * A pause of one instance writes some 20 KB to the write-ahead log: enough for two hundred, besides
 * what others snatch.
 */
const reserveBytes = 4 * 1024 * 1024
/** Small, because what is left over of a piece is anybody's. */
const pieceBytes = 16 * 1024
const fillMs = 30_000
/** It is filled only while others have this much left besides. */
const spareBytes = reserveBytes

const pathIn = (stateDirectory: string): string => join(stateDirectory, "reserve")

/** Gives one piece back to the disk; false when nothing is left to give. */
export function takeReserve(stateDirectory: string): boolean {
  let file: number | undefined
  try {
    file = openSync(pathIn(stateDirectory), "r+")
    const { size } = fstatSync(file)
    ftruncateSync(file, Math.max(0, size - pieceBytes))
    return size > 0
  } catch {
    return false
  } finally {
    if (file !== undefined) closeSync(file)
  }
}

/** Keeps it filled until the signal. */
export function keepReserve(stateDirectory: string, signal: AbortSignal): void {
  // A disk that refuses it now may take it the next time.
  const fill = (): void => void fillReserve(stateDirectory).catch(() => {})
  const timer = setInterval(fill, fillMs)
  signal.addEventListener("abort", () => clearInterval(timer))
  fill()
}

/** Sets aside what is missing, unless the disk is nearly full. @throws what the disk says. */
async function fillReserve(stateDirectory: string): Promise<void> {
  await using file = await open(pathIn(stateDirectory), "a", 0o600)
  const { size } = await file.stat()
  const missing = reserveBytes - size
  const { bavail, bsize } = await statfs(stateDirectory)
  if (missing <= 0 || bavail * bsize < missing + spareBytes) return
  // Random, because a disk that compresses would set nothing aside for zeros.
  await file.write(randomBytes(missing))
}

const full = new Set(["ENOSPC", "EDQUOT"])
/** True for what a disk without room says (errno(3)). */
export const isDiskFull = (error: unknown): boolean => full.has(errorCode(error) ?? "")

/**
 * Does a write that a full disk must not prevent. False when even the reserve had no room for it.
 */
export function writePressing(stateDirectory: string, write: () => void): boolean {
  for (;;)
    try {
      write()
      return true
    } catch (error) {
      if (!isDiskFull(error)) throw error
      if (!takeReserve(stateDirectory)) return false
    }
}
