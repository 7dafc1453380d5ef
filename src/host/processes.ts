import { closeSync, openSync, readdirSync, readFileSync, readSync } from "node:fs"

/**
 * Finds, freezes, thaws and ends every process that an instance started, on Linux by /proc. Claude
 * runs each shell command in a session and process group of its own, and background commands
 * outlive it, so a signal to the loop's group reaches neither: processes are found by parent chain
 * and by the marker in their environment, again until a pass finds nothing new.
 */

/** Marks all processes of an instance; its value is `<uid>/<place>`. */
export const instanceVariable = "BLACKBOX5_INSTANCE"
/** Marks all processes of one iteration; its value is the turn's id. */
export const turnVariable = "BLACKBOX5_TURN"
/**
 * An entry of the environment that all processes meant have; one that ends in `/` is the beginning
 * of an entry.
 */
export type ProcessMarker = `${typeof instanceVariable | typeof turnVariable}=${string}`
export const processesOfInstance = (uid: string): ProcessMarker => `${instanceVariable}=${uid}/`
/** One run of an instance: what a supervisor is responsible for. */
export const processesOfRun = (uid: string, place: string): ProcessMarker =>
  `${instanceVariable}=${uid}/${place}`
export const processesOfTurn = (id: string): ProcessMarker => `${turnVariable}=${id}`

export interface ProcessId {
  readonly pid: number
  /** Clock ticks since boot: with the pid it names one process, which the pid alone does not. */
  readonly startTicks: number
}
/**
 * A tick of the kernel's clock for /proc: USER_HZ is 100 on every architecture that Node runs on.
 */
export const tickMs = 10
export interface Process extends ProcessId {
  readonly parent: number
  readonly state: string
  readonly threads: number
  /** A thread of the kernel's own, which has no environment and no children but such. */
  readonly kernel: boolean
}

/**
 * A stat has some 300 bytes, an environ a few thousand. A pause waits for hundreds of such files:
 * readFileSync takes half as long again.
 */
const line = Buffer.alloc(65_536)
/** The beginning of a small file of /proc. @throws when there is no such file. */
export function readProcFile(path: string): string {
  const file = openSync(path, "r")
  try {
    return line.toString("latin1", 0, readSync(file, line, 0, line.length, 0))
  } finally {
    closeSync(file)
  }
}
function statOf(pid: number): string | undefined {
  try {
    return readProcFile(`/proc/${pid}/stat`)
  } catch {
    return undefined
  }
}
/** PF_KTHREAD of the flags (linux/sched.h). */
const kernelFlag = 0x00200000
/** The fields after the command name, which may itself hold spaces and parentheses (proc(5)). */
export function read(pid: number): Process | undefined {
  const text = statOf(pid)
  if (!text) return undefined
  const fields = text.slice(text.lastIndexOf(")") + 2).split(" ")
  return {
    pid,
    state: fields[0] ?? "?",
    parent: Number(fields[1]),
    threads: Number(fields[17]),
    startTicks: Number(fields[19]),
    kernel: (Number(fields[6]) & kernelFlag) !== 0,
  }
}
export const isDead = (state: string): boolean => state === "Z" || state === "X"
export const standsOrEnded = (state: string): boolean =>
  state === "T" || state === "t" || isDead(state)

/** The identity of a process that runs now; undefined when there is none. */
export function processId(pid: number): ProcessId | undefined {
  const found = read(pid)
  return found && !isDead(found.state) ? { pid, startTicks: found.startTicks } : undefined
}
export const isAlive = ({ pid, startTicks }: ProcessId): boolean =>
  processId(pid)?.startTicks === startTicks
/**
 * A look at the pid alone, which may be another's by now: some microseconds, where the identity
 * costs a file of /proc.
 */
export function processExists(pid: number): boolean {
  try {
    return process.kill(pid, 0)
  } catch {
    return false
  }
}
export const entryOf = (marker: ProcessMarker): Buffer =>
  Buffer.from(marker.endsWith("/") ? marker : `${marker}\0`)
export function isMarked(pid: number, entry: Buffer): boolean {
  try {
    const environment = readFileSync(`/proc/${pid}/environ`)
    const at = environment.indexOf(entry)
    return at === 0 || (at > 0 && environment[at - 1] === 0)
  } catch {
    return false
  }
}

/**
 * Everything with that marker, and all below it, that is alive now, each told as soon as it is
 * known; without the processes of `except` (the supervisor). In a PID namespace the kernel gives
 * orphans to the namespace's first process, which has the marker: there nothing can leave the tree,
 * not even a daemon with an empty environment in a session of its own.
 */
export function* members(marker: ProcessMarker, except: ReadonlySet<number>): Generator<Process> {
  const entry = entryOf(marker)
  const known = new Set<number>()
  /**
   * Those not known to belong to it, by parent: a pid that was used again may be lower than its
   * parent's.
   */
  const others = new Map<number, Process[]>()
  function* add(one: Process): Generator<Process> {
    known.add(one.pid)
    yield one
    const below = others.get(one.pid) ?? []
    others.delete(one.pid)
    for (const child of below) yield* add(child)
  }
  for (const name of readdirSync("/proc")) {
    const pid = Number(name)
    const one =
      Number.isInteger(pid) && pid !== process.pid && !except.has(pid) ? read(pid) : undefined
    if (!one || one.kernel || isDead(one.state)) continue
    if (known.has(one.parent) || isMarked(pid, entry)) yield* add(one)
    else {
      const siblings = others.get(one.parent)
      if (siblings) siblings.push(one)
      else others.set(one.parent, [one])
    }
  }
}
export const find = (marker: ProcessMarker, except: ReadonlySet<number>): readonly Process[] => [
  ...members(marker, except),
]

/**
 * Gives the processes that are meant, each as soon as it is known. What it stops before it goes on
 * cannot fork behind its back.
 */
export type Search = () => Iterable<Process>

/**
 * The process among those meant which sees itself as `self`: in a PID namespace its pid is another
 * one than here, its start is the same. Undefined when there is none.
 */
export function identify(self: ProcessId, search: Search): ProcessId | undefined {
  for (const { pid, startTicks } of search())
    if (startTicks === self.startTicks && innermost(pid) === self.pid) return { pid, startTicks }
  return undefined
}
/** The pid in the process's own namespace (proc_pid_status(5)). */
function innermost(pid: number): number | undefined {
  try {
    const numbers = /^NSpid:(.*)$/m.exec(readFileSync(`/proc/${pid}/status`, "latin1"))?.[1]
    return numbers === undefined ? undefined : Number(numbers.trim().split(/\s+/).at(-1))
  } catch {
    return undefined
  }
}

/** True for the first process of a PID namespace, to which the kernel gives the orphans in it. */
export const isFirstOfNamespace = (pid: number): boolean => innermost(pid) === 1
