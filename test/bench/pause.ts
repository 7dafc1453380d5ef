import { readFileSync } from "node:fs"
import { setImmediate as turn } from "node:timers/promises"
import { eventually } from "../e2e/world.ts"
import { say, use } from "../model/model.ts"
import { type Part, quantile, row } from "./measure.ts"
import { type Fleet, instanceProcesses, openFleet } from "./worlds.ts"

const warmUps = 2
/** As many as a p99 needs to be more than the worst that happened. */
const rounds = 100
const p99MsMax = 100
const frozenMs = 10_000
const name = "one"

/**
 * A shell command that forks all the while, as a build does, and one in the background that
 * outlives it.
 */
const command = "sleep 1000 > /dev/null 2>&1 & while :; do sleep 0.02; done"

/** Stopped, or gone. */
function still(pid: number): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "latin1")
    return /^[TtZX]/.test(stat.slice(stat.lastIndexOf(")") + 2))
  } catch {
    return true
  }
}

/**
 * From the start of the call until every process of all instances is stopped. Those known before
 * are looked at without a pause; when all are still, a search of /proc must find no other that
 * moves. The moment before that search counts, or the one after it if it found processes that were
 * not known before.
 */
export async function timePause(
  { world, call }: Fleet,
  which: Record<string, unknown>,
): Promise<number> {
  let known = instanceProcesses(world).map(({ pid }) => pid)
  const callMs = performance.now()
  const called = call("pause_instances", which)
  called.catch(() => {}) // told below, where it is awaited
  for (;;) {
    for (const pid of known)
      while (!still(pid)) {
        if (performance.now() - callMs > frozenMs)
          throw new Error(`not everything stood still after ${frozenMs} ms`)
        await turn() // the call is made by this process, too
      }
    const ms = performance.now() - callMs
    const found = instanceProcesses(world)
    const searchedMs = performance.now() - callMs
    if (found.length === 0) throw new Error("nothing of the instance is left")
    if (found.every(({ state }) => state === "T")) {
      await called
      return found.every(({ pid }) => known.includes(pid)) ? ms : searchedMs
    }
    known = found.map(({ pid }) => pid)
    if (performance.now() - callMs > frozenMs)
      throw new Error("the instance always has a process that moves")
  }
}

/** Lets the instance go on; resolves when nothing of it is stopped any more. */
async function resume({ world, call }: Fleet): Promise<void> {
  await call("resume_instances", { names: [name] })
  await eventually(
    () => instanceProcesses(world).every(({ state }) => state !== "T"),
    "the instance goes on",
  )
}

export const pausePart: Part = {
  ids: ["fleet.pause.p50", "fleet.pause.p99"],
  async measure() {
    await using fleet = await openFleet(({ toolResults }) =>
      toolResults.length === 0
        ? use([{ name: "Bash", input: { command, description: "Work", timeout: 600_000 } }])
        : say("Status: PARTIAL"),
    )
    await fleet.call("spawn_instance", { project: "shop", name })
    await eventually(() => {
      const commands = instanceProcesses(fleet.world).map((one) => one.command)
      return ["sleep 1000", "sleep 0.02"].every((part) =>
        commands.some((one) => one.startsWith(part)),
      )
    }, "the agent's commands")
    const ms: number[] = []
    for (let round = -warmUps; round < rounds; round++) {
      const one = await timePause(fleet, { names: [name] })
      if (round >= 0) ms.push(one)
      await resume(fleet)
    }
    const p99 = quantile(ms, 0.99)
    return [
      row("fleet.pause.p50", "ms", quantile(ms, 0.5)),
      row("fleet.pause.p99", "ms", p99, { goal: `<= ${p99MsMax} ms`, holds: p99 <= p99MsMax }),
    ]
  },
}
