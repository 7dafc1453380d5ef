import { execFileSync } from "node:child_process"
import { programsNamed } from "./find-program.ts"
import { nodeMajorMin } from "./node-version.ts"

/** A `node` that is merely a shim may look things up before it answers. */
const answerMs = 5000

function newEnough(node: string): boolean {
  try {
    const said = execFileSync(node, ["--version"], {
      encoding: "utf8",
      timeout: answerMs,
      stdio: ["ignore", "pipe", "ignore"],
    })
    return Number(/^v(\d+)\./.exec(said)?.[1]) >= nodeMajorMin
  } catch {
    return false
  }
}

/**
 * A Node that this program runs under, an absolute path: the first on PATH, or on the login shell's
 * PATH, that is new enough.
 */
export function findNode(): string | undefined {
  for (const path of programsNamed("node")) if (newEnough(path)) return path
  return undefined
}
