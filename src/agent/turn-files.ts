import { createHash } from "node:crypto"
import { existsSync, mkdirSync, rmSync } from "node:fs"
import { join } from "node:path"
import { Fault } from "../core/faults.ts"
import { replaceFile } from "../host/replace-file.ts"
import type { RunDirectory } from "../run/run-directory.ts"

/**
 * What claude is started with and nobody else is to read: settings with the port's token and
 * perhaps a proxy's password, headers of MCP servers. Every user of a machine may read arguments,
 * so these stand in files of mode 0600, in the part of the run directory that the agent sees.
 * Nothing outside of the agent's view believes what they say.
 */
export interface TurnFiles {
  /**
   * Absolute path of a file with this text; the same text, the same file. @throws Fault when a turn
   * has too many, the disk's error.
   */
  write(text: string): string
  /** Takes all of them away. */
  clear(): void
}
/** Of one turn: each claude inside of it may have settings of its own. */
export const turnFilesMax = 64
/** Of one file. */
export const turnFileBytesMax = 1_048_576

export function createTurnFiles({ bin }: Pick<RunDirectory, "bin">): TurnFiles {
  const directory = join(bin, "given")
  let paths = new Set<string>()
  return {
    write(text) {
      const name = createHash("sha256").update(text).digest("base64url").slice(0, 22)
      const path = join(directory, `${name}.json`)
      if (paths.has(path) && existsSync(path)) return path
      if (paths.size >= turnFilesMax)
        throw new Fault(
          "TooLarge",
          `An iteration can start at most ${turnFilesMax} claudes with different settings.`,
          "Start them with the same settings.",
        )
      mkdirSync(directory, { recursive: true, mode: 0o700 })
      replaceFile(path, text)
      paths.add(path)
      return path
    },
    clear() {
      paths = new Set()
      rmSync(directory, { recursive: true, force: true })
    },
  }
}
