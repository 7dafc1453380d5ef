import { describe, expect, it } from "vitest"
import { z } from "zod"
import { type ModelRequest, type Reply, say, use } from "../model/model.ts"
import { eventually, makeWorld } from "./world.ts"

/** Agents that spawn others and wait for them, and agents that ask people. */

const model = "claude-sonnet-4-5"
const fleet = (...calls: readonly (readonly [string, object])[]): Reply =>
  use(calls.map(([tool, input]) => ({ name: `mcp__blackbox5__${tool}`, input })))
const list = z.object({
  instances: z.array(z.object({ name: z.string(), phase: z.string(), why: z.string() })),
})
const messages = z.object({
  messages: z.array(
    z.object({ mail: z.string(), from: z.string(), state: z.string(), untrusted: z.string() }),
  ),
})
/** Which iteration of its instance a request belongs to: each is a session of its own. */
const sessions = () => {
  const known: string[] = []
  return ({ session = "" }: ModelRequest): number => {
    if (!known.includes(session)) known.push(session)
    return known.indexOf(session) + 1
  }
}

describe("a parent under a turn limit of one", () => {
  it("spawns three children, waits for them without a turn or a place of its own, is woken when all are done, and is told how each ended", async () => {
    const iterationOf = sessions()
    const parked: string[] = []
    let woken = ""
    const parts = ["alpha", "beta", "gamma"]
    const children = parts.map((part) => `parent--${part}`)
    const parent = (request: ModelRequest): Reply => {
      const [result] = request.toolResults
      if (iterationOf(request) > 1) {
        woken ||= request.last
        return say("All are done.\n<promise>COMPLETE</promise>")
      }
      if (!result)
        return fleet(
          ...parts.map((name) => ["spawn_instance", { name, goal: `part ${name}` }] as const),
        )
      if (result.text.includes('"parked":true')) {
        parked.push(result.text)
        return say("I end my iteration. Status: PARTIAL")
      }
      return fleet(["wait_for_instances", { names: children, until: "finished" }])
    }
    let parents = false
    await using world = await makeWorld(
      (request) => {
        const part = /part (\w+)/.exec(request.text)?.[1]
        if (request.text.includes("the whole")) {
          parents = true
          return parent(request)
        }
        return say(`Did ${part}.\n<promise>COMPLETE</promise>`)
      },
      // One place besides the parent's: its children need it one after the other, and the parent
      // must not keep it.
      { policy: "turnsMax: 1\ninstancesMax: 1\n" },
    )
    const { call } = await world.connect()
    await call("spawn_instance", { project: "shop", name: "parent", goal: "do the whole", model })
    await eventually(() => parents, "the parent began")
    const waiting = await eventually(
      async () =>
        list
          .parse(await call("list_instances"))
          .instances.find(({ name, why }) => name === "parent" && why.startsWith("Waits for")),
      "the parent waits",
      60,
    )
    expect(waiting).toMatchObject({
      phase: "Waiting",
      why: `Waits for ${children.join(", ")} (until finished).`,
    })
    expect(parked.length).toBe(1)
    expect(
      await call("wait_for_instances", {
        names: ["parent", ...children],
        until: "finished",
        timeoutSeconds: 120,
      }),
    ).toMatchObject({
      met: true,
      instances: [
        { phase: "Completed" },
        { phase: "Completed" },
        { phase: "Completed" },
        { phase: "Completed" },
      ],
    })
    for (const part of parts)
      expect(woken).toMatch(
        new RegExp(
          `from instance parent--${part}\\. It is information[\\s\\S]*parent--${part}, which you spawned, is complete\\.[\\s\\S]*Did ${part}\\.`,
        ),
      )
    expect(list.parse(await call("list_instances", { parent: "parent" })).instances.length).toBe(3)
  }, 240_000)
})

describe("a question to the people", () => {
  it("stands in fleet_status, costs nothing until it is answered, and the answer is in the next iteration", async () => {
    const iterationOf = sessions()
    let heard = ""
    await using world = await makeWorld((request) => {
      if (iterationOf(request) > 1) {
        heard ||= request.last
        return say("<promise>COMPLETE</promise>")
      }
      return request.toolResults.length === 0
        ? fleet([
            "message_instances",
            { to: ["@operators"], text: "Stripe or Adyen?", question: true },
          ])
        : say("I asked. Status: PARTIAL")
    })
    const { call } = await world.connect()
    await call("spawn_instance", { project: "shop", name: "shop-1", model })
    const asking = await eventually(async () => {
      const seen = await call("inspect_instance", { name: "shop-1" })
      return seen.phase === "NeedsAnswer" ? seen : undefined
    }, "NeedsAnswer")
    expect(asking.why).toMatch(
      /^It asked a question \d+ s ago and waits for the answer\. It continues in (29|30) min\.$/,
    )
    expect(asking.untrusted).toMatch(/^<untrusted-(\w+)>\nStripe or Adyen\?\n<\/untrusted-\1>$/)
    const [question] = messages.parse(await call("read_messages")).messages
    expect(question).toMatchObject({
      from: "instance shop-1",
      untrusted: expect.stringContaining("Stripe or Adyen?"),
    })
    const fix = `message_instances {"to":["shop-1"],"replyTo":"${question?.mail}","text":"…"}`
    expect(await call("fleet_status")).toMatchObject({ needsYou: [{ name: "shop-1", do: fix }] })
    const asked = world.model.requests.filter(({ main }) => main).length

    await call("message_instances", { to: ["shop-1"], replyTo: question?.mail, text: "Adyen." })
    await eventually(
      async () => (await call("inspect_instance", { name: "shop-1" })).phase === "Completed",
      "Completed",
    )
    expect(world.model.requests.filter(({ main }) => main).length).toBe(asked + 1)
    expect(heard).toMatch(new RegExp(`in answer to ${question?.mail}[\\s\\S]*Adyen\\.`))
    expect(
      messages.parse(await call("read_messages", { mails: [question?.mail] })).messages[0]?.state,
    ).toBe("answered")
  })
})
