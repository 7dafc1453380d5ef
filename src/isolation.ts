import { execFile } from "node:child_process"
import { mkdirSync } from "node:fs"
import { join } from "node:path"
import { promisify } from "node:util"
import { z } from "zod"
import { oneLine } from "./core/view.ts"

/**
 * How the processes of an instance are held together, from the strongest: a PID namespace keeps every process of the loop below its first one,
 * also a daemon that dropped its parent and its environment; a mount namespace also hides the state directory; without either, processes are
 * known by parent chain and marker alone. Made by `unshare` of util-linux 2.38; other systems than Linux have none of it.
 */

const kinds = ["pid and mount namespaces", "pid namespace", "process tree"] as const
export const isolationSchema = z.enum(kinds)
export type IsolationKind = z.output<typeof isolationSchema>
export interface Isolation {
  readonly kind: IsolationKind
  /** One sentence: why it is not a stronger one, or what this one does. */
  readonly why: string
}

/** What stays visible of the state directory for every loop: git would take a work tree that it does not see for a deleted one. */
const shownAlways = ["trees", "clones"]
/** Where a namespace mounts its tmpfs; outside of the namespaces it is always empty. */
const tmpfsName = "view"

/** Outside of namespaces the mounts of the scripts below would be the machine's, and their `kill -1` would end all of it. */
const insideOnly = `if [ "$$" != 1 ]; then
  echo "blackbox5: unshare made no PID namespace" >&2
  exit 125
fi
`

/**
 * Puts a view of the state directory, built in a tmpfs, over the state directory; then runs the rest of the arguments. Bound rather than moved:
 * `mount --move` fails in a user namespace. There, files of root seem to be nobody's, and ssh refuses included configuration (of Debian, Fedora,
 * openSUSE) that is nobody's: it gets copies, or no agent of an ordinary user could push.
 */
const hide = `${insideOnly}set -e
state=$1 tmpfs=$2 directory=$3
shift 3
mount -t tmpfs -o mode=0700,size=4m blackbox5 "$tmpfs"
mkdir -m 700 "$tmpfs/view"
while [ "$1" != -- ]; do
  mkdir -p "$tmpfs/view/$1"
  mount --rbind "$state/$1" "$tmpfs/view/$1"
  shift
done
shift
if [ "$(id -u)" != 0 ]; then
  for path in /etc/ssh/ssh_config.d /usr/etc/ssh/ssh_config.d /etc/crypto-policies/back-ends/openssh.config; do
    [ -e "$path" ] || continue
    mkdir -p "$tmpfs/copies\${path%/*}"
    cp -RL "$path" "$tmpfs/copies$path" 2> /dev/null || true
    mount --bind "$tmpfs/copies$path" "$path" || true
  done
fi
mount --rbind "$tmpfs/view" "$state"
mount -o remount,bind,ro "$state"
cd "$directory"
exec "$@"
`

/**
 * The first process of a namespace: adopts and reaps what the loop leaves behind. When it ends, the kernel kills all that is left, so it
 * first gives them the grace that they have without a namespace. SIGTERM does not reach it, for it has no handler. Its `kill -1` means all
 * processes of the namespace.
 */
const first = `${insideOnly}tenths=$1
shift
"$@"
code=$?
kill -TERM -1 2> /dev/null
while [ "$tenths" -gt 0 ] && kill -0 -1 2> /dev/null; do
  sleep 0.1
  tenths=$((tenths - 1))
done
exit "$code"
`

export interface IsolationOptions {
  readonly stateDirectory: string
  /** What else stays visible of it: paths within. */
  readonly shown: readonly string[]
  /** Where the command runs, an absolute path. */
  readonly directory: string
  /** What processes that are left behind have from SIGTERM to SIGKILL. */
  readonly graceSeconds: number
}

/** argv that runs a command so isolated; its exit code is the command's. @throws when the state directory cannot be written. */
export function isolated(kind: IsolationKind, command: readonly string[], options: IsolationOptions): readonly string[] {
  if (kind === "process tree") return command
  const { stateDirectory, shown, directory, graceSeconds } = options
  const hiding = kind === "pid and mount namespaces"
  // Root needs no user namespace, in which it could not give files to other users. Others get their capabilities there, for mounting alone.
  const root = process.geteuid?.() === 0
  const user = root ? [] : ["--user", "--map-current-user", ...(hiding ? ["--keep-caps"] : [])]
  const dropped = root || !hiding ? [] : ["setpriv", "--inh-caps=-all", "--ambient-caps=-all", "--bounding-set=-all"]
  const visible = [...shownAlways, ...shown]
  if (hiding)
    for (const path of [tmpfsName, ...shownAlways]) mkdirSync(join(stateDirectory, path), { recursive: true, mode: 0o700 })
  return [
    ...["unshare", ...user, "--pid", "--fork", "--mount", "--mount-proc"],
    ...(hiding
      ? ["sh", "-c", hide, "blackbox5-view", stateDirectory, join(stateDirectory, tmpfsName), directory, ...visible, "--"]
      : []),
    ...dropped,
    // A session of its own: the process group of the wrapper has no number inside.
    ...["setsid", "sh", "-c", first, "blackbox5-first", String(Math.ceil(graceSeconds * 10)), ...command],
  ]
}

const probeMs = 10_000

/** Undefined when a command really runs like this; else why not. */
async function refused(kind: IsolationKind, stateDirectory: string): Promise<string | undefined> {
  // Seen from inside: the parent is the namespace's first process, and the state directory has lost what is not shown.
  const look = 'test "$PPID" = 1 && { test "$2" != hidden || test ! -e "$1"; }'
  const hidden = kind === "pid and mount namespaces" ? "hidden" : "shown"
  const command = ["sh", "-c", look, "blackbox5-probe", join(stateDirectory, tmpfsName), hidden]
  try {
    const [program = "", ...args] = isolated(kind, command, { stateDirectory, shown: [], directory: "/", graceSeconds: 0 })
    await promisify(execFile)(program, args, { timeout: probeMs, killSignal: "SIGKILL" })
    return undefined
  } catch (error) {
    if (!(error instanceof Error)) return String(error)
    const said = "stderr" in error ? String(error.stderr).trim().split("\n")[0] : ""
    if ("code" in error && error.code === "ENOENT") return "there is no program unshare (util-linux) on the PATH"
    return said || ("killed" in error && error.killed ? `it did not end within ${probeMs / 1000} s` : oneLine(error.message, 200))
  }
}

/**
 * The strongest isolation that works here, by trying it: kernels, containers and security modules each refuse other parts of it.
 * Makes the state directory if it is not there; takes some 50 ms; never throws.
 */
export async function probeIsolation(stateDirectory: string): Promise<Isolation> {
  if (process.platform !== "linux")
    return { kind: "process tree", why: `Namespaces are Linux's, and this is ${process.platform}.` }
  const noView = await refused("pid and mount namespaces", stateDirectory)
  if (noView === undefined)
    return { kind: "pid and mount namespaces", why: "A loop's processes cannot leave it, nor see the state directory." }
  const noNamespace = await refused("pid namespace", stateDirectory)
  if (noNamespace === undefined) return { kind: "pid namespace", why: `The state directory cannot be hidden: ${noView}.` }
  return { kind: "process tree", why: `No PID namespace can be made: ${noNamespace}.` }
}

const lacks: Readonly<Record<IsolationKind, string | undefined>> = {
  "pid and mount namespaces": undefined,
  "pid namespace": "Agents can read the state directory, with its token.",
  "process tree":
    "A daemon that an agent detaches (env -i setsid) is neither paused nor stopped with it, and agents can read the state directory.",
}
/** What people must know of an isolation that is not whole, and why it is not. */
export const warningOf = ({ kind, why }: Isolation): string | undefined => lacks[kind] && `${lacks[kind]} ${why}`
