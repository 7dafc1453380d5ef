import { readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { z } from "zod"
import { eventually, type World } from "../e2e/world.ts"
import { startChild } from "./child.ts"
import { median, type Part, row } from "./measure.ts"
import { openFleet, remove } from "./worlds.ts"

const rounds = 9
const extraMsMax = 400

/**
 * The first thing it does is to print the moment, from bash itself: to start `date` would take a
 * while. Then it stands for a long iteration.
 */
const loopScript = `#!/usr/bin/env bash
echo "began $EPOCHREALTIME"
exec sleep 1000
`
const nowMs = (): number => performance.timeOrigin + performance.now()
/** @throws unless a line of the script's is in the text. */
function beganAtMs(text: string): number {
  const [, seconds] = /\bbegan (\d+[.,]\d+)/.exec(text) ?? [] // the comma of some locales
  if (seconds === undefined) throw new Error("the loop has not printed its line")
  return Number(seconds.replace(",", ".")) * 1000
}

/** The same script by bash directly, its output into a pipe. */
async function timeDirectly(world: World, script: string): Promise<number> {
  const callMs = nowMs()
  await using child = startChild("bash", [script, world.projectOf("shop")], world.env)
  const line = await child.ask()
  child.kill()
  return beganAtMs(line) - callMs
}

/**
 * From the call of spawn_instance, over a warm control plane, to the first line of the loop's
 * script. The line carries its own moment, and counts only when it stands in the run's log; so how
 * the log is watched does not blur the figure.
 */
export const spawnPart: Part = {
  ids: ["fleet.spawn"],
  async measure() {
    await using fleet = await openFleet(() => {
      throw new Error("this loop runs no claude")
    })
    const { world, call } = fleet
    const script = join(world.codeRoot, "2-engine/.autonomous/shell/ralf-loop.sh")
    writeFileSync(script, loopScript)

    const time = async (): Promise<number> => {
      const callMs = nowMs()
      const { name, uid } = z
        .object({ name: z.string(), uid: z.string() })
        .parse(await call("spawn_instance", { project: "shop" }))
      const began = await eventually(
        () => beganAtMs(readFileSync(join(world.runOf(uid), "log"), "utf8")),
        "the loop's first line",
      )
      await remove(fleet, name)
      return began - callMs
    }
    await time()
    await timeDirectly(world, script)
    const ours: number[] = []
    const direct: number[] = []
    for (let round = 0; round < rounds; round++) {
      ours.push(await time())
      direct.push(await timeDirectly(world, script))
    }
    const value = median(ours)
    const baseline = median(direct)
    return [
      row("fleet.spawn", "ms", value, {
        baseline,
        goal: `<= ${extraMsMax} ms more`,
        holds: value - baseline <= extraMsMax,
      }),
    ]
  },
}
