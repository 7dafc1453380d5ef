import { createHash } from "node:crypto"
import { projectSchema } from "../../core/instance.ts"

/**
 * By which names the directories of a code root are known. A directory whose name is a valid
 * project name is known by it; another one by a name made of its own: `Mein Projekt` is
 * `mein-projekt`. Nothing is stored: the same directories have the same names everywhere.
 */

const nameMax = 63
/**
 * Hexadecimal digits of a directory's hash: more of them where fewer are taken, which chance alone
 * does not bring about.
 */
const digits = [8, 16, 32]

const isValid = (name: string): boolean => projectSchema.safeParse(name).success
/**
 * A line break ends a path in git's own files, and U+FFFD stands for bytes that are not UTF-8: such
 * a directory cannot be worked in.
 */
// biome-ignore lint/suspicious/noControlCharactersInRegex: leaving them out is what this is for
export const canCarry = (path: string): boolean => !/[\u0000-\u001f\u007f\ufffd]/.test(path)

const trimmed = (text: string): string => text.replace(/^[-._]+|[-._]+$/g, "")

/** Letters without their marks, in lower case; all else is a hyphen. */
function plainName(directory: string): string {
  const letters = directory
    .normalize("NFKD")
    .replace(/\p{M}/gu, "")
    .toLowerCase()
    .replaceAll("ß", "ss")
  const name = trimmed(trimmed(letters.replace(/[^a-z0-9._]+/g, "-")).slice(0, nameMax))
  return name === "" ? "project" : name
}
function hashedName(directory: string, count: number): string {
  const hash = createHash("sha256").update(directory).digest("hex").slice(0, count)
  return `${trimmed(plainName(directory).slice(0, nameMax - 1 - count))}-${hash}`
}

/**
 * Each name with its directory. Directories that would share a name have the start of a hash behind
 * it.
 */
export function projectNames(directories: readonly string[]): ReadonlyMap<string, string> {
  const names = new Map(directories.filter(isValid).map((directory) => [directory, directory]))
  const others = directories
    .filter((directory) => !isValid(directory) && canCarry(directory))
    .toSorted()
  const claims = new Map<string, number>()
  for (const directory of others)
    claims.set(plainName(directory), (claims.get(plainName(directory)) ?? 0) + 1)
  const isFree = (name: string): boolean => !names.has(name) && !claims.has(name)
  for (const directory of others) {
    const plain = plainName(directory)
    const name =
      claims.get(plain) === 1 && !names.has(plain)
        ? plain
        : digits.map((count) => hashedName(directory, count)).find((hashed) => isFree(hashed))
    if (name !== undefined) names.set(name, directory)
  }
  return names
}

/**
 * The directory of that name. A name with a hash finds its directory also when nothing shares the
 * plain name any more.
 */
export const directoryNamed = (directories: readonly string[], name: string): string | undefined =>
  projectNames(directories).get(name) ??
  directories.find(
    (directory) =>
      !isValid(directory) &&
      canCarry(directory) &&
      digits.some((count) => hashedName(directory, count) === name),
  )
