import { createHash } from "node:crypto"
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
} from "node:fs"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"
import { Fault } from "../core/faults.ts"
import { findNode } from "../host/find-node.ts"
import { nodeMajorMin } from "../host/node-version.ts"
import { programsDirectory } from "../settings/config.ts"
import { version } from "../settings/version.ts"

/** Where this program is, and which of its processes outlive the client that started them. */

/** This program's main file. */
export const mainPath = fileURLToPath(
  new URL(import.meta.url.endsWith(".ts") ? "../main.ts" : "./main.js", import.meta.url),
)

/**
 * Whether a copy is complete: a power failure may have left files without their content, or an
 * agent may have written it first.
 */
function isComplete(copy: string, original: string): boolean {
  try {
    const names = readdirSync(original)
    const same = (name: string): boolean =>
      readFileSync(join(copy, name)).equals(readFileSync(join(original, name)))
    return readdirSync(copy).length === names.length && names.every(same)
  } catch {
    return false
  }
}

/**
 * Copies a program to a place of its own, once; two that copy at once have the same. Copies stay:
 * agents may run from each of them.
 * @throws Unavailable when it cannot be written.
 */
export function keepProgram(original: string, directory: string): string {
  // The names of all other files depend on what is in them, and main.js names them.
  const content = createHash("sha256")
    .update(readFileSync(join(original, "main.js")))
    .digest("hex")
  const kept = join(directory, `${version}-${content.slice(0, 12)}`)
  const main = join(kept, "main.js")
  if (existsSync(kept) && isComplete(kept, original)) return main
  const fresh = `${kept}.${process.pid}`
  try {
    rmSync(kept, { recursive: true, force: true })
    rmSync(fresh, { recursive: true, force: true })
    mkdirSync(directory, { recursive: true, mode: 0o700 })
    cpSync(original, fresh, { recursive: true })
    renameSync(fresh, kept)
  } catch (error) {
    rmSync(fresh, { recursive: true, force: true })
    // Another process may have been first.
    if (existsSync(kept) && isComplete(kept, original)) return main
    throw new Fault(
      "Unavailable",
      `The program could not be copied to ${kept} (${error instanceof Error ? error.message : error}).`,
      "Free some space there or make it writable, or set XDG_DATA_HOME to another directory.",
      error,
    )
  }
  return main
}

/**
 * node and main.js for what goes on when its client has ended, as `serve` and the agents do. The
 * host of an MCPB bundle replaces or removes the bundle's directory while they run, and may be an
 * Electron, whose program is no node: then it is a copy, and an installed node.
 * @throws Unavailable when there is no such node, or the copy cannot be written.
 */
export function lastingProgram(): readonly [string, string] {
  const directory = dirname(mainPath)
  const main = existsSync(join(directory, "../manifest.json"))
    ? keepProgram(directory, programsDirectory())
    : mainPath
  const node = process.versions.electron === undefined ? process.execPath : findNode()
  if (node === undefined)
    throw new Fault(
      "Unavailable",
      `The app has no node that could go on without it, and there is no Node ${nodeMajorMin} on the PATH of your login shell.`,
      `Install Node ${nodeMajorMin} (nodejs.org), start \`blackbox5 serve\` yourself, or set the URL of another control plane.`,
    )
  return [node, main]
}
