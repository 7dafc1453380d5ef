import { readFileSync } from "node:fs"
import { join, relative } from "node:path"

/**
 * The mounts of this process (proc_pid_mountinfo(5)), and lines of a table for mount(8), which
 * makes many with one program (fstab(5)).
 */
export interface Mount {
  /** major:minor of its file system. */
  readonly device: string
  /** The directory of that file system that is mounted. */
  readonly root: string
  readonly point: string
  readonly options: readonly string[]
}

const unescaped = (text: string): string =>
  text.replace(/\\([0-7]{3})/g, (_, digits: string) =>
    String.fromCharCode(Number.parseInt(digits, 8)),
  )
const escaped = (text: string): string =>
  text.replace(/[ \t\n\\]/g, (one) => `\\${one.charCodeAt(0).toString(8).padStart(3, "0")}`)

/** In the order in which they were made: of two at one point, the later is seen. */
export const parseMounts = (text: string): readonly Mount[] =>
  text
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => {
      const [, , device = "", root = "", point = "", options = ""] = line.split(" ")
      return { device, root: unescaped(root), point: unescaped(point), options: options.split(",") }
    })
/** None where the system has no such file. */
export function readMounts(): readonly Mount[] {
  try {
    return parseMounts(readFileSync("/proc/self/mountinfo", "utf8"))
  } catch {
    return []
  }
}

/** One line of a table. */
export const tableLine = (source: string, target: string, options: string): string =>
  `${escaped(source)} ${escaped(target)} none ${options} 0 0\n`

export const isBelowMount = (path: string, directory: string): boolean =>
  path === directory || path.startsWith(directory === "/" ? "/" : `${directory}/`)

/** The mount that a real path is seen through. */
export function mountOf(path: string, mounts: readonly Mount[]): Mount | undefined {
  let found: Mount | undefined
  for (const mount of mounts)
    if (isBelowMount(path, mount.point) && mount.point.length >= (found?.point.length ?? 0))
      found = mount
  return found
}
export const isMountPoint = (path: string, mounts: readonly Mount[]): boolean =>
  mounts.some(({ point }) => point === path)

/** What a user namespace may not take from a mount, and so has to repeat when it changes it. */
export const lockedOptions = (mount: Mount | undefined): string =>
  ["nosuid", "nodev", "noexec"]
    .filter((option) => mount?.options.includes(option))
    .map((option) => `,${option}`)
    .join("")

/**
 * By which other paths the same directory or file is reached, because its file system is mounted
 * elsewhere as well.
 */
export function otherPaths(path: string, mounts: readonly Mount[]): readonly string[] {
  const own = mountOf(path, mounts)
  if (!own) return []
  const inside = join(own.root, relative(own.point, path))
  return mounts
    .filter(({ device, root }) => device === own.device && isBelowMount(inside, root))
    .map(({ root, point }) => join(point, relative(root, inside)))
    .filter((other) => {
      const seen = mountOf(other, mounts)
      return (
        other !== path &&
        seen?.device === own.device &&
        join(seen.root, relative(seen.point, other)) === inside
      )
    })
}
