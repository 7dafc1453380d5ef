import { join } from "node:path"
import { executable } from "./find-program.ts"

/**
 * Where a system has the programs that belong to it, and that none but its administrator changes;
 * the last two are NixOS's and Guix's. What runs outside of agents' namespaces is looked for here
 * alone: a person's PATH begins with directories that agents may write.
 */
const directories = [
  ...["/usr/bin", "/bin", "/usr/sbin", "/sbin"],
  ...["/run/current-system/sw/bin", "/run/current-system/profile/bin"],
]
export const systemPath = directories.join(":")
/** Everywhere, by the Filesystem Hierarchy Standard and in NixOS too. */
export const systemShell = "/bin/sh"

/**
 * A program of the system, an absolute path; one that is nowhere is named where it usually is, so
 * that whoever runs it says what is missing.
 */
export const systemProgram = (name: string, path = systemPath): string => {
  const named = path.split(":").map((directory) => join(directory, name))
  return named.find(executable) ?? named[0] ?? name
}
