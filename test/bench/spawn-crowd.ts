import { fillWith } from "./crowd.ts"
import { median, type Part, row } from "./measure.ts"
import { type Fleet, openFleet } from "./worlds.ts"

const crowd = 5000
const warmUps = 20
const rounds = 60
const ratioMax = 2

const silent = (): never => {
  throw new Error("nobody asks the model here")
}

/**
 * The only place is taken, so that what is spawned is queued: nothing is started that would be
 * measured with it.
 */
const openFull = (size: number): Promise<Fleet> =>
  openFleet(silent, async (state, world) => {
    world.policy("instancesMax: 1\n")
    await fillWith(size, state, 1)
  })

async function time({ call }: Fleet): Promise<number> {
  const beganMs = performance.now()
  await call("spawn_instance", { project: "shop", goal: "Write a price list." })
  return performance.now() - beganMs
}

/**
 * One spawn_instance beside thousands that ended long ago; the baseline is the same call in a fleet
 * of one, in turn.
 */
export const spawnCrowdPart: Part = {
  ids: ["fleet.spawn_5000"],
  async measure() {
    await using empty = await openFull(1)
    await using full = await openFull(crowd)
    const alone: number[] = []
    const beside: number[] = []
    for (let round = -warmUps; round < rounds; round++) {
      const [one, other] = [await time(empty), await time(full)]
      if (round < 0) continue
      alone.push(one)
      beside.push(other)
    }
    const value = median(beside)
    const baseline = median(alone)
    return [
      row("fleet.spawn_5000", "ms", value, {
        baseline,
        goal: `<= ${ratioMax}x`,
        holds: value <= ratioMax * baseline,
      }),
    ]
  },
}
