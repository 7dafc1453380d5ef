import { describe, expect, it } from "vitest"
import { z } from "zod"
import { hold, say, use } from "../model/model.ts"
import { eventually, makeWorld } from "./world.ts"

const spawned = z.object({ name: z.string(), uid: z.string() })
const events = z.object({
  events: z.array(
    z.object({
      cursor: z.string(),
      kind: z.string(),
      name: z.string().optional(),
      untrusted: z.string().optional(),
    }),
  ),
  cursor: z.string(),
})
const log = z.object({ lines: z.number(), untrusted: z.string(), cursor: z.string() })

describe("looking back", () => {
  it("follows an agent by its events and its transcript, and tells in the morning what became of it", async () => {
    const gate = Promise.withResolvers<void>()
    await using world = await makeWorld(({ toolResults }) =>
      toolResults.length === 0
        ? use([
            {
              name: "Bash",
              input: { command: "echo the walls are up", description: "Build the house" },
            },
          ])
        : hold(say("The house is built.\n<promise>COMPLETE</promise>"), gate.promise),
    )
    const { call, client } = await world.connect()
    const before = events.parse(await call("read_events", { after: "$" }))
    const { name } = spawned.parse(
      await call("spawn_instance", { project: "shop", goal: "Build.", mode: "once" }),
    )

    // In the middle of the iteration: the loop has printed nothing of it, the transcript has all of
    // it so far.
    const first = await eventually(async () => {
      const page = log.parse(await call("read_logs", { name, source: "transcript" }))
      return page.untrusted.includes("the walls are up") && page
    }, "the transcript of the iteration that runs")
    expect(first.untrusted).toMatch(
      /prompt: (.|\n)*tool Bash: Build the house(.|\n)*result: the walls are up/,
    )
    expect(
      log.parse(await call("read_logs", { name, source: "transcript", grep: "Build the house" }))
        .lines,
    ).toBe(1)

    // A subscription: from the cursor on, waiting until the end came.
    const kinds: string[] = []
    gate.resolve()
    for (let { cursor } = before; !kinds.includes("Exited"); ) {
      const page = events.parse(await call("read_events", { name, after: cursor, waitSeconds: 20 }))
      expect(page.events.length).toBeGreaterThan(0)
      kinds.push(...page.events.map(({ kind }) => kind))
      cursor = page.cursor
    }
    // It may be started before the call that spawned it has said so.
    expect(kinds.slice(0, 2).toSorted()).toEqual(["Spawned", "Started"])
    expect(kinds.slice(2)).toEqual(["IterationStarted", "IterationEnded", "Exited"])
    const rest = log.parse(
      await call("read_logs", { name, source: "transcript", after: first.cursor }),
    )
    expect(rest.untrusted).toContain("claude: The house is built.")
    expect(rest.untrusted).not.toContain("the walls are up")
    expect(
      log.parse(await call("read_logs", { name, source: "transcript", after: rest.cursor })).lines,
    ).toBe(0)

    // A removed one is remembered by its name, over a restart of the control plane, too.
    await call("stop_instances", { names: [name], remove: true })
    const gone = events.parse(
      await call("read_events", { kinds: ["Removed"], after: before.cursor, waitSeconds: 20 }),
    )
    expect(gone.events[0]?.name).toBe(name)
    process.kill(world.servePid(), "SIGKILL")
    const status = await eventually(
      () => call("fleet_status", { since: "1h" }),
      "the control plane is back",
    )
    expect(status.since).toMatchObject({
      completed: [{ name, untrusted: { said: expect.stringContaining("The house is built.") } }],
      failed: [],
    })
    expect(
      events.parse(await call("read_events", { after: before.cursor })).events.length,
    ).toBeGreaterThan(5)

    // Nobody waits for ever: a call that is cancelled ends, and the server goes on.
    const leaving = new AbortController()
    const waiting = client.callTool(
      { name: "read_events", arguments: { after: "$", kinds: ["Warning"], waitSeconds: 50 } },
      undefined,
      { signal: leaving.signal },
    )
    leaving.abort()
    await expect(waiting).rejects.toThrow()
    await expect(call("read_events", { after: "999999999" })).rejects.toThrow(/Invalid cursor/)
    const shell = await world.cli("read-events", "--kinds", "Removed")
    expect(shell.stdout).toContain("Removed")
  }, 120_000)
})
