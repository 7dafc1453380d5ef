import { mkdirSync } from "node:fs"
import { userInfo } from "node:os"
import { dirname, join } from "node:path"

/** What of an installation agents must neither see nor write. */

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
