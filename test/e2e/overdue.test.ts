import { expect, it } from "vitest"
import { z } from "zod"
import { hold, say, use } from "../model/model.ts"
import { eventually, makeWorld, processesOf } from "./world.ts"

const events = z.object({ events: z.array(z.looseObject({ kind: z.string() })) })

it("an iteration whose model never answers is ended when the policy says so, also a policy of later, and the loop goes on", async () => {
  const never = new Promise<never>(() => {})
  let asked = 0
  await using world = await makeWorld(({ toolResults }) => {
    if (toolResults.length > 0) {
      asked += 1
      return asked === 1 ? hold(say("too late"), never) : hold(say("Status: PARTIAL"), never)
    }
    return use([{ name: "Bash", input: { command: "setsid -f sleep 1000 > /dev/null 2>&1" } }])
  })
  const { call } = await world.connect()
  await call("spawn_instance", { project: "shop", name: "one" })
  await eventually(() => asked === 1, "the model is asked for what it never says")
  const left = (): readonly number[] =>
    processesOf(world.directory).flatMap(({ pid, command }) =>
      command.startsWith("sleep 1000") ? [pid] : [],
    )
  const [sleeper] = left()
  expect(sleeper).toBeDefined()

  world.policy("iterationMinutesMax: 0.1\n")
  const said = await eventually(async () => {
    const all = events.parse(await call("read_events", { name: "one", limit: 50 })).events
    return (
      all.some(({ kind }) => kind === "IterationEnded") && all.map((event) => JSON.stringify(event))
    )
  }, "the iteration ended")
  expect(said).toContainEqual(
    expect.stringMatching(/Iteration 1: The iteration ran for 0\.1 min and was ended/),
  )
  expect(said).toContainEqual(
    expect.stringMatching(/Iteration 1 ended after \d+ s: FAILED, .*iterationMinutesMax/),
  )
  expect(left()).not.toContain(sleeper)
  world.policy("{}\n") // on a busy machine the next one may need longer than that
  await eventually(() => asked > 1, "the next iteration")
}, 120_000)
