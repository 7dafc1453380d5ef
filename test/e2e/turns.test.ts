import { describe, expect, it } from "vitest"
import { z } from "zod"
import { say, use } from "../model/model.ts"
import { claudesOf, isStopped } from "./iteration-processes.ts"
import { eventually, makeWorld, processesOf, standsStill } from "./world.ts"

const list = z.object({
  instances: z.array(
    z.object({ name: z.string(), phase: z.string(), why: z.string(), iteration: z.number() }),
  ),
})

describe("turns", () => {
  it("never lets more than two of six loops run claude, gives each its turns, and lets paused ones starve nobody", async () => {
    await using world = await makeWorld(
      ({ toolResults }) =>
        toolResults.length === 0
          ? use([{ name: "Bash", input: { command: "sleep 0.1" } }])
          : say("Status: PARTIAL"),
      { policy: "turnsMax: 2\n" },
    )
    const { call } = await world.connect()
    const names = Array.from({ length: 6 }, (_, index) => `shop-${index + 1}`)
    for (const name of names)
      await call("spawn_instance", { project: "shop", name, model: "claude-sonnet-4-5" })

    // Looked at as often as possible, all the while: how many claude processes are not stopped.
    let most = 0
    let watching = true
    const watcher = (async () => {
      while (watching) {
        const all = processesOf(world.directory)
        const running = claudesOf(all).filter((one) => !isStopped(one, all))
        most = Math.max(most, running.length)
        await new Promise((resolve) => setTimeout(resolve, 5))
      }
    })()
    const iterations = async (): Promise<ReadonlyMap<string, number>> =>
      new Map(
        list
          .parse(await call("list_instances"))
          .instances.map(({ name, iteration }) => [name, iteration]),
      )
    const each = (
      counts: ReadonlyMap<string, number>,
      of: readonly string[],
      least: number,
    ): boolean => of.every((name) => (counts.get(name) ?? 0) >= least)

    await eventually(
      async () => each(await iterations(), names, 2),
      "every loop has had two turns",
      90,
    )
    await call("pause_instances", { names: ["shop-1", "shop-2"] })
    const before = await iterations()
    const others = names.slice(2)
    await eventually(
      async () => {
        const now = await iterations()
        return others.every((name) => (now.get(name) ?? 0) >= (before.get(name) ?? 0) + 2)
      },
      "the others go on while two are paused",
      90,
    )
    watching = false
    await watcher
    expect(most).toBe(2)
    const paused = list.parse(await call("list_instances", { phases: ["Paused"] })).instances
    expect(paused.map(({ name }) => name).toSorted()).toEqual(["shop-1", "shop-2"])
    expect(paused.every(({ why }) => why.includes("are frozen"))).toBe(true)
  }, 240_000)

  it("queues an instance that finds no place, says why, and starts it when a place is free", async () => {
    await using world = await makeWorld(() => say("Status: PARTIAL"), {
      policy: "instancesMax: 1\n",
    })
    const { call } = await world.connect()
    await call("spawn_instance", { project: "shop", name: "first" })
    await eventually(
      async () => (await call("inspect_instance", { name: "first" })).phase === "Running",
      "the first runs",
    )
    const second = await call("spawn_instance", { project: "shop", name: "second" })
    expect(["Starting", "Queued"]).toContain(second.phase)
    const queued = await eventually(async () => {
      const seen = await call("inspect_instance", { name: "second" })
      return seen.phase === "Queued" ? seen : undefined
    }, "the second is queued")
    expect(queued.why).toContain("The only place of the fleet is taken.")
    // The policy is read again while everything runs.
    world.policy("instancesMax: 2\n")
    await eventually(
      async () => (await call("inspect_instance", { name: "second" })).phase === "Running",
      "the second runs",
    )
    // An invalid one is refused with its line, and the one before stays.
    world.policy("instancesMax: 2\nturnsMax: many\n")
    const warned = await eventually(async () => {
      const status = await call("fleet_status")
      return JSON.stringify(status).includes("line 2") ? status : undefined
    }, "the refused policy is shown")
    expect(JSON.stringify(warned)).toContain("turnsMax")
    expect(warned.instances).toMatchObject({ max: 2 })
  })
})

describe("the end of an instance", () => {
  it("leaves no process behind, also no background command of the agent, when it is stopped, and nothing at all when it is removed", async () => {
    await using world = await makeWorld(({ toolResults }) =>
      toolResults.length === 0
        ? use([
            {
              name: "Bash",
              input: { command: "sleep 2000 > /dev/null 2>&1 & sleep 1000", timeout: 600_000 },
            },
          ])
        : say("Status: PARTIAL"),
    )
    const { call } = await world.connect()
    const agents = () =>
      processesOf(world.directory).filter(({ command }) => !/main\.js (serve|mcp)/.test(command))
    const busy = () =>
      agents().some(({ command }) => command.startsWith("sleep 2000")) &&
      agents().some(({ command }) => command.startsWith("sleep 1000"))

    const spawned = await call("spawn_instance", { project: "shop", name: "one" })
    await eventually(busy, "the agent's commands")
    await call("stop_instances", { names: ["one"] })
    await eventually(
      async () => (await call("inspect_instance", { name: "one" })).phase === "Stopped",
      "stopped",
    )
    expect(agents()).toEqual([])

    // A stopped one starts again; a paused one is removed as well as a running one.
    await call("resume_instances", { names: ["one"] })
    await eventually(busy, "the agent's commands, again")
    await call("pause_instances", { names: ["one"] })
    await eventually(
      () => agents().every((one) => standsStill(one) || one.command.includes("main.js agent")),
      "frozen",
    )
    await call("stop_instances", { names: ["one"], remove: true })
    await eventually(async () => Number((await call("list_instances")).total) === 0, "removed")
    expect(agents()).toEqual([])

    // A name used again inherits nothing.
    const again = await call("spawn_instance", { project: "shop", name: "one" })
    expect(again.uid).not.toBe(spawned.uid)
    expect((await call("inspect_instance", { name: "one" })).usage).toMatchObject({
      iterations: 0,
      usd: 0,
    })
  })
})
