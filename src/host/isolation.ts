import { existsSync, mkdirSync, readFileSync, realpathSync } from "node:fs"
import { join } from "node:path"
import { z } from "zod"
import { type AgentView, shownAlways } from "./agent-view.ts"
import { lockedOptions, mountOf, readMounts, tableLine } from "./mount-table.ts"
import { systemPath, systemProgram, systemShell } from "./system-path.ts"

/**
 * How the processes of an instance are held together, from the strongest: a PID namespace keeps
 * every process of the loop below its first one, also a daemon that dropped its parent and its
 * environment; a mount namespace also hides the state directory and guards what runs outside;
 * without either, processes are known by parent chain and marker alone. Made by `unshare` of
 * util-linux 2.38; other systems than Linux have none of it.
 */

const kinds = ["pid and mount namespaces", "pid namespace", "process tree"] as const
export const isolationSchema = z.enum(kinds)
export type IsolationKind = z.output<typeof isolationSchema>
/** Where a namespace mounts its tmpfs; outside of the namespaces it is always empty. */
const scratchName = "view"
export const scratchOf = (stateDirectory: string): string => join(stateDirectory, scratchName)

/**
 * Outside of namespaces the mounts of the scripts below would be the machine's, and their `kill -1`
 * would end all of it.
 */
const insideOnly = `if [ "$$" != 1 ]; then
  echo "blackbox5: unshare made no PID namespace" >&2
  exit 125
fi
`

/**
 * Mounts what a table says: first what guards, then a view of the state directory, built in a
 * tmpfs, over the state directory; then runs the rest of the arguments. Bound rather than moved:
 * `mount --move` fails in a user namespace. One mount(8) makes all that is in the table, for each
 * costs milliseconds. What it cannot guard it says, and goes on; without the view nothing runs.
 * Until then, nothing is looked for on the person's PATH.
 */
const hide = `${insideOnly}set -e
bb5_given=$PATH PATH=$1 bb5_scratch=$2 bb5_directory=$3 bb5_bin=$4 bb5_table=$5 bb5_copied=$6
shift 6
mount -t tmpfs -o mode=0700,size=4m blackbox5 "$bb5_scratch"
(umask 077 && mkdir -p "$bb5_scratch/empty" "$bb5_scratch/view/trees" "$bb5_scratch/view/clones" "$bb5_scratch/view/$bb5_bin")
for bb5_path in $bb5_copied; do
  mkdir -p "$bb5_scratch/copies\${bb5_path%/*}"
  cp -RL "$bb5_path" "$bb5_scratch/copies$bb5_path" 2> /dev/null || true
done
printf %s "$bb5_table" > "$bb5_scratch/table"
mount -a -T "$bb5_scratch/table" || true
if [ -e "$bb5_scratch/table" ]; then
  echo "blackbox5: the state directory could not be hidden" >&2
  exit 125
fi
while [ "$1" != -- ]; do
  mount -o "$1" "$2" || true
  shift 2
done
shift
cd "$bb5_directory"
PATH=$bb5_given
exec "$@"
`

/**
 * The first process of a namespace: adopts and reaps what the loop leaves behind. When it ends, the
 * kernel kills all that is left, so it first gives them the grace that they have without a
 * namespace. SIGTERM does not reach it, for it has no handler. Its `kill -1` means all processes of
 * the namespace.
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

/**
 * In a user namespace files of root seem to be nobody's, and ssh refuses included configuration (of
 * Debian, Fedora, openSUSE) that is nobody's: it gets copies, or no agent of an ordinary user could
 * push.
 */
const copied = [
  "/etc/ssh/ssh_config.d",
  "/usr/etc/ssh/ssh_config.d",
  "/etc/crypto-policies/back-ends/openssh.config",
]

/**
 * By these (capabilities(7)) root could take its view away, reach a file by its handle, or have the
 * kernel act for it.
 */
const takenNames = [
  "sys_admin",
  "dac_read_search",
  "sys_module",
  "sys_rawio",
  "sys_boot",
  "mac_admin",
  "mac_override",
]
/** perfmon, bpf and checkpoint_restore, for which older versions of setpriv have no names. */
const takenNumbers = [38, 39, 40]
/** What a command is started by that is to have no such rights. */
function withoutRights(isRoot: boolean, path: string): readonly string[] {
  const setpriv = [systemProgram("setpriv", path), "--inh-caps=-all", "--ambient-caps=-all"]
  if (!isRoot) return [...setpriv, "--bounding-set=-all"]
  const last = Number(readFileSync("/proc/sys/kernel/cap_last_cap", "utf8"))
  const taken = [
    ...takenNames,
    ...takenNumbers.filter((number) => number <= last).map((number) => `cap_${number}`),
  ]
  return [...setpriv, `--bounding-set=${taken.map((name) => `-${name}`).join(",")}`]
}

export interface IsolationOptions {
  readonly stateDirectory: string
  /** The run's own commands: a path in it that stays visible, and is not to be written. */
  readonly bin?: string
  /** Where the command runs, an absolute path. */
  readonly directory: string
  /** What processes that are left behind have from SIGTERM to SIGKILL. */
  readonly graceSeconds: number
  readonly view: AgentView
  /** Where the system's programs are. */
  readonly path?: string
}

/**
 * The whole table: what guards, then the view of the state directory. An agent writes in its own
 * work tree and clone alone: in the place of another one that is still to be made it could put a
 * link, through which the checkout would go elsewhere.
 */
function tableOf(
  { stateDirectory, bin, view }: IsolationOptions,
  copies: readonly string[],
): string {
  const [state, scratch] = [realpathSync(stateDirectory), scratchOf(stateDirectory)]
  const inView = (path: string, options: string): string =>
    tableLine(join(state, path), join(scratch, "view", path), options)
  const readOnly = `rbind,ro${lockedOptions(mountOf(state, readMounts()))}`
  return [
    view.table,
    ...shownAlways.map((path) => inView(path, readOnly)),
    ...view.own.map((path) => inView(path, "rbind")),
    bin === undefined ? "" : inView(bin, readOnly),
    ...copies.map((path) => tableLine(join(scratch, "copies", path), path, "bind,ro")),
    tableLine(join(scratch, "view"), state, "rbind,ro"),
  ].join("")
}

/**
 * argv that runs a command so isolated; its exit code is the command's. @throws when the state
 * directory cannot be written.
 */
export function isolated(
  kind: IsolationKind,
  command: readonly string[],
  options: IsolationOptions,
): readonly string[] {
  if (kind === "process tree") return command
  const { stateDirectory, bin = "", directory, graceSeconds, view, path = systemPath } = options
  const hiding = kind === "pid and mount namespaces"
  // Root needs no user namespace, in which it could not give files to other users. Others get their
  // capabilities there, for mounting alone.
  const isRoot = process.geteuid?.() === 0
  const user = isRoot ? [] : ["--user", "--map-current-user", ...(hiding ? ["--keep-caps"] : [])]
  for (const name of hiding ? [scratchName, ...shownAlways] : [])
    mkdirSync(join(stateDirectory, name), { recursive: true, mode: 0o700 })
  const copies = isRoot ? [] : copied.filter((one) => existsSync(one))
  const hidden = (): readonly string[] => [
    ...[systemShell, "-c", hide, "blackbox5-view", path, scratchOf(stateDirectory), directory, bin],
    ...[tableOf(options, copies), copies.join(" "), ...view.remounts.flat(), "--"],
    ...withoutRights(isRoot, path),
  ]
  return [
    ...[systemProgram("unshare", path), ...user, "--pid", "--fork", "--mount", "--mount-proc"],
    ...(hiding ? hidden() : []),
    // A session of its own: the process group of the wrapper has no number inside.
    ...[
      systemProgram("setsid", path),
      systemShell,
      "-c",
      first,
      "blackbox5-first",
      String(Math.ceil(graceSeconds * 10)),
    ],
    ...command,
  ]
}
