import {
  find,
  members,
  type ProcessId,
  type ProcessMarker,
  type Search,
  standsOrEnded,
} from "./processes.ts"

/** Freezes, thaws and ends all that a search finds. */

const keyOf = ({ pid, startTicks }: ProcessId): string => `${pid}-${startTicks}`
const signal = ({ pid }: ProcessId, name: NodeJS.Signals): void => {
  try {
    process.kill(pid, name)
  } catch {
    // It ended meanwhile.
  }
}
/**
 * A tree that forks faster than it can be signalled is given up after so many passes; the next call
 * goes on.
 */
const passesMax = 50
/**
 * On a busy machine a signalled process takes its signal when it next has a processor: it is waited
 * for, not looked at all the while.
 */
const yieldMs = 1
const never = new Int32Array(new SharedArrayBuffer(4))

/**
 * Stops every process, each as soon as it is found. True when a whole pass found none that still
 * ran: nothing is left that could fork.
 */
export function freeze(search: Search): boolean {
  const signalled = new Set<string>()
  for (let pass = 0; pass < passesMax; pass++) {
    let moving = false
    let found = false
    for (const one of search()) {
      // A shell that has vforked (dash does for each command) waits in D until its child executes,
      // and that one may be stopped already. A signal that it was given is the first thing it
      // takes: it runs nothing of its own before.
      if (standsOrEnded(one.state) || (one.state === "D" && signalled.has(keyOf(one)))) continue
      moving = true
      found ||= !signalled.has(keyOf(one))
      signalled.add(keyOf(one))
      signal(one, "SIGSTOP")
    }
    if (!moving) return true
    if (!found) Atomics.wait(never, 0, 0, yieldMs)
  }
  return false
}

/**
 * True when there are some and each of them is stopped: one that waits for a child to execute may
 * be, and is not counted.
 */
export function standsStill(search: Search): boolean {
  let found = false
  for (const { state } of search()) {
    if (!standsOrEnded(state)) return false
    found = true
  }
  return found
}

/**
 * Lets every process go on: all are found before the first does, for one that goes on may end and
 * leave its children to another.
 */
export function thaw(search: Search): void {
  for (const one of [...search()]) signal(one, "SIGCONT")
}

/**
 * SIGTERM to all (a frozen one takes it when it is let go), SIGKILL to what is left after the
 * grace. Resolves when nothing is left, by a last look at all of /proc also where a narrower search
 * finds nothing any more.
 */
export const endProcesses = (
  marker: ProcessMarker,
  except: ReadonlySet<number>,
  graceSeconds: number,
  search: Search = () => members(marker, except),
): Promise<void> =>
  endFound(graceSeconds, () => {
    const near = [...search()]
    return near.length > 0 ? near : find(marker, except)
  })

/** As `end`, for what the search finds and nothing else. */
export async function endFound(graceSeconds: number, search: Search): Promise<void> {
  const signalled = new Set<string>()
  const deadlineMs = performance.now() + graceSeconds * 1000
  for (;;) {
    const left = [...search()]
    if (left.length === 0) return
    const kill = performance.now() >= deadlineMs
    for (const one of left) {
      if (kill) signal(one, "SIGKILL")
      else if (!signalled.has(keyOf(one))) {
        signalled.add(keyOf(one))
        signal(one, "SIGTERM")
        signal(one, "SIGCONT")
      }
    }
    // The end of a process that is not our child cannot be awaited without a pidfd, which Node has
    // not: looked at again instead.
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}
