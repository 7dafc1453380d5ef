import { existsSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { expect, it } from "vitest"
import { z } from "zod"
import { say, use } from "../model/model.ts"
import { eventually, makeWorld, processesOf } from "./world.ts"

const inspected = z.looseObject({ phase: z.string(), why: z.string() })

it("a pause over night uses no time, and the agent is told from when to when it stood still", async () => {
  await using world = await makeWorld(({ toolResults }) => {
    if (existsSync(join(world.directory, "told"))) return say("<promise>COMPLETE</promise>")
    if (toolResults.length > 0) writeFileSync(join(world.directory, "told"), "")
    return use([
      {
        name: "Bash",
        input: { command: `until [ -e ${world.directory}/go ]; do sleep 0.1; done` },
      },
    ])
  })
  const clock = join(world.directory, "clock")
  writeFileSync(clock, "0")
  world.env.SET_CLOCK_FILE = clock
  world.env.NODE_OPTIONS = `--import=${fileURLToPath(new URL("set-clock.mjs", import.meta.url))}`
  const { call } = await world.connect()
  await call("spawn_instance", { project: "shop", name: "one", budget: { hours: 1 } })
  const works = (): boolean =>
    processesOf(world.directory).some(({ command }) => command.includes("until [ -e"))
  await eventually(works, "the command")
  const look = async () => inspected.parse(await call("inspect_instance", { name: "one" }))

  await call("pause_instances", { names: ["one"] })
  await eventually(
    async () => (await look()).why.includes("all its processes are frozen"),
    "it stands still",
  )
  writeFileSync(clock, String(8 * 3_600_000))
  await call("resume_instances", { names: ["one"] })
  const running = await eventually(async () => {
    const now = await look()
    return now.phase === "Running" && now
  }, "it runs again, within its budget of one hour")
  expect(running.why).toMatch(/In iteration 1 for \d+ s/)
  writeFileSync(join(world.directory, "go"), "")
  await eventually(
    () =>
      world.model.requests.some(({ text }) => text.includes("All your processes stood still from")),
    "it is told",
  )
  await eventually(async () => (await look()).phase === "Completed", "it is complete")
}, 180_000)
