import { createHash } from "node:crypto"
import { lstatSync, mkdirSync, readlinkSync, renameSync, rmSync, symlinkSync } from "node:fs"
import { tmpdir } from "node:os"
import { delimiter, isAbsolute, join, relative } from "node:path"
import type { Problem } from "../core/instance.ts"

/**
 * PATH separates its entries by `:` and knows no way to quote one. A state directory with a `:` in
 * its path is therefore reached through a symbolic link elsewhere, one for each state directory, in
 * a directory that only this user may write: else somebody else's `claude` could be put first.
 */

/**
 * Where such a link may stand, best first: the last is cleaned up by some systems, though not while
 * the link is used.
 */
const placesFor = (env: NodeJS.ProcessEnv): readonly string[] =>
  [
    env.XDG_DATA_HOME || (env.HOME ? join(env.HOME, ".local/share") : ""),
    env.XDG_RUNTIME_DIR ?? "",
    join(tmpdir(), `blackbox5-${process.getuid?.() ?? "user"}`),
  ].flatMap((place) =>
    isAbsolute(place) && !place.includes(delimiter) ? [join(place, "blackbox5")] : [],
  )

/** Throws where others could write, or nobody may. */
function makePrivate(directory: string): void {
  mkdirSync(directory, { recursive: true, mode: 0o700 })
  const { uid, mode } = lstatSync(directory)
  if (uid !== process.getuid?.() || (mode & 0o022) !== 0)
    throw new Error(`${directory} can be written by other users`)
}

function linkTo(target: string, directory: string): string {
  makePrivate(directory)
  const link = join(
    directory,
    `state-${createHash("sha256").update(target).digest("hex").slice(0, 16)}`,
  )
  try {
    if (readlinkSync(link) === target) return link
  } catch {
    // There is none yet.
  }
  const draft = `${link}.${process.pid}`
  rmSync(draft, { force: true })
  symlinkSync(target, draft)
  renameSync(draft, link)
  return link
}

/** The name by which a directory of the state directory can stand in PATH. */
export function pathEntryFor(
  { bin, stateDirectory }: { readonly bin: string; readonly stateDirectory: string },
  env: NodeJS.ProcessEnv,
): { readonly entry: string } | { readonly problem: Problem } {
  if (!bin.includes(delimiter)) return { entry: bin }
  const places = placesFor(env)
  for (const place of places) {
    try {
      return { entry: join(linkTo(stateDirectory, place), relative(stateDirectory, bin)) }
    } catch {
      // The next one may do.
    }
  }
  return {
    problem: {
      reason: "PathEntry",
      message: `The state directory ${stateDirectory} has a "${delimiter}" in its path, which PATH cannot hold, and no link to it could be made in ${places.join(" or ")}. Make one of these writable for this user alone, or set BLACKBOX5_STATE to a directory without "${delimiter}".`,
    },
  }
}
