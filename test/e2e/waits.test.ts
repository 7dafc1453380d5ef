import { readFileSync } from "node:fs"
import { describe, expect, it } from "vitest"
import { z } from "zod"
import { say, use } from "../model/model.ts"
import { eventually, makeWorld } from "./world.ts"

/** What holds an instance between two iterations, and what lets it go on. */

const model = "claude-sonnet-4-5"
const spawned = z.object({ uid: z.string() })

describe("an iteration that ends as blocked", () => {
  it("costs nothing more until somebody answers, not even when its supervisor dies; the answer is in the next iteration", async () => {
    await using world = await makeWorld(({ last }) =>
      last.includes("the key is 42")
        ? say("<promise>COMPLETE</promise>")
        : say("I have no key.\nStatus: BLOCKED"),
    )
    const { call } = await world.connect()
    const { uid } = spawned.parse(
      await call("spawn_instance", { project: "shop", name: "shop-1", model }),
    )
    const inspect = (): Promise<{ [key: string]: unknown }> =>
      call("inspect_instance", { name: "shop-1" })
    const blocked = await eventually(async () => {
      const seen = await inspect()
      return seen.phase === "Blocked" ? seen : undefined
    }, "Blocked")
    expect(blocked.why).toMatch(
      /^Its last iteration ended with status BLOCKED\. It continues in (29|30) min/,
    )
    expect(blocked.untrusted).toContain("I have no key")
    expect(blocked.fix).toContain('message_instances {"to":["shop-1"]')
    expect(await call("fleet_status")).toMatchObject({
      needsYou: [{ name: "shop-1", why: blocked.why, do: blocked.fix }],
    })

    // Its loop asks for the next turn and does not get it; a supervisor that is killed leaves a
    // successor that knows why.
    const asked = world.model.requests.filter(({ main }) => main).length
    const supervisor = (): number =>
      z
        .object({ pid: z.number() })
        .parse(JSON.parse(readFileSync(`${world.runOf(uid)}/status/supervisor.json`, "utf8"))).pid
    const pid = supervisor()
    process.kill(pid, "SIGKILL")
    await eventually(() => supervisor() !== pid, "a new supervisor")
    const answer = { receipts: [{ to: "shop-1", state: "queued" }] }
    await eventually(async () => (await inspect()).phase === "Blocked", "Blocked as before")
    expect(world.model.requests.filter(({ main }) => main).length).toBe(asked)

    expect(
      await call("message_instances", { to: ["shop-1"], text: "the key is 42" }),
    ).toMatchObject(answer)
    await eventually(async () => (await inspect()).phase === "Completed", "Completed")
    const iterations = z.object({ iterations: z.number() }).parse((await inspect()).usage)
    expect(iterations.iterations).toBe(2)
  })

  it("goes on with a new goal, and with a resume, which starts it afresh", async () => {
    // A project for each: the loops of one project would read one another's markers from its log.
    await using world = await makeWorld(
      ({ text }) =>
        text.includes("something else")
          ? say("<promise>COMPLETE</promise>")
          : say("Status: BLOCKED"),
      { projects: ["changed", "resumed"] },
    )
    const { call } = await world.connect()
    for (const name of ["changed", "resumed"])
      await call("spawn_instance", { project: name, name, model, goal: "The first." })
    const phaseOf = async (name: string): Promise<unknown> =>
      (await call("inspect_instance", { name })).phase
    for (const name of ["changed", "resumed"])
      await eventually(async () => (await phaseOf(name)) === "Blocked", `${name} is blocked`)
    expect(
      await call("update_instance", { name: "changed", goal: "Do something else." }),
    ).toMatchObject({ changed: ["goal"] })
    await eventually(
      async () => (await phaseOf("changed")) === "Completed",
      "the changed one is complete",
    )
    const before = world.model.requests.filter(({ main }) => main).length
    expect(await call("resume_instances", { names: ["resumed"] })).toMatchObject({ changed: 1 })
    await eventually(
      () => world.model.requests.filter(({ main }) => main).length === before + 1,
      "one more iteration",
    )
    await eventually(async () => (await phaseOf("resumed")) === "Blocked", "blocked again")
  })
})

describe("a standing order", () => {
  it("holds for every later iteration, until it is taken away", async () => {
    await using world = await makeWorld(() => say("Status: PARTIAL"))
    const { call } = await world.connect()
    await call("spawn_instance", { project: "shop", name: "shop-1", model })
    await world.model.until(({ main }) => main)
    const sent = z.object({ receipts: z.array(z.object({ note: z.string() })) }).parse(
      await call("message_instances", {
        to: ["shop-1"],
        text: "Never use moment.js.",
        standing: true,
        waitSeconds: 0,
      }),
    )
    const order = /standing order (o-\S+)\.$/.exec(sent.receipts[0]?.note ?? "")?.[1]
    expect(order).toBeDefined()
    const heard = () =>
      world.model.requests.filter(
        ({ text }) => text.includes("Standing orders") && text.includes("- Never use moment.js."),
      )
    await eventually(
      () => new Set(heard().map(({ session }) => session)).size >= 3,
      "three iterations that were told",
    )
    expect(await call("update_instance", { name: "shop-1", removeOrders: [order] })).toMatchObject({
      changed: ["orders"],
      orders: [],
    })
    await eventually(
      () =>
        world.model.requests
          .filter(({ main }) => main)
          .slice(-2)
          .every(({ text }) => !text.includes("moment.js")),
      "iterations without it",
    )
    await expect(
      call("message_instances", { to: ["shop-1"], text: "x".repeat(501), standing: true }),
    ).rejects.toThrow(/500 bytes/)
  })
})

describe("a budget that is reached", () => {
  it("is met by a larger one, and the instance goes on by itself", async () => {
    await using world = await makeWorld(() => say("Status: PARTIAL"))
    const { call } = await world.connect()
    await call("spawn_instance", {
      project: "shop",
      name: "shop-1",
      model,
      budget: { iterations: 2 },
    })
    const seen = await eventually(async () => {
      const now = await call("inspect_instance", { name: "shop-1" })
      return now.phase === "BudgetReached" ? now : undefined
    }, "BudgetReached")
    expect(seen.fix).toContain('update_instance {"name":"shop-1"')
    expect(
      await call("update_instance", { name: "shop-1", budget: { iterations: 4 } }),
    ).toMatchObject({
      budget: { iterations: 4 },
    })
    const wait = { names: ["shop-1"], until: "iteration", iteration: 4, timeoutSeconds: 60 }
    expect(await call("wait_for_instances", wait)).toMatchObject({ met: true })
  })

  it("stops an iteration in its middle, which goes on with a larger one, and the words follow the budget", async () => {
    await using world = await makeWorld(({ toolResults }) =>
      toolResults.length === 0
        ? use([{ name: "Bash", input: { command: "sleep 3" } }])
        : say("<promise>COMPLETE</promise>"),
    )
    const { call } = await world.connect()
    await call("spawn_instance", {
      project: "shop",
      name: "shop-1",
      model,
      budget: { usd: 0.0001 },
    })
    const heldBy = (limit: string) =>
      eventually(async () => {
        const { phase, why } = await call("inspect_instance", { name: "shop-1" })
        return (
          phase === "BudgetReached" && String(why).includes(`of $${limit} are spent`) && String(why)
        )
      }, `BudgetReached at ${limit}`)
    const amounts = /\$([\d.]+) of \$([\d.]+) are spent/.exec(await heldBy("0.0001"))
    expect(Number(amounts?.[1])).toBeGreaterThan(0.0001)
    await call("update_instance", { name: "shop-1", budget: { usd: 0.0002 } })
    await heldBy("0.0002")
    await call("update_instance", { name: "shop-1", budget: { usd: 50, hours: 1 } })
    expect(
      await call("wait_for_instances", {
        names: ["shop-1"],
        until: "finished",
        timeoutSeconds: 60,
      }),
    ).toMatchObject({
      met: true,
    })
    expect((await call("inspect_instance", { name: "shop-1" })).usage).toMatchObject({
      iterations: 1,
    })
  })
})

describe("wait_for_instances", () => {
  it("tells progress, ends as a result, misses no iteration between two calls, and can be cancelled", async () => {
    await using world = await makeWorld(() => say("Status: PARTIAL"))
    const { call, client } = await world.connect()
    await call("spawn_instance", { project: "shop", name: "shop-1", model })
    const first = await call("wait_for_instances", {
      names: ["shop-1"],
      until: "finished",
      timeoutSeconds: 0,
    })
    expect(first).toMatchObject({ met: false, next: expect.stringMatching(/call it again/i) })
    const progress: string[] = []
    const { structuredContent } = await client.callTool(
      {
        name: "wait_for_instances",
        arguments: { names: ["shop-1"], until: "iteration", timeoutSeconds: 60 },
      },
      undefined,
      { onprogress: ({ message }) => void progress.push(message ?? "") },
    )
    expect(structuredContent).toMatchObject({ met: true })
    expect(progress.some((message) => /^shop-1: (Starting|Running|Unknown)/.test(message))).toBe(
      true,
    )
    const later = z.object({ cursor: z.string() }).parse(
      await call("wait_for_instances", {
        names: ["shop-1"],
        until: "iteration",
        iteration: 1000,
        timeoutSeconds: 0,
      }),
    )
    expect(later.cursor).toBe("1000")
    const stop = new AbortController()
    const waiting = client.callTool(
      {
        name: "wait_for_instances",
        arguments: { names: ["shop-1"], until: "finished", timeoutSeconds: 600 },
      },
      undefined,
      { signal: stop.signal, onprogress: () => stop.abort("enough") },
    )
    await expect(waiting).rejects.toThrow(/enough/)
    await call("stop_instances", { names: ["shop-1"] })
    expect(
      await call("wait_for_instances", { names: ["shop-1"], until: "finished" }),
    ).toMatchObject({ met: true })
  })
})
