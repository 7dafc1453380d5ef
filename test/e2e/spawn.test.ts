import { writeFileSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { describe, expect, it } from "vitest"
import { z } from "zod"
import { say } from "../model/model.ts"
import { eventually, type McpClient, makeWorld, type World } from "./world.ts"

/**
 * A spawn that is cut off: whatever was made of it is whole, and its caller's next call finds it.
 */

const spawnedSchema = z.object({
  name: z.string(),
  uid: z.string(),
  created: z.boolean(),
  why: z.string(),
})
const listSchema = z.object({ instances: z.array(z.object({ name: z.string() })) })
const eventsSchema = z.object({
  events: z.array(z.object({ kind: z.string(), name: z.string().optional() })),
})
const namesOf = async ({ call }: McpClient): Promise<readonly string[]> =>
  listSchema.parse(await call("list_instances")).instances.map(({ name }) => name)
const spawn = async ({ call }: McpClient, input: object) =>
  spawnedSchema.parse(await call("spawn_instance", { project: "shop", goal: "Sell.", ...input }))
const killBefore = (world: World, statement: string): void =>
  writeFileSync(join(world.directory, "kill-at"), statement)
/** Nothing is to run here: what is made waits in a queue. */
const world = async (): Promise<World> => {
  const made = await makeWorld(() => say("unused"), { policy: "instancesMax: 1\n" })
  made.env.KILL_AT_FILE = join(made.directory, "kill-at")
  made.env.NODE_OPTIONS = `--import=${fileURLToPath(new URL("kill-at.mjs", import.meta.url))}`
  return made
}

describe("a spawn whose serve is killed", () => {
  it.each(["INTO instance", "INTO birth", "INTO event"])(
    "before its write %s makes all of an instance or nothing",
    async (statement) => {
      await using here = await world()
      const client = await here.connect()
      expect(await namesOf(client)).toEqual([])
      killBefore(here, statement)
      await expect(spawn(client, { idempotencyKey: "night" })).rejects.toThrow(/broke|reached/)
      const made = await spawn(client, { idempotencyKey: "night" })
      expect(made).toMatchObject({ name: "shop-night", created: statement === "INTO instance" })
      expect(await namesOf(client)).toEqual(["shop-night"])
      const { events } = eventsSchema.parse(
        await client.call("read_events", { name: "shop-night", kinds: ["Spawned"] }),
      )
      expect(events).toHaveLength(1)
    },
    60_000,
  )

  it("is completed by the next serve, without a word of its caller", async () => {
    await using here = await world()
    const client = await here.connect()
    await namesOf(client)
    killBefore(here, "INTO birth")
    await expect(spawn(client, {})).rejects.toThrow(/broke|reached/)
    await eventually(async () => {
      const { events } = eventsSchema.parse(
        await client.call("read_events", { kinds: ["Spawned"] }),
      )
      return events.length === 1
    }, "the birth")
    // Whoever only calls again has a second one, and is told.
    expect(await spawn(client, {})).toMatchObject({
      created: true,
      why: expect.stringContaining("equal call of yours made shop-1"),
    })
    await expect(spawn(client, { name: "shop-1" })).rejects.toThrow(
      /made \d+ s ago by you for this project.*inspect_instance/,
    )
  }, 60_000)
})

describe("a spawn whose caller cancels it", () => {
  it("makes nothing, or something that its next call names", async () => {
    await using here = await world()
    const client = await here.connect()
    await namesOf(client)
    const cancelled = new AbortController()
    const call = client.client.callTool(
      { name: "spawn_instance", arguments: { project: "shop", name: "one" } },
      undefined,
      {
        signal: cancelled.signal,
      },
    )
    cancelled.abort()
    await expect(call).rejects.toThrow()
    await spawn(client, { name: "one" }).then(
      ({ created }) => expect(created).toBe(true),
      (error: unknown) =>
        expect(String(error)).toMatch(/made \d+ s ago by you for this project|is being removed/),
    )
  }, 60_000)
})
