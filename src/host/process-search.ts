import { existsSync, readdirSync, readFileSync } from "node:fs"
import { setImmediate as turn } from "node:timers/promises"
import {
  entryOf,
  instanceVariable,
  isAlive,
  isDead,
  isMarked,
  members,
  type Process,
  type ProcessId,
  type ProcessMarker,
  read,
  readProcFile,
  type Search,
} from "./processes.ts"

/** Searches that do not cost each asker a look at every process of the machine. */

/** A kernel without CONFIG_PROC_CHILDREN does not tell them. */
const tellsChildren = existsSync(`/proc/${process.pid}/task/${process.pid}/children`)
/**
 * A read of such a file is whole while it is shorter than the half page that the kernel fills at
 * least.
 */
const wholeBytesMax = 2048

function childrenOfThread(pid: number, thread: number | string): readonly number[] {
  const path = `/proc/${pid}/task/${thread}/children`
  try {
    const text = readProcFile(path)
    return (text.length < wholeBytesMax ? text : readFileSync(path, "latin1"))
      .split(" ")
      .filter(Boolean)
      .map(Number)
  } catch {
    return [] // a thread that ended leaves its children to the others
  }
}
/** Children of all its threads (proc_pid_task(5)): complete once it is stopped. */
function childrenOf({ pid, threads }: Process): readonly number[] {
  if (threads === 1) return childrenOfThread(pid, pid)
  try {
    return readdirSync(`/proc/${pid}/task`).flatMap((thread) => childrenOfThread(pid, thread))
  } catch {
    return []
  }
}

/**
 * The processes of a run that cannot leave the tree below its loop, because a PID namespace holds
 * them: found by a walk down that tree and the marked children of this process, at a cost of what
 * the run has, not of what the machine has. `known` were found before; whoever was found once is a
 * root of its own, since its parent may end before it. Where the loop is gone, or the kernel tells
 * no children, all of /proc is searched.
 */
export function treeSearch(
  marker: ProcessMarker,
  except: ReadonlySet<number>,
  loop: () => ProcessId | undefined,
  known: readonly ProcessId[],
): Search {
  const entry = entryOf(marker)
  const roots = new Map<number, number>(known.map(({ pid, startTicks }) => [pid, startTicks]))
  return function* () {
    const root = loop()
    if (!tellsChildren || !root || !isAlive(root)) {
      yield* members(marker, except)
      return
    }
    const seen = new Set<number>([process.pid, ...except])
    function* walk(pid: number, startTicks?: number): Generator<Process> {
      if (seen.has(pid)) return
      const one = read(pid)
      if (
        !one ||
        isDead(one.state) ||
        (startTicks !== undefined && one.startTicks !== startTicks)
      ) {
        roots.delete(pid)
        return
      }
      seen.add(pid)
      roots.set(pid, one.startTicks)
      yield one
      for (const child of childrenOf(one)) yield* walk(child)
    }
    yield* walk(root.pid, root.startTicks)
    for (const [pid, startTicks] of [...roots]) yield* walk(pid, startTicks)
    // Programs that this process runs for the agent (MCP servers with secrets) are outside of the
    // namespace. Node starts all in its first thread.
    for (const pid of childrenOfThread(process.pid, process.pid))
      if (isMarked(pid, entry)) yield* walk(pid)
  }
}

/** Between two turns of the event loop so many processes are looked at: some milliseconds. */
const batch = 100

/** The uids that a process of this machine is marked with. */
async function markedUids(): Promise<ReadonlySet<string>> {
  const uids = new Set<string>()
  const begin = `${instanceVariable}=`
  const pids = readdirSync("/proc").filter((name) => /^\d+$/.test(name))
  for (const [index, pid] of pids.entries()) {
    if (index % batch === batch - 1) await turn()
    try {
      const entry = readFileSync(`/proc/${pid}/environ`, "latin1")
        .split("\0")
        .find((one) => one.startsWith(begin))
      if (entry) uids.add(entry.slice(begin.length).split("/")[0] ?? "")
    } catch {
      // It ended meanwhile, or is another user's.
    }
  }
  return uids
}

/**
 * Tells which instances have processes. One look at the machine serves all who ask before it
 * begins.
 */
export function createCensus(
  look: () => Promise<ReadonlySet<string>> = markedUids,
): () => Promise<ReadonlySet<string>> {
  let running: Promise<unknown> = Promise.resolve()
  let next: Promise<ReadonlySet<string>> | undefined
  return () => {
    next ??= running.then(() => {
      next = undefined
      const looked = look()
      running = looked.catch(() => {})
      return looked
    })
    return next
  }
}
