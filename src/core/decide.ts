import { type Admission, desiredState, hasFinished, type Instance, type Run } from "./instance.ts"
import type { Observed } from "./ports.ts"

/** One act at a time; what it brings about is observed and brings the next. */
export interface Decision {
  readonly act?: "start" | "stop" | "release" | "clean"
  /** The operator's section as it should read now. */
  readonly run?: Omit<Run, "term">
  readonly afterMs?: number
}

/** 1 s, doubled with each failure, 5 minutes at most. */
export const backoffMs = (failures: number): number =>
  Math.min(300_000, 1000 * 2 ** Math.min(failures, 20))
/** A run that lived this long was no crash loop: the next failure counts from the start. */
const settledMs = 600_000

const admits = (admission: Admission | undefined): boolean => admission?.verdict === "Admitted"

export function decide(
  wanted: Instance | undefined,
  revision: string,
  observed: Observed | undefined,
  nowMs: number,
): Decision {
  const live = observed !== undefined && observed.phase !== "Exited"
  const stop = live && observed.phase !== "Stopping" ? ({ act: "stop" } as const) : {}
  // What the end of an instance left undone.
  if (!wanted) return observed && !live ? { act: "clean" } : stop
  // A name used again: the former bearer goes first.
  if (live && observed.uid !== wanted.uid) return stop
  const before = wanted.status.run
  const seen = observed?.uid === wanted.uid ? observed : undefined
  const sameRevision = before?.revision === revision
  const lastExit = seen?.exit ?? (seen ? undefined : before?.lastExit)
  const run: Omit<Run, "term"> | undefined = seen && {
    phase: seen.phase,
    revision: seen.revision,
    place: seen.place,
    number: seen.number,
    startedAtMs: seen.startedAtMs,
    restarts: before?.revision === seen.revision ? before.restarts : 0,
    ...(seen.loop !== undefined && { loop: seen.loop }),
    ...(lastExit && { lastExit }),
    ...(seen.problem && { problem: seen.problem }),
  }
  const fact = run ? { run } : {}
  if (wanted.deletedAtMs !== undefined)
    return live ? { ...fact, ...stop } : { ...fact, act: "release" }
  const state = desiredState(wanted.spec, nowMs)
  if (live) {
    // Paused and Held keep their place; a queue position does not.
    const unwanted =
      state === "Stopped" ||
      wanted.status.admission?.verdict === "Queued" ||
      observed.revision !== revision
    return unwanted ? { ...fact, ...stop } : fact
  }
  if (
    state !== "Running" ||
    !admits(wanted.status.admission) ||
    hasFinished(
      run ? { ...wanted, status: { ...wanted.status, run: { ...run, term: 0 } } } : wanted,
    )
  )
    return fact
  if (!sameRevision || !lastExit || !run) return { ...fact, act: "start" }
  // Its loop finished: a continuous one, or one whose agent has not said that it is complete.
  const clean = lastExit.code === 0 && run.problem === undefined
  const restarts = clean || lastExit.atMs - run.startedAtMs > settledMs ? 0 : run.restarts
  const waitMs = lastExit.atMs + backoffMs(restarts) - nowMs
  // The clock may have been set back: never wait longer than the back-off itself.
  return waitMs > 0
    ? { ...fact, afterMs: Math.min(waitMs, backoffMs(restarts)) }
    : { act: "start", run: { ...run, restarts: clean ? 0 : restarts + 1 } }
}
