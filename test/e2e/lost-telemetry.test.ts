import { describe, expect, it } from "vitest"
import { z } from "zod"
import { type ModelRequest, say, use } from "../model/model.ts"
import { eventually, makeWorld, processesOf } from "./world.ts"

const usageSchema = z.object({ tokens: z.number(), usd: z.number(), iterations: z.number() })

/**
 * Three of four requests find no supervisor; one of these is a sub-agent's, whose record is a file
 * of its own.
 */
describe("an iteration whose supervisor dies in the middle of it", () => {
  it("is counted to the last token, once there is a supervisor again", {
    timeout: 120_000,
  }, async () => {
    const unheard = Promise.withResolvers<void>()
    const usage = { input: 100, output: 20, cacheRead: 3000, cacheWrite: 400 }
    const script = async (request: ModelRequest) => {
      if (request.agent !== undefined) return say("a part", { usage: { ...usage, output: 7 } })
      switch (
        request.toolResults.length === 0 ? 0 : model().requests.filter(({ main }) => main).length
      ) {
        case 0:
          return use([{ name: "Bash", input: { command: "true" } }], { usage })
        case 2:
          await unheard.promise
          return use(
            [
              {
                name: "Agent",
                input: { description: "a part", prompt: "do it", subagent_type: "general-purpose" },
              },
            ],
            {
              usage: { ...usage, output: 21 },
            },
          )
        default:
          return say("<promise>COMPLETE</promise>", { usage: { ...usage, output: 22 } })
      }
    }
    await using world = await makeWorld(script)
    const model = () => world.model
    const mcp = await world.connect()
    await mcp.call("spawn_instance", { project: "shop", name: "one", goal: "Write a price list." })
    const usageOf = async () =>
      usageSchema.parse((await mcp.call("inspect_instance", { name: "one" })).usage)
    await model().until(({ main, toolResults }) => main && toolResults.length > 0)
    const counted = await eventually(async () => {
      const used = await usageOf()
      return used.tokens > 0 && used
    }, "telemetry of the first request")
    // Nobody starts another supervisor while serve stands still.
    const serve = world.servePid()
    process.kill(serve, "SIGSTOP")
    const supervisor = processesOf(world.directory).find(({ command }) =>
      command.includes("main.js agent"),
    )
    process.kill(supervisor?.pid ?? 0, "SIGKILL")
    unheard.resolve()
    await eventually(() => model().billed.requests === 4, "the answers to all requests")
    process.kill(serve, "SIGCONT")
    const { input, output, cacheRead, cacheWrite } = model().billed
    const used = await eventually(async () => {
      const now = await usageOf()
      return now.iterations === 1 && now.tokens > counted.tokens && now
    }, "the usage of the whole iteration")
    expect(used.tokens).toBe(input + output + cacheRead + cacheWrite)
    // Every request has the tokens of the first, but for some of the output: so has its price.
    expect(used.usd).toBeGreaterThan(3.9 * counted.usd)
    expect(used.usd).toBeLessThan(4.1 * counted.usd)
  })
})
