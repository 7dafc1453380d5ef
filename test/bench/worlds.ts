import { writeFileSync } from "node:fs"
import { join } from "node:path"
import { setTimeout as sleep } from "node:timers/promises"
import { z } from "zod"
import { invokeOver } from "../../src/client/calls.ts"
import { endpointAt, socketUrl } from "../../src/core/endpoint.ts"
import { noProgress } from "../../src/core/tool.ts"
import { tools } from "../../tools/index.ts"
import { eventually, makeWorld, processesOf, type World } from "../e2e/world.ts"
import type { Script } from "../model/model.ts"

/** The worlds that benchmarks measure in: whole users with a warm control plane. */

/** Longer than any call here may take. */
const callMs = 30_000
/** All that were begun and not ended. */
const open = new Set<Promise<World>>()
let closing = false

export interface Fleet extends AsyncDisposable {
  readonly world: World
  /**
   * Calls a tool as the stdio server does, REST over the Unix socket, without the stdio server
   * between. @throws Fault.
   */
  call(tool: string, input?: Record<string, unknown>): Promise<Record<string, unknown>>
}

/** A world whose control plane answers. `before` it starts its state directory can be filled. */
export async function openFleet(
  script: Script,
  before: (state: string, world: World) => unknown = () => {},
): Promise<Fleet> {
  if (closing) throw new Error("the benchmark is ending")
  const making = makeWorld(script)
  open.add(making)
  const world = await making
  const invoke = invokeOver(endpointAt(socketUrl(join(world.state, "serve.sock"))), tools)
  const fleet: Fleet = {
    world,
    call: (tool, input = {}) =>
      invoke(tool, input, { signal: AbortSignal.timeout(callMs), progress: noProgress }),
    async [Symbol.asyncDispose]() {
      await world[Symbol.asyncDispose]()
      open.delete(making)
    },
  }
  try {
    await before(world.state, world)
    // A client starts the control plane, as for any user; it goes on without the client.
    const client = await world.connect()
    await client.call("fleet_status")
    await client.close()
    return fleet
  } catch (error) {
    await fleet[Symbol.asyncDispose]()
    throw error
  }
}

/** Ends what still runs, for a benchmark that is interrupted. */
export const closeAll = async (): Promise<void> => {
  closing = true
  await Promise.allSettled([...open].map(async (making) => (await making)[Symbol.asyncDispose]()))
}

/**
 * The processes of all instances of a world: what is not the control plane, a supervisor or a
 * client.
 */
export const instanceProcesses = ({ directory }: World): ReturnType<typeof processesOf> =>
  processesOf(directory).filter(({ command }) => !/main\.js (serve|agent|mcp)/.test(command))

/**
 * Removes an instance with all its processes, so that the next round finds the world as this one
 * did.
 */
export async function remove({ world, call }: Fleet, name: string): Promise<void> {
  await call("stop_instances", { names: [name], remove: true })
  await eventually(async () => (await call("list_instances")).total === 0, `${name} is removed`)
  await eventually(
    () => processesOf(world.directory).every(({ command }) => !/main\.js agent/.test(command)),
    "its supervisor ended",
  )
  await sleep(50) // what the control plane writes about it afterwards is not the next round's
}

const page = z.object({ total: z.int() })
/** True when every supervisor has told the control plane of itself. */
export const allConnected = async ({ call }: Fleet, of: number): Promise<boolean> =>
  page.parse(await call("list_instances", { phases: ["Running"], limit: 1 })).total === of

/** Loops of that script, without any claude, that have all begun. */
export async function openLoops(
  of: number,
  script: string,
  fill: (state: string) => unknown = () => {},
): Promise<Fleet> {
  const fleet = await openFleet(
    () => {
      throw new Error("these loops run no claude")
    },
    async (state, world) => {
      world.policy(`instancesMax: ${of}\n`)
      writeFileSync(join(world.codeRoot, "2-engine/.autonomous/shell/ralf-loop.sh"), script)
      await fill(state)
    },
  )
  for (let index = 0; index < of; index++)
    await fleet.call("spawn_instance", {
      project: "shop",
      name: `idle-${index}`,
      workspace: "shared",
    })
  await eventually(() => allConnected(fleet, of), `${of} idle instances`, 180)
  return fleet
}
