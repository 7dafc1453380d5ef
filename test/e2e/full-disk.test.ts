import { existsSync, readFileSync, statSync, truncateSync } from "node:fs"
import { join } from "node:path"
import { describe, expect, it } from "vitest"
import { z } from "zod"
import { type ModelRequest, say, use } from "../model/model.ts"
import { smallDisk } from "./small-disk.ts"
import { eventually, type McpClient, makeWorld, processesOf, type World } from "./world.ts"

/** On a full disk agents can be paused, stopped and removed: that is when a person must. */

const atWork = ({ body }: ModelRequest) =>
  body.messages.filter(({ role }) => role === "assistant").length < 2
    ? use([{ name: "Bash", input: { command: "sleep 0.2" } }])
    : say("Status: PARTIAL")
const seenSchema = z.object({ phase: z.string(), why: z.string() })
const inspect = async ({ call }: McpClient, name: string) =>
  seenSchema.parse(await call("inspect_instance", { name }))
const changedSchema = z.object({ changed: z.number(), next: z.string() })
const statusSchema = z.object({ warnings: z.array(z.string()) })
const standsStill = async (client: McpClient, name: string): Promise<boolean> => {
  const { phase, why } = await inspect(client, name)
  return phase === "Paused" && why.includes("are frozen")
}
const total = async ({ call }: McpClient): Promise<number> =>
  Number((await call("list_instances")).total)
const reserveOf = (world: World): number => {
  const path = join(world.state, "reserve")
  return existsSync(path) ? statSync(path).size : 0
}

/** Agents at work, their disk full, and a call that found it so. */
async function fillUnder(
  world: World,
  client: McpClient,
  fill: () => void,
  names: readonly string[],
): Promise<void> {
  for (const name of names)
    await client.call("spawn_instance", { project: "shop", name, workspace: "shared" })
  for (const name of names)
    await eventually(async () => {
      const { usage } = z
        .object({ usage: z.object({ iterations: z.number() }) })
        .parse(await client.call("inspect_instance", { name }))
      return usage.iterations >= 1
    }, `an iteration of ${name}`)
  await eventually(() => reserveOf(world) > 0, "the reserve")
  fill()
  // What still finds room in the database's own files is taken; then it is refused.
  await eventually(
    () =>
      client
        .call("message_instances", { to: ["one"], text: "x".repeat(4000), waitSeconds: 0 })
        .then(
          () => false,
          (error: unknown) => String(error).includes("is full"),
        ),
    "a refusal",
  )
}

describe("a full disk", () => {
  it("keeps nobody from pausing, stopping and removing, and a pause survives a restart of serve on it", async () => {
    using disk = smallDisk()
    await using world = await makeWorld(atWork, { state: disk.directory, env: disk.env })
    const client = await world.connect()
    await fillUnder(world, client, disk.fill, ["one", "two", "three"])

    const paused = changedSchema.parse(await client.call("pause_instances", { all: true }))
    expect(paused.changed).toBe(3)
    for (const name of ["one", "two", "three"])
      await eventually(() => standsStill(client, name), `${name} stands still`)
    const { warnings } = statusSchema.parse(await client.call("fleet_status"))
    expect(warnings[0]).toMatch(
      /^The disk of .* is full since .*paused, stopped and removed.*Make room/,
    )

    process.kill(world.servePid(), "SIGKILL")
    await eventually(() => total(client), "a serve that begins on the full disk")
    // What could not even be written into the reserve was said to hold no longer than serve.
    if (disk.isReal) {
      expect(paused.next).not.toMatch(/restarts/)
      for (const name of ["one", "two", "three"])
        await eventually(() => standsStill(client, name), `${name} still stands still`)
    } else expect(paused.next).toMatch(/holds in memory only, until `blackbox5 serve` restarts/)

    await client.call("stop_instances", { names: ["one"] })
    await client.call("stop_instances", { names: ["two", "three"], remove: true })
    await eventually(async () => (await total(client)) === 1, "two and three are removed")
    await eventually(
      async () => (await inspect(client, "one")).phase === "Stopped",
      "one has ended",
    )
    await client.call("stop_instances", { names: ["one"], remove: true })
    await eventually(async () => (await total(client)) === 0, "all are removed")
    expect(
      processesOf(world.directory).filter(({ command }) => !/main\.js (serve|mcp)/.test(command)),
    ).toEqual([])
    // Each part of the control plane failed many times; the log says it once a minute.
    const lines = readFileSync(join(world.state, "serve.log"), "utf8").split("\n")
    expect(lines.filter((line) => line.includes("is full")).length).toBeLessThanOrEqual(6)

    disk.free()
    await eventually(
      () => client.call("spawn_instance", { project: "shop", name: "four" }).then(() => true),
      "a spawn with room again",
    )
    await eventually(
      async () =>
        !statusSchema
          .parse(await client.call("fleet_status"))
          .warnings.some((one) => one.includes("is full")),
      "no warning",
    )
  }, 300_000)

  it("without a reserve too: then it says that the pause holds until serve restarts, and writes it when there is room", async () => {
    using disk = smallDisk()
    await using world = await makeWorld(atWork, { state: disk.directory, env: disk.env })
    const client = await world.connect()
    const fill = (): void => {
      if (disk.isReal) truncateSync(join(world.state, "reserve"))
      disk.fill()
    }
    await fillUnder(world, client, fill, ["one"])
    // Room in the database's own files may do for one of them.
    const answers: string[] = []
    for (const until of ["1h", "2h", "3h", "4h", "5h", "6h", "7h", "8h"])
      answers.push(
        changedSchema.parse(await client.call("pause_instances", { all: true, until })).next,
      )
    expect(answers.at(-1)).toMatch(
      /The disk is full, so this holds in memory only, until `blackbox5 serve` restarts/,
    )
    await eventually(() => standsStill(client, "one"), "one stands still")
    expect(statusSchema.parse(await client.call("fleet_status")).warnings[0]).toMatch(
      /holds in memory alone/,
    )

    disk.free()
    await eventually(
      async () =>
        !statusSchema
          .parse(await client.call("fleet_status"))
          .warnings.some((one) => one.includes("is full")),
      "no warning",
    )
    process.kill(world.servePid(), "SIGKILL")
    await eventually(() => total(client), "another serve")
    expect((await inspect(client, "one")).why).toMatch(/^Paused.* It resumes by itself in (7|8) ?h/)
    await eventually(() => standsStill(client, "one"), "one still stands still")
  }, 200_000)
})
