import { execFileSync, spawnSync } from "node:child_process"
import { cpSync, mkdirSync, realpathSync } from "node:fs"
import { basename, join } from "node:path"

/**
 * Who a world belongs to, and which shell its machine has as /bin/sh. Both decide how an agent is
 * held: an ordinary user's namespaces are other ones than root's, and dash and bash read scripts
 * differently. A test is repeated for each of `people`.
 */
export interface Person {
  readonly user: "root" | "ordinary"
  readonly shell: "dash" | "bash"
}

/** Who plays the ordinary user where the tests run as root; `test/programs.ts` makes it. */
export const ordinaryUser = "bb5-test"

const isRoot = process.getuid?.() === 0
const shells = { dash: "/usr/bin/dash", bash: "/usr/bin/bash" } as const
const realOf = (path: string): string | undefined => {
  try {
    return realpathSync(path)
  } catch {
    return undefined
  }
}
const ownShell = basename(realOf("/bin/sh") ?? "") === "bash" ? "bash" : "dash"
/**
 * Another /bin/sh is bound over the real one: that must not be the very file which the tests need
 * as bash.
 */
const canChangeShell =
  isRoot && ownShell === "dash" && spawnSync("unshare", ["--mount", "true"]).status === 0

/**
 * All that this machine can play: four for root on Debian; who is not root can only play
 * themselves, with the shell that is there.
 */
export const people: readonly Person[] = (
  isRoot ? (["root", "ordinary"] as const) : (["ordinary"] as const)
).flatMap((user) =>
  (["dash", "bash"] as const)
    .filter(
      (shell) => shell === ownShell || (canChangeShell && realOf(shells[shell]) !== undefined),
    )
    .map((shell) => ({ user, shell })),
)

const nameOf = (user: Person["user"]): string => (user === "root" ? "root" : ordinaryUser)
const becoming = (user: Person["user"]): readonly string[] =>
  isRoot && user === "ordinary"
    ? ["setpriv", `--reuid=${ordinaryUser}`, `--regid=${ordinaryUser}`, "--init-groups"]
    : []

/**
 * By the shortest way: whether this machine gives namespaces to that user, and lets a file system
 * be mounted in them.
 */
export function hasNamespaces(user: Person["user"]): boolean {
  const own = user === "root" ? [] : ["--user", "--map-current-user", "--keep-caps"]
  const mount = ["mount", "-t", "tmpfs", "none", "/mnt"]
  const [program = "", ...args] = [
    ...becoming(user),
    "unshare",
    ...own,
    "--pid",
    "--fork",
    "--mount",
    "--mount-proc",
    ...mount,
  ]
  return spawnSync(program, args).status === 0
}

/** What a person's machine is to a world. */
export interface Seat {
  readonly main: string
  readonly node: string
  readonly programs: string
  /** Makes what the test wrote theirs. */
  give(path: string): void
  /** argv that starts a program as this person. */
  argv(program: string, args: readonly string[]): readonly [string, ...string[]]
}

/**
 * In a mount namespace of its own: binds the modules and the shell, then becomes the user.
 * Everything that the program starts stays there. The modules are read-only: not even root's agent
 * may change those that other tests run with.
 */
const enter = `set -e
mount --bind "$1" "$2"
mount -o remount,bind,ro "$2"
[ "$3" = own ] || mount --bind "$3" /bin/sh
shift 3
exec "$@"
`

/**
 * A copy of what is built, and of all else the same: theirs to write, as a person's own checkout
 * is, and readable wherever ours lies.
 */
export function seatOf({ user, shell }: Person, repository: string, directory: string): Seat {
  const checkout = join(directory, "checkout")
  const [modules, own] = [join(repository, "node_modules"), join(checkout, "node_modules")]
  mkdirSync(isRoot ? own : checkout, { recursive: true })
  cpSync(join(repository, "dist"), join(checkout, "dist"), { recursive: true })
  const programs = isRoot ? own : modules
  const bound = shell === ownShell ? "own" : shells[shell]
  return {
    main: join(checkout, "dist/main.js"),
    node: join(programs, "node/bin/node"),
    programs: join(programs, ".bin"),
    give(path) {
      if (isRoot && user === "ordinary") execFileSync("chown", ["-Rh", `${nameOf(user)}:`, path])
    },
    argv: (program, args) =>
      isRoot
        ? [
            "unshare",
            "--mount",
            shells.bash,
            "-c",
            enter,
            "enter",
            modules,
            own,
            bound,
            ...becoming(user),
            program,
            ...args,
          ]
        : [program, ...args],
  }
}
