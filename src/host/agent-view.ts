import { existsSync, realpathSync, statSync } from "node:fs"
import { dirname, join, relative } from "node:path"
import type { Guarded } from "./guarded.ts"
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
import { isOfSystem, isRoot, mayWrite } from "./path-rights.ts"

/**
 * What an agent sees of the machine, as a list of mounts: what Blackbox5 runs or believes outside
 * of the agent's namespaces is hidden from it, or cannot be written. An agent may write the
 * directories above those: it could move them away and put its own in their place, so each of them
 * is bound to itself, because a mount point cannot be moved. All else stays as it is.
 */

const realOf = (path: string): string | undefined => {
  try {
    return realpathSync(path)
  } catch {
    return undefined
  }
}
const above = (path: string): readonly string[] =>
  path === "/" ? [] : [path, ...above(dirname(path))]

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
