import { readdirSync, readFileSync } from "node:fs"

/**
 * Finds, freezes, thaws and ends every process that an instance started, on Linux by /proc.
 * Claude runs each shell command in a session and process group of its own, and background commands outlive it, so a signal to the loop's
 * group reaches neither: processes are found by parent chain and by the marker in their environment, again until a pass finds nothing new.
 */

/** Marks all processes of an instance; its value is `<uid>/<place>`. */
export const instanceVariable = "BLACKBOX5_INSTANCE"
/** Marks all processes of one iteration; its value is the turn's id. */
export const turnVariable = "BLACKBOX5_TURN"
/** An entry of the environment that all processes meant have; one that ends in `/` is the beginning of an entry. */
export type Marker = `${typeof instanceVariable | typeof turnVariable}=${string}`
export const ofInstance = (uid: string): Marker => `${instanceVariable}=${uid}/`
/** One run of an instance: what a supervisor is responsible for. */
export const ofRun = (uid: string, place: string): Marker => `${instanceVariable}=${uid}/${place}`
export const ofTurn = (id: string): Marker => `${turnVariable}=${id}`

export interface ProcessId {
  readonly pid: number
  /** Clock ticks since boot: with the pid it names one process, which the pid alone does not. */
  readonly startTicks: number
}
interface Process extends ProcessId {
  readonly parent: number
  readonly state: string
}

/** The fields after the command name, which may itself hold spaces and parentheses (proc(5)). */
function read(pid: number): Process | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, "latin1")
    const fields = text.slice(text.lastIndexOf(")") + 2).split(" ")
    return { pid, state: fields[0] ?? "?", parent: Number(fields[1]), startTicks: Number(fields[19]) }
  } catch {
    return undefined
  }
}
const dead = (state: string): boolean => state === "Z" || state === "X"
const still = (state: string): boolean => state === "T" || state === "t" || dead(state)

/** The identity of a process that runs now; undefined when there is none. */
export function processId(pid: number): ProcessId | undefined {
  const found = read(pid)
  return found && !dead(found.state) ? { pid, startTicks: found.startTicks } : undefined
}
export const alive = ({ pid, startTicks }: ProcessId): boolean => processId(pid)?.startTicks === startTicks
/** True for a process that runs and stands still. */
export function stopped(id: ProcessId): boolean {
  const found = read(id.pid)
  return found?.startTicks === id.startTicks && (found.state === "T" || found.state === "t")
}

function marked(pid: number, entry: Buffer): boolean {
  try {
    const environment = readFileSync(`/proc/${pid}/environ`)
    const at = environment.indexOf(entry)
    return at === 0 || (at > 0 && environment[at - 1] === 0)
  } catch {
    return false
  }
}

/** Everything with that marker, and all below it, that is alive now; without the processes of `except` (the supervisor). */
export function find(marker: Marker, except: ReadonlySet<number>): readonly Process[] {
  const all = readdirSync("/proc").flatMap((entry) => {
    const pid = Number(entry)
    const found = Number.isInteger(pid) ? read(pid) : undefined
    return found && !dead(found.state) && !except.has(pid) && pid !== process.pid ? [found] : []
  })
  const children = Map.groupBy(all, ({ parent }) => parent)
  const entry = Buffer.from(marker.endsWith("/") ? marker : `${marker}\0`)
  const members = new Map<number, Process>()
  const add = (one: Process): void => {
    if (members.has(one.pid)) return
    members.set(one.pid, one)
    for (const child of children.get(one.pid) ?? []) add(child)
  }
  for (const one of all) if (!members.has(one.pid) && marked(one.pid, entry)) add(one)
  return [...members.values()]
}

const signal = ({ pid }: ProcessId, name: NodeJS.Signals): void => {
  try {
    process.kill(pid, name)
  } catch {
    // It ended meanwhile.
  }
}
/** A tree that forks faster than it can be signalled is given up after so many passes; the next call goes on. */
const passesMax = 50

/** Stops every process. True when a pass found none that still ran. */
export function freeze(marker: Marker, except: ReadonlySet<number>): boolean {
  for (let pass = 0; pass < passesMax; pass++) {
    const moving = find(marker, except).filter(({ state }) => !still(state))
    if (moving.length === 0) return true
    for (const one of moving) signal(one, "SIGSTOP")
  }
  return false
}

/** Lets every process go on. */
export function thaw(marker: Marker, except: ReadonlySet<number>): void {
  for (const one of find(marker, except)) signal(one, "SIGCONT")
}

/** SIGTERM to all (a frozen one takes it when it is let go), SIGKILL to what is left after the grace. Resolves when nothing is left. */
export async function end(marker: Marker, except: ReadonlySet<number>, graceSeconds: number): Promise<void> {
  const told = new Set<string>()
  const deadlineMs = performance.now() + graceSeconds * 1000
  for (;;) {
    const left = find(marker, except)
    if (left.length === 0) return
    const kill = performance.now() >= deadlineMs
    for (const one of left) {
      const key = `${one.pid}-${one.startTicks}`
      if (kill) signal(one, "SIGKILL")
      else if (!told.has(key)) {
        told.add(key)
        signal(one, "SIGTERM")
        signal(one, "SIGCONT")
      }
    }
    // The end of a process that is not our child cannot be awaited without a pidfd, which Node has not: looked at again instead.
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}
