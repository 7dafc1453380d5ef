import { setTimeout as sleep } from "node:timers/promises"
import type { Problem } from "../core/instance.ts"
import { endProcesses } from "../host/process-signals.ts"
import { writePressing } from "../host/reserve.ts"
import { graceSeconds } from "./launch.ts"
import type { Output } from "./output.ts"
import { nowMs, type RunParts } from "./run-parts.ts"
import type { RunExit } from "./run-state.ts"
import { removeSockets } from "./sockets.ts"
import type { SupervisedRun } from "./supervised-run.ts"

/**
 * What the last beats, receipts and events may take at the end; a gateway that is away is started
 * again within this.
 */
const flushMs = 20_000
/**
 * A transcript is a local file of some megabytes; a file system that hangs may not keep a run from
 * its end.
 */
const reconcileMs = 5000
const retryMs = 500

/** Ends every process of the run, then says and writes how it ended. */
export async function endRun(
  { directory, marker, self, search }: SupervisedRun,
  parts: RunParts,
  output: Output | undefined,
  exit: RunExit,
  problem: Problem | undefined,
): Promise<void> {
  const { iterations, files, activity, workspace, link } = parts
  await endProcesses(marker, self, graceSeconds, search)
  const turn = iterations.turn()
  if (turn) parts.iterationEnded(turn.id, exit.code)
  files.clear()
  removeSockets(directory)
  await output?.finish()
  activity.set(undefined)
  iterations.look()
  await workspace.end()
  await Promise.race([iterations.reconcile(), sleep(reconcileMs, undefined, { ref: false })])
  link.beat()
  await link.flushed(AbortSignal.timeout(flushMs))
  const last = { exit: { ...exit, atMs: nowMs() }, ...(problem && { problem }) }
  // A removal, which makes room, waits for this.
  while (!writePressing(directory.stateDirectory, () => directory.set("exit", last)))
    await sleep(retryMs)
}
