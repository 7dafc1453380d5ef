import { readFileSync, writeFileSync } from "node:fs"
import { request } from "node:http"
import { join } from "node:path"
import { describe, expect, it } from "vitest"
import { z } from "zod"
import { type ModelRequest, type Reply, say, use } from "../model/model.ts"
import { eventually, type McpClient, main, makeWorld, type Result, type World } from "./world.ts"

/** Agents as users of the fleet: what they see, and whom the fleet takes them for. */

const runSchema = z.object({ credential: z.string(), place: z.string() })
const runFileOf = (world: World, uid: string) =>
  runSchema.parse(JSON.parse(readFileSync(join(world.runOf(uid), "status/run.json"), "utf8")))
const uidOf = (spawned: Result): string => z.string().parse(spawned.uid)
const phaseOf = async (call: McpClient["call"], name: string): Promise<unknown> =>
  (await call("inspect_instance", { name })).phase

/** A request with a credential over serve's socket, as a supervisor makes it. */
const ask = (
  world: World,
  credential: string,
  path: string,
): Promise<{ status: number; text: string }> =>
  new Promise((resolve, reject) => {
    const call = request(
      {
        socketPath: join(world.state, "serve.sock"),
        path,
        headers: { authorization: `Bearer ${credential}` },
      },
      (response) => {
        let text = ""
        response.setEncoding("utf8")
        response.on("data", (more: string) => {
          text += more
        })
        response.on("end", () => resolve({ status: response.statusCode ?? 0, text }))
      },
    )
    call.on("error", reject)
    call.end()
  })

/** A model for several agents: each is told by its goal, and goes through its steps. */
const cast =
  (steps: Readonly<Record<string, readonly Reply[]>>, results: Map<string, string[]>) =>
  (request: ModelRequest) => {
    const goal = Object.keys(steps).find((one) => request.text.includes(one)) ?? ""
    const seen = results.get(goal) ?? []
    results.set(goal, seen)
    seen.push(...request.toolResults.map(({ text }) => text))
    return steps[goal]?.[seen.length] ?? say("Status: PARTIAL")
  }
const fleet = (tool: string, input: object) => use([{ name: `mcp__blackbox5__${tool}`, input }])
const bash = (command: string) => use([{ name: "Bash", input: { command } }])

describe("an agent with the fleet's tools", () => {
  it("is the instance that it is: it spawns a child of its own, sees its tree alone, writes to the people, from MCP and from the shell", async () => {
    const results = new Map<string, string[]>()
    const cli = `${process.execPath} ${main}`
    await using world = await makeWorld(
      cast(
        {
          "goal of the parent": [
            fleet("fleet_status", {}),
            fleet("spawn_instance", {
              project: "shop",
              name: "child",
              goal: "goal of a helper",
              budget: { usd: 1 },
            }),
            fleet("message_instances", {
              to: ["@operators"],
              text: "I have a helper now.",
              waitSeconds: 0,
            }),
            fleet("inspect_instance", { name: "stranger" }),
            fleet("pause_instances", { names: ["parent"] }),
            bash(`${cli} list-instances --json`),
            bash(`${cli} inspect-instance stranger`),
            bash(
              `BLACKBOX5_URL=http://127.0.0.1:1 BLACKBOX5_STATE=/nowhere ${cli} message-instances --to parent--child --text hello --json`,
            ),
          ],
          "goal of a helper": [
            fleet("pause_instances", { names: ["parent"] }),
            fleet("list_instances", {}),
            fleet("inspect_instance", { name: "parent" }),
          ],
        },
        results,
      ),
    )
    const { call } = await world.connect()
    await call("spawn_instance", { project: "shop", name: "stranger", goal: "goal of nobody" })
    const parent = uidOf(
      await call("spawn_instance", { project: "shop", name: "parent", goal: "goal of the parent" }),
    )
    const said = (who: string, at: number): string => results.get(who)?.[at] ?? ""
    await eventually(
      () =>
        results.get("goal of the parent")?.length === 8 &&
        results.get("goal of a helper")?.length === 3,
      "all steps",
      90,
    )

    const names = z.object({ instances: z.array(z.object({ name: z.string() })) })
    const namesIn = (text: string): string[] =>
      names
        .parse(JSON.parse(text))
        .instances.map(({ name }) => name)
        .toSorted()
    // The tools were there with the first request already, and so were the words for an agent.
    const first = world.model.requests.find(
      ({ main, text }) => main && text.includes("goal of the parent"),
    )
    expect(first?.tools).toContain("mcp__blackbox5__spawn_instance")
    expect(JSON.stringify(first?.body)).toContain("You are parent, a RALF agent")

    // From MCP.
    // Of two that run.
    expect(JSON.parse(said("goal of the parent", 0)).phases).toEqual({ Running: 1 })
    expect(JSON.parse(said("goal of the parent", 1))).toMatchObject({
      name: "parent--child",
      created: true,
    })
    expect(JSON.parse(said("goal of the parent", 2)).receipts).toMatchObject([{ to: "@operators" }])
    expect(said("goal of the parent", 3)).toMatch(/no instance stranger/)
    expect(said("goal of the parent", 4)).toMatch(/change only its descendants/)
    // From its shell: the same one, whatever its environment says besides.
    expect(namesIn(said("goal of the parent", 5))).toEqual(["parent", "parent--child"])
    expect(said("goal of the parent", 6)).toMatch(/no instance stranger/)
    expect(said("goal of the parent", 7)).not.toMatch(/^Exit code/)
    expect(JSON.parse(said("goal of the parent", 7)).receipts).toMatchObject([
      { to: "parent--child" },
    ])
    // Its child.
    expect(said("goal of a helper", 0)).toMatch(/change only its descendants/)
    expect(namesIn(said("goal of a helper", 1))).toEqual(["parent", "parent--child"])
    expect(said("goal of a helper", 2)).toMatch(/see only itself and its descendants/)

    // As the people see it.
    expect(await phaseOf(call, "parent")).not.toBe("Paused")
    const inbox = z
      .object({ messages: z.array(z.object({ from: z.string(), untrusted: z.string() })) })
      .parse(await call("read_messages", {}))
    expect(inbox.messages).toMatchObject([
      { from: "instance parent", untrusted: expect.stringContaining("I have a helper now.") },
    ])
    const below = names
      .parse(await call("list_instances", { parent: "parent" }))
      .instances.map(({ name }) => name)
    expect(below).toEqual(["parent--child"])

    // A credential is worth what its run is: nothing once that is over, and nothing when a new run
    // has taken its place.
    const { credential, place } = runFileOf(world, parent)
    expect((await ask(world, credential, "/v1/instances")).status).toBe(200)
    const forged = `${Buffer.from(JSON.stringify({ name: "stranger", uid: parent, place })).toString("base64url")}.${credential.split(".")[1]}`
    for (const bad of [forged, `${credential}x`, "", "nonsense"])
      expect([bad, (await ask(world, bad, "/v1/instances")).status]).toEqual([bad, 401])
    await call("stop_instances", { names: ["parent"] })
    await eventually(async () => (await phaseOf(call, "parent")) === "Stopped", "stopped")
    const over = await ask(world, credential, "/v1/instances")
    expect(over).toMatchObject({
      status: 401,
      text: expect.stringContaining("a run that has ended"),
    })
    await call("resume_instances", { names: ["parent"] })
    await eventually(async () => (await phaseOf(call, "parent")) === "Running", "runs again")
    expect((await ask(world, credential, "/v1/instances")).status).toBe(401)
    expect((await ask(world, runFileOf(world, parent).credential, "/v1/instances")).status).toBe(
      200,
    )
  }, 180_000)

  it("needs no permission for the fleet's tools, and keeps the servers that its loop names, but for one in the fleet's place", async () => {
    let tools: readonly string[] = []
    const results: string[] = []
    await using world = await makeWorld((request) => {
      tools = request.tools
      results.push(...request.toolResults.map(({ text }) => text))
      return results.length > 0 ? say("<promise>COMPLETE</promise>") : fleet("fleet_status", {})
    })
    const look = { command: process.execPath, args: [join(main, "../../test/mcp-server/look.ts")] }
    writeFileSync(
      join(world.directory, "own.json"),
      JSON.stringify({ mcpServers: { own: look, blackbox5: look } }),
    )
    const script = join(world.directory, "loop.sh")
    writeFileSync(
      script,
      `echo go | claude -p --strict-mcp-config --mcp-config ${join(world.directory, "own.json")}\n`,
    )
    world.policy(`loops:\n  careful: [sh, ${script}]\n`)
    const { call } = await world.connect()
    await call("spawn_instance", { project: "shop", name: "one", loop: "careful" })
    await eventually(() => results.length > 0, "an answer", 90)
    expect(JSON.parse(results[0] ?? "")).toMatchObject({ phases: { Running: 1 } })
    expect(tools).toEqual(
      expect.arrayContaining(["mcp__own__look", "mcp__blackbox5__spawn_instance"]),
    )
    expect(tools).not.toContain("mcp__blackbox5__look")
  }, 120_000)

  it("is answered in the middle of a call when the control plane is killed, and has its tools again behind it", async () => {
    const results: string[] = []
    const waits = fleet("read_events", { kinds: ["Removed"], waitSeconds: 50 })
    let waiting = 0
    let back = ""
    await using world = await makeWorld((request) => {
      results.push(...request.toolResults.map(({ text }) => text))
      if (results.length === 0) waiting ||= performance.now()
      if (results.length < 2)
        return results.length === 0 ? waits : bash(`until [ -e ${back} ]; do sleep 0.1; done`)
      return results.length === 2 ? fleet("fleet_status", {}) : say("<promise>COMPLETE</promise>")
    })
    back = join(world.directory, "back")
    const { call } = await world.connect()
    await call("spawn_instance", { project: "shop", name: "one" })
    await eventually(() => waiting > 0, "its first request")
    const serve = world.servePid()
    await eventually(() => performance.now() - waiting > 2000, "the call has gone out")
    expect(results).toEqual([])
    process.kill(serve, "SIGKILL")
    await eventually(() => results.length > 0, "an answer, long before the call's own end", 30)
    expect(results[0]).toMatch(/broke|does not answer|cannot be reached/)
    await eventually(() => world.servePid() !== serve, "another serve")
    await eventually(async () => (await phaseOf(call, "one")) === "Running", "runs on")
    writeFileSync(back, "")
    await eventually(() => results.length > 2, "the next call")
    expect(JSON.parse(results[2] ?? "")).toMatchObject({ phases: { Running: 1 } })
  }, 180_000)
})
