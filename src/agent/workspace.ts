import { dirname } from "node:path"
import { setTimeout as sleep } from "node:timers/promises"
import type { Beat, Work } from "../core/beat.ts"
import { asFault } from "../core/faults.ts"
import type { Problem } from "../core/instance.ts"
import { cut, oneLine } from "../core/view.ts"
import { commitOf, gitIn } from "../host/git.ts"
import { measure } from "../host/tree-work.ts"
import { readLasting, writeLasting } from "../run/lasting-files.ts"
import type { RunFile } from "../run/run-directory.ts"
import { lock } from "./lock.ts"
import { makeTree } from "./work-tree.ts"

/** A clone of the largest kind and a checkout. */
const lockMs = 1_800_000
/** What the last look may take. */
const lastLookMs = 3000

export interface WorkspaceOptions {
  readonly run: Pick<RunFile, "tree" | "name">
  /** The run directory; what lasts is beside it. */
  readonly directory: string
  nowMs(): number
  /** What it reports has changed. */
  changed(): void
  /** Tells people of what it could not do, though the loop can begin. */
  warn(message: string): void
}
/** The work tree of an instance, as its supervisor sees it. */
export interface Workspace {
  /**
   * Makes the tree, or finds it again; before the loop is started. Why it cannot, in words that say
   * what to do.
   */
  prepare(): Promise<Problem | undefined>
  /** Looks at it; several calls at once are one more look. Never throws. */
  look(): Promise<void>
  /** Gives up what it prepares, and looks once more, for a few seconds at the most. */
  end(): Promise<void>
  /** What a beat says of it: what it was at the last look, and what is being made. */
  report(): Pick<Beat, "work" | "activity">
}

export function createWorkspace({
  run,
  directory,
  nowMs,
  changed,
  warn,
}: WorkspaceOptions): Workspace {
  const { tree } = run
  const instance = dirname(directory)
  const ended = new AbortController()
  const { signal } = ended
  let work: Work | undefined
  let activity: Beat["activity"]
  let looking: Promise<void> | undefined
  let isDirty = false

  const busy = (summary: string | undefined): void => {
    activity =
      summary === undefined
        ? undefined
        : { tool: "git", summary: oneLine(summary, 120), sinceMs: nowMs() }
    changed()
  }
  const lookOnce = async (): Promise<void> => {
    if (!tree) return
    const { path, own } = tree
    const begun = readLasting(instance, "begun")
    try {
      const now =
        tree.repository === undefined
          ? undefined
          : await measure(path, begun?.base, { trusted: tree.trustedFilters })
      work = { path, own, ...(now?.branch !== undefined && { branch: now.branch }) }
      // Where nobody wrote down at which commit it began, what it brought cannot be counted.
      if (now) work = { ...work, ...(begun && { commits: now.commits }), dirty: now.dirty }
    } catch {
      work = undefined // nothing is known, and nothing else depends on it
    }
    changed()
  }
  const look = async (): Promise<void> => {
    isDirty = true
    looking ??= (async () => {
      while (isDirty) {
        isDirty = false
        await lookOnce()
      }
      looking = undefined
    })()
    await looking
  }

  return {
    async prepare() {
      try {
        if (tree?.own) {
          // A supervisor that was taken for dead may be at it, too.
          const release = await lock(instance, "tree.lock", signal, lockMs)
          await makeTree(tree, instance, busy, signal).finally(release)
        } else if (tree?.repository !== undefined && !readLasting(instance, "begun")) {
          const base = await commitOf(await gitIn(tree.path, {}, signal), ["HEAD"])
          writeLasting(instance, "begun", { ...(base !== undefined && { base }), made: true })
        }
      } catch (error) {
        const fault = asFault(error)
        const message = cut(`${fault.whole} ${fault.next}`, 2000)
        if (tree?.own) return { reason: "WorkTree", message }
        // A shared tree is there whatever git says of it; but the agent's own git will say the
        // same.
        if (!signal.aborted) warn(message)
      } finally {
        busy(undefined)
      }
      void look()
      return undefined
    },
    look,
    async end() {
      ended.abort()
      await Promise.race([look(), sleep(lastLookMs, undefined, { ref: false })])
    },
    report: () => ({ ...(work && { work }), ...(activity && { activity }) }),
  }
}
