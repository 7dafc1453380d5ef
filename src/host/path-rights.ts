import { accessSync, constants, lstatSync, readlinkSync } from "node:fs"
import { join } from "node:path"
import { isBelowMount } from "./mount-table.ts"

/** What this user, and so its agents, may change of the file system. */

export const isRoot = (): boolean => process.geteuid?.() === 0
/** What root's agents install packages into. */
const systemDirectories = [
  "/usr",
  "/bin",
  "/sbin",
  "/lib",
  "/lib32",
  "/lib64",
  "/libx32",
  "/etc",
  "/nix",
  "/gnu",
  "/var/lib",
]
export const isOfSystem = (path: string): boolean =>
  systemDirectories.some((directory) => isBelowMount(path, directory))
/** Whether this user may write it, or give itself the right to. */
export function mayWrite(path: string): boolean {
  try {
    if (lstatSync(path).uid === process.geteuid?.()) return true
    accessSync(path, constants.W_OK)
    return true
  } catch {
    return false
  }
}

/**
 * The symbolic links on the way to a path that this user may replace: no mount keeps a link in its
 * place.
 */
export function replaceableLinks(path: string): readonly string[] {
  const links: string[] = []
  let at = "/"
  let rest = path.split("/").filter(Boolean)
  // As many as the kernel follows (path_resolution(7)).
  for (let followed = 0; rest.length > 0 && followed < 40; ) {
    const [name = "", ...others] = rest
    const next = join(at, name)
    let target: string | undefined
    try {
      target = readlinkSync(next)
    } catch {
      // It is no link.
    }
    if (target !== undefined && mayWrite(at) && !(isRoot() && isOfSystem(next))) links.push(next)
    if (target !== undefined) followed++
    rest = [...(target?.split("/").filter(Boolean) ?? []), ...others]
    if (target === undefined) at = next
    else if (target.startsWith("/")) at = "/"
  }
  return links
}
