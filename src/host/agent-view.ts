import {
  accessSync,
  constants,
  existsSync,
  lstatSync,
  mkdirSync,
  readlinkSync,
  realpathSync,
  statSync,
} from "node:fs"
import { userInfo } from "node:os"
import { dirname, join, relative } from "node:path"
import {
  isBelowMount,
  isMountPoint,
  lockedOptions,
  type Mount,
  mountOf,
  otherPaths,
  readMounts,
  tableLine,
} from "./mount-table.ts"

/**
 * What an agent sees of the machine, as a list of mounts: what Blackbox5 runs or believes outside
 * of the agent's namespaces is hidden from it, or cannot be written. An agent may write the
 * directories above those: it could move them away and put its own in their place, so each of them
 * is bound to itself, because a mount point cannot be moved. All else stays as it is.
 */

/** Absolute paths; what is not there is left out. */
export interface Guarded {
  /** For nobody in an agent's namespaces. */
  readonly hidden: readonly string[]
  /** For reading and running. */
  readonly sealed: readonly string[]
  /**
   * By these paths somebody outside will look for the same again, so that no link on the way may be
   * another one then.
   */
  readonly found: readonly string[]
}

/** Where nothing is installed that runs outside. */
export const nothingGuarded: Guarded = { hidden: [], sealed: [], found: [] }

/** What does not exist for this user is undefined. */
export interface Installation {
  readonly configDirectory: string
  /** Where copies of the program are kept that outlive their host. */
  readonly programsDirectory: string | undefined
  readonly compileCache: string | undefined
  /** The command in the user's own directory. */
  readonly launcher: string | undefined
  readonly node: string
  /** Its main file. */
  readonly main: string
  readonly home: string | undefined
  /** XDG_RUNTIME_DIR. */
  readonly runtimeDirectory: string | undefined
}
const present = (paths: readonly (string | undefined)[]): readonly string[] =>
  paths.filter((path) => path !== undefined)

const userId = (): number => process.geteuid?.() ?? -1
function nameOfUser(): string {
  try {
    return userInfo().username
  } catch {
    return String(userId())
  }
}
const ownTmuxDirectory = (): string => `/tmp/tmux-${userId()}`
/**
 * Where terminal multiplexers and the user's own systemd take orders: what they start runs outside
 * of all namespaces.
 */
function servicesOf({
  home,
  runtimeDirectory = "",
}: Pick<Installation, "home" | "runtimeDirectory">): readonly string[] {
  const runtimes = [runtimeDirectory, `/run/user/${userId()}`].filter((path) =>
    path.startsWith("/"),
  )
  return [
    ownTmuxDirectory(),
    ...["/run/screen", "/tmp/screens", "/tmp/uscreens"].map((directory) =>
      join(directory, `S-${nameOfUser()}`),
    ),
    ...(home === undefined ? [] : [join(home, ".screen")]),
    ...runtimes.flatMap((directory) => [join(directory, "bus"), join(directory, "systemd")]),
  ]
}

/** What is to be guarded of an installation. */
export function guard(installation: Installation): Guarded {
  const { configDirectory, programsDirectory, compileCache, launcher, node, main } = installation
  const dist = dirname(main)
  return {
    hidden: [configDirectory, ...servicesOf(installation)],
    // Of a checkout only what is run: agents may work in the rest of it.
    sealed: [
      ...[dist, join(dist, "../node_modules"), join(dist, "../package.json"), node],
      ...present([programsDirectory, compileCache, launcher]),
    ],
    found: [configDirectory, main],
  }
}

/**
 * Makes the directories that agents could otherwise make themselves, and that somebody outside
 * would then find. What cannot be made here an agent cannot make either.
 */
export function makeGuarded({
  configDirectory,
  programsDirectory,
  compileCache,
}: Installation): void {
  for (const path of present([
    configDirectory,
    programsDirectory,
    compileCache,
    ownTmuxDirectory(),
  ])) {
    try {
      mkdirSync(path, { recursive: true, mode: 0o700 })
    } catch {
      // A file is in the way, or this user may not.
    }
  }
}

const isRoot = (): boolean => process.geteuid?.() === 0
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
const isOfSystem = (path: string): boolean =>
  systemDirectories.some((directory) => isBelowMount(path, directory))
/** Whether this user may write it, or give itself the right to. */
function mayWrite(path: string): boolean {
  try {
    if (lstatSync(path).uid === process.geteuid?.()) return true
    accessSync(path, constants.W_OK)
    return true
  } catch {
    return false
  }
}
const realOf = (path: string): string | undefined => {
  try {
    return realpathSync(path)
  } catch {
    return undefined
  }
}
const above = (path: string): readonly string[] =>
  path === "/" ? [] : [path, ...above(dirname(path))]

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

export interface ViewOptions {
  readonly stateDirectory: string
  /** The file system of the namespace's own that the view is built in. */
  readonly scratch: string
  readonly guarded: Guarded
  /** Where the agent works, absolute paths: they stay writable. */
  readonly work: readonly string[]
}
export interface AgentView {
  /** A table for mount(8): the mounts that guard, in their order. */
  readonly table: string
  /** Mounts that are there already and become read-only: options and point. */
  readonly remounts: readonly (readonly [options: string, point: string])[]
  /** What must not be writable inside. */
  readonly closed: readonly string[]
  /** What is to be guarded and is not, because the agent works in it. */
  readonly open: readonly string[]
  /** Work trees and clones that the agent works in: paths in the state directory. */
  readonly own: readonly string[]
}
/**
 * What stays visible of the state directory for every loop: git would take a work tree that it does
 * not see for a deleted one.
 */
export const shownAlways = ["trees", "clones"] as const

/** Decides how everything guarded is mounted. Reads the file system, changes nothing. */
export function planView(
  { stateDirectory, scratch, guarded, work }: ViewOptions,
  mounts = readMounts(),
): AgentView {
  const state = realOf(stateDirectory) ?? stateDirectory
  const real = (paths: readonly string[]): readonly string[] =>
    paths.flatMap((path) => realOf(path) ?? [])
  const places = real(work).filter((path) => !isBelowMount(path, state))
  const open: string[] = []
  const hidden = new Set<string>()
  const sealed = new Set<string>()
  const outside = (path: string): boolean => !isBelowMount(path, state) && path !== "/dev/null"
  const programs = real(guarded.sealed).filter(outside)
  for (const path of real(guarded.hidden).filter(outside)) {
    if (places.some((place) => isBelowMount(place, path))) open.push(path)
    // The view of the state directory, or the program, is mounted in it: it can be looked at, but
    // not changed.
    else if ([state, ...programs].some((inner) => isBelowMount(inner, path))) sealed.add(path)
    else hidden.add(path)
  }
  for (const path of programs) {
    if (places.some((place) => isBelowMount(place, path) || isBelowMount(path, place)))
      open.push(path)
    else if (!(isOfSystem(path) && (isRoot() || !mayWrite(path)))) sealed.add(path)
  }
  for (const path of [...hidden]) for (const other of otherPaths(path, mounts)) hidden.add(other)
  for (const path of [...sealed]) for (const other of otherPaths(path, mounts)) sealed.add(other)
  for (const other of otherPaths(state, mounts)) hidden.add(other)

  const within = (path: string, paths: ReadonlySet<string>): boolean =>
    above(path).some((one) => one !== path && paths.has(one))
  const targets = [...hidden, ...sealed].filter(
    (path) => !within(path, hidden) && !within(path, sealed),
  )
  const pinned = new Set(
    [...targets, state]
      .flatMap((path) => above(dirname(path)))
      .filter(
        (path) =>
          !targets.includes(path) &&
          !isMountPoint(path, mounts) &&
          (isRoot() || mayWrite(dirname(path))),
      ),
  )
  const remounts = [...sealed].flatMap((path) => remountOf(path, mounts))
  const table = [...pinned, ...targets]
    .toSorted((one, other) => above(one).length - above(other).length)
    .map((path) => {
      if (pinned.has(path)) return tableLine(path, path, "rbind")
      if (sealed.has(path))
        return isMountPoint(path, mounts)
          ? ""
          : tableLine(path, path, `rbind,${readOnly(path, mounts)}`)
      return isDirectory(path)
        ? tableLine(join(scratch, "empty"), path, "bind,ro")
        : tableLine("/dev/null", path, "bind")
    })
  return {
    table: [...table, ...(isRoot() ? kernelSettings() : [])].join(""),
    remounts: [...remounts, ...(isRoot() ? remountOf("/sys", mounts) : [])],
    closed: targets.filter((path) => sealed.has(path) || isDirectory(path)),
    open,
    own: outermost(
      real(work).filter((path) =>
        shownAlways.some((name) => isBelowMount(path, join(state, name))),
      ),
    ).map((path) => relative(state, path)),
  }
}

/** Those that are in none of the others, each once. */
const outermost = (paths: readonly string[]): readonly string[] =>
  [...new Set(paths)].filter(
    (path) => !paths.some((other) => other !== path && isBelowMount(path, other)),
  )
const isDirectory = (path: string): boolean =>
  statSync(path, { throwIfNoEntry: false })?.isDirectory() === true
const readOnly = (path: string, mounts: readonly Mount[]): string =>
  `ro${lockedOptions(mountOf(path, mounts))}`
/** Of a mount point: mount(8) takes a line of a table for done when something is mounted there. */
const remountOf = (path: string, mounts: readonly Mount[]): AgentView["remounts"] =>
  isMountPoint(path, mounts) && !mountOf(path, mounts)?.options.includes("ro")
    ? [[`remount,bind,${readOnly(path, mounts)}`, path]]
    : []
/**
 * With these root could have the kernel run a program outside (proc(5): core_pattern, modprobe,
 * sysrq); with /sys, too (uevent_helper). `--mount-proc` has made their mount.
 */
const kernelSettings = (): readonly string[] =>
  ["/proc/sys", "/proc/sysrq-trigger"]
    .filter((path) => existsSync(path))
    .map((path) => tableLine(path, path, "bind,ro,nosuid,nodev,noexec"))
