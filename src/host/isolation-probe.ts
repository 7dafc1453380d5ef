import { execFile } from "node:child_process"
import { mkdirSync } from "node:fs"
import { promisify } from "node:util"
import { errorCode } from "../core/error-code.ts"
import { oneLine } from "../core/view.ts"
import { planView } from "./agent-view.ts"
import type { Guarded } from "./guarded.ts"
import { type IsolationKind, isolated, scratchOf } from "./isolation.ts"
import { replaceableLinks } from "./path-rights.ts"
import { systemPath, systemShell } from "./system-path.ts"

/** Which isolation works on this machine, and what people must know of it. */

export interface Isolation {
  readonly kind: IsolationKind
  /** One sentence: why it is not a stronger one, or what this one does. */
  readonly why: string
  /** Sentences: what it should guard and does not. */
  readonly gaps?: readonly string[]
}

const probeMs = 10_000

export interface ProbeOptions {
  readonly stateDirectory: string
  readonly guarded: Guarded
  /** Where the system's programs are. */
  readonly path?: string
}

/**
 * Seen from inside: the parent is the namespace's first process, and the state directory has lost
 * what is not shown. It prints what should be closed and is not.
 */
const look = `test "$PPID" = 1 || exit 1
test "$1" != hidden || test ! -e "$2" || exit 1
shift 2
for path; do
  if test -w "$path"; then printf "%s\\n" "$path"; fi
done
`

/** What is open that should not be, when a command really runs like this; else why it does not. */
async function tried(
  kind: IsolationKind,
  { stateDirectory, guarded, path = systemPath }: ProbeOptions,
): Promise<{ readonly open: string } | { readonly refused: string }> {
  const hidden = kind === "pid and mount namespaces" ? "hidden" : "shown"
  try {
    mkdirSync(stateDirectory, { recursive: true, mode: 0o700 })
    const scratch = scratchOf(stateDirectory)
    const view = planView({ stateDirectory, scratch, guarded, work: [] })
    const closed = hidden === "hidden" ? view.closed : []
    const command = [systemShell, "-c", look, "blackbox5-probe", hidden, scratch, ...closed]
    const [program = "", ...args] = isolated(kind, command, {
      stateDirectory,
      directory: "/",
      graceSeconds: 0,
      view,
      path,
    })
    const { stdout } = await promisify(execFile)(program, args, {
      timeout: probeMs,
      killSignal: "SIGKILL",
    })
    return { open: stdout.trim().split("\n").join(", ") }
  } catch (error) {
    if (!(error instanceof Error)) return { refused: String(error) }
    const said = "stderr" in error ? String(error.stderr).trim().split("\n")[0] : ""
    if (errorCode(error) === "ENOENT")
      return {
        refused: `there is no program unshare (util-linux) in ${path.split(":").join(", ")}`,
      }
    const slow = "killed" in error && error.killed
    return {
      refused:
        said || (slow ? `it did not end within ${probeMs / 1000} s` : oneLine(error.message, 200)),
    }
  }
}

/**
 * The strongest isolation that works here, by trying it: kernels, containers and security modules
 * each refuse other parts of it. Makes the state directory if it is not there; takes some 50 ms;
 * never throws.
 */
export async function probeIsolation(options: ProbeOptions): Promise<Isolation> {
  if (process.platform !== "linux")
    return { kind: "process tree", why: `Namespaces are Linux's, and this is ${process.platform}.` }
  const whole = await tried("pid and mount namespaces", options)
  if ("open" in whole) {
    const links = [options.stateDirectory, ...options.guarded.found].flatMap(replaceableLinks)
    const can = "which Blackbox5 uses outside of their namespaces."
    return {
      kind: "pid and mount namespaces",
      why: "A loop's processes cannot leave it, nor see the state directory, nor change what Blackbox5 runs.",
      gaps: [
        ...(whole.open === "" ? [] : [`Agents can write ${oneLine(whole.open, 600)}, ${can}`]),
        ...[...new Set(links)].map(
          (link) => `Agents can replace the symbolic link ${oneLine(link, 200)}, ${can}`,
        ),
      ],
    }
  }
  const pid = await tried("pid namespace", options)
  if ("open" in pid)
    return { kind: "pid namespace", why: `The state directory cannot be hidden: ${whole.refused}.` }
  return { kind: "process tree", why: `No PID namespace can be made: ${pid.refused}.` }
}

const lacks: Readonly<Record<IsolationKind, string | undefined>> = {
  "pid and mount namespaces": undefined,
  "pid namespace":
    "Agents can read the state directory, with its token, and can change what Blackbox5 runs.",
  "process tree":
    "A daemon that an agent detaches (env -i setsid) is neither paused nor stopped with it. Agents can read the state directory, and can change what Blackbox5 runs.",
}
/** What people must know of an isolation that is not whole, and why it is not. */
export function warningOf({ kind, why, gaps = [] }: Isolation): string | undefined {
  const lack = lacks[kind]
  const sentences = [...(lack === undefined ? [] : [lack, why]), ...gaps]
  return sentences.length === 0 ? undefined : sentences.join(" ")
}
