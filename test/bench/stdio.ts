import { writeFileSync } from "node:fs"
import { join } from "node:path"
import { setTimeout as sleep } from "node:timers/promises"
import type { World } from "../e2e/world.ts"
import { type Child, startChild } from "./child.ts"
import { greetAndList, initialize, startServer } from "./conversation.ts"
import { median, type Part, row } from "./measure.ts"
import { residentMebibytes } from "./process.ts"
import { openFleet } from "./worlds.ts"

const rounds = 9
const ratioMax = 2.5
const msMax = 120
const memoryRounds = 3
const mebibytesMax = 65
/** What is loaded after the last answer is in memory by then. */
const settleMs = 1500
/**
 * A native server, kubernetes-mcp-server (Go), answers in 76 to 85 ms where this was measured
 * first.
 */
const listMsMax = 80

const silent = (): never => {
  throw new Error("nobody asks the model here")
}

/**
 * A script without imports that gives this answer to whatever it is asked: the least that node can
 * do.
 */
function writeBare(world: World, answer: string): () => Child {
  const path = join(world.directory, "bare.cjs")
  writeFileSync(
    path,
    `process.stdin.on("data", () => process.stdout.write(${JSON.stringify(`${answer}\n`)}))\n`,
  )
  return () => startChild(process.execPath, [path], world.env)
}

/** From just before the process is made to its answer to `initialize`. */
async function timeToAnswer(start: () => Child): Promise<number> {
  const beganMs = performance.now()
  await using child = start()
  await child.ask(initialize)
  return performance.now() - beganMs
}

/**
 * A first run whose answer the bare script repeats; it also fills the compile cache, as the first
 * use of an installation does.
 */
async function warmUp(world: World): Promise<() => Child> {
  {
    await using first = startServer(world.env)
    await greetAndList(first)
  }
  await using second = startServer(world.env)
  return writeBare(world, await second.ask(initialize))
}

/**
 * Medians of what our server takes and of what a bare script takes to answer, in turn: the
 * machine's pace drifts.
 */
async function besideBare(
  world: World,
  time: (env: World["env"]) => Promise<number>,
): Promise<{ readonly value: number; readonly baseline: number }> {
  const bare = await warmUp(world)
  await timeToAnswer(bare)
  const ours: number[] = []
  const plain: number[] = []
  for (let round = 0; round < rounds; round++) {
    ours.push(await time(world.env))
    plain.push(await timeToAnswer(bare))
  }
  return { value: median(ours), baseline: median(plain) }
}

const initializePart: Part = {
  ids: ["stdio.initialize"],
  async measure() {
    await using fleet = await openFleet(silent)
    const { value, baseline } = await besideBare(fleet.world, (env) =>
      timeToAnswer(() => startServer(env)),
    )
    const holds = value <= ratioMax * baseline && value <= msMax
    return [
      row("stdio.initialize", "ms", value, {
        baseline,
        goal: `<= ${ratioMax}x and <= ${msMax} ms`,
        holds,
      }),
    ]
  },
}

/**
 * From just before the process is made until its tools are known: what a client with `alwaysLoad`
 * waits for.
 */
async function timeToList(env: Record<string, string>): Promise<number> {
  const beganMs = performance.now()
  await using child = startServer(env)
  await greetAndList(child)
  return performance.now() - beganMs
}

const listPart: Part = {
  ids: ["stdio.list"],
  async measure() {
    await using fleet = await openFleet(silent)
    const { value, baseline } = await besideBare(fleet.world, timeToList)
    return [
      row("stdio.list", "ms", value, {
        baseline,
        goal: `<= ${listMsMax} ms`,
        holds: value <= listMsMax,
      }),
    ]
  },
}

/** The larger of at once and a while later. */
async function memoryAfter(
  child: Child,
  speak: (child: Child) => Promise<unknown>,
): Promise<number> {
  await speak(child)
  const atOnce = residentMebibytes(child.pid)
  await sleep(settleMs)
  return Math.max(atOnce, residentMebibytes(child.pid))
}

/**
 * After `initialize` and `tools/list` were answered, with a control plane there; the baseline is
 * node with the bare script.
 */
const rssPart: Part = {
  ids: ["stdio.rss"],
  async measure() {
    await using fleet = await openFleet(silent)
    const bare = await warmUp(fleet.world)
    const ours: number[] = []
    const plain: number[] = []
    for (let round = 0; round < memoryRounds; round++) {
      await using server = startServer(fleet.world.env)
      ours.push(await memoryAfter(server, greetAndList))
      await using other = bare()
      plain.push(await memoryAfter(other, (child) => child.ask(initialize)))
    }
    const value = median(ours)
    return [
      row("stdio.rss", "MiB", value, {
        baseline: median(plain),
        goal: `<= ${mebibytesMax} MiB`,
        holds: value <= mebibytesMax,
      }),
    ]
  },
}

export const stdioParts: readonly Part[] = [initializePart, listPart, rssPart]
