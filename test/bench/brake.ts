import { setTimeout as sleep } from "node:timers/promises"
import { eventually } from "../e2e/world.ts"
import { fillWith } from "./crowd.ts"
import { median, type Part, row } from "./measure.ts"
import { timePause } from "./pause.ts"
import { instanceProcesses, openLoops } from "./worlds.ts"

/** What is done to a whole fleet at once. */

/** A loop with a command in the background and one that forks now and then. */
const loopScript =
  "#!/usr/bin/env bash\nsleep 100000 > /dev/null 2>&1 &\nwhile :; do sleep 1; done\n"

const paused = 100
const pauseRounds = 5
const pauseMsMax = 500

/** Until the last process of a hundred agents stands still; the baseline is the same of ten. */
async function pauseMs(of: number): Promise<number> {
  await using fleet = await openLoops(of, loopScript)
  const ms: number[] = []
  for (let round = 0; round < pauseRounds; round++) {
    await sleep(1000)
    ms.push(await timePause(fleet, { project: "shop", expect: of }))
    await fleet.call("resume_instances", { project: "shop", expect: of })
    await eventually(
      () => instanceProcesses(fleet.world).every(({ state }) => state !== "T"),
      "all go on",
    )
  }
  return median(ms)
}
export const brakePart: Part = {
  ids: ["fleet.pause_100"],
  async measure() {
    const baseline = await pauseMs(10)
    const ms = await pauseMs(paused)
    return [
      row("fleet.pause_100", "ms", ms, {
        baseline,
        goal: `<= ${pauseMsMax} ms`,
        holds: ms <= pauseMsMax,
      }),
    ]
  },
}

const running = 50
const never = 1000
const removeMsMax = 3000

/**
 * From the call that removes everything until no process is left of those that run; `others` of
 * them never ran.
 */
async function removeMs(others: number): Promise<number> {
  await using fleet = await openLoops(running, loopScript, (state) => fillWith(others, state))
  await sleep(1000)
  const callMs = performance.now()
  const called = fleet.call("stop_instances", { all: true, remove: true, expect: running + others })
  called.catch(() => {}) // told below, where it is awaited
  await eventually(() => instanceProcesses(fleet.world).length === 0, "no process is left")
  const ms = performance.now() - callMs
  await called
  return ms
}
export const removePart: Part = {
  ids: ["fleet.remove_1000"],
  async measure() {
    const baseline = await removeMs(0)
    const ms = await removeMs(never)
    return [
      row("fleet.remove_1000", "ms", ms, {
        baseline,
        goal: `<= ${removeMsMax} ms`,
        holds: ms <= removeMsMax,
      }),
    ]
  },
}
