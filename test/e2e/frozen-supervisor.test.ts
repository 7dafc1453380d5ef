import { readFileSync } from "node:fs"
import { join } from "node:path"
import { expect, it } from "vitest"
import { z } from "zod"
import { settingsFor } from "../../src/agent/settings.ts"
import { type ModelRequest, type Reply, say, use } from "../model/model.ts"
import { eventually, makeWorld, type World } from "./world.ts"

const supervisorSchema = z.object({ pid: z.number() })
const hooksSchema = z.record(
  z.string(),
  z.array(z.object({ hooks: z.array(z.object({ timeout: z.number() })) })),
)
const fleet = (tool: string): Reply => use([{ name: `mcp__blackbox5__${tool}`, input: {} }])
const bash = (command: string): Reply => use([{ name: "Bash", input: { command } }])

it("a supervisor that stands still costs a tool call of claude two seconds at most", () => {
  const hooks = hooksSchema.parse(settingsFor({ port: 1, token: "t" }).hooks)
  const secondsOf = (event: string): number =>
    Math.max(...(hooks[event] ?? []).flatMap((one) => one.hooks.map(({ timeout }) => timeout)))
  for (const after of ["PostToolUse", "PostToolUseFailure"])
    expect(
      secondsOf("PreToolUse") + secondsOf(after) + secondsOf("PostToolBatch"),
    ).toBeLessThanOrEqual(2)
})

it("a supervisor that stands still neither ends its agent's iteration nor does later what the agent gave up", async () => {
  const results: string[] = []
  let world: World | undefined
  let uid: string | undefined
  const signal = (name: "SIGSTOP" | "SIGCONT"): void => {
    if (!world || uid === undefined) throw new Error("asked before it was spawned")
    const text = readFileSync(join(world.runOf(uid), "status/supervisor.json"), "utf8")
    process.kill(supervisorSchema.parse(JSON.parse(text)).pid, name)
  }
  const steps: readonly (() => Reply)[] = [
    () => bash("echo works"),
    () => {
      signal("SIGSTOP")
      return bash("echo goes on")
    },
    () =>
      use([
        {
          name: "mcp__blackbox5__message_instances",
          input: { to: ["@operators"], text: "Given up." },
        },
      ]),
    () => {
      signal("SIGCONT")
      return fleet("fleet_status")
    },
  ]
  const script = ({ body, toolResults }: ModelRequest): Reply => {
    const step = body.messages.filter(({ role }) => role === "assistant").length
    if (step > results.length) results.push(toolResults.map(({ text }) => text).join("\n"))
    return uid === undefined
      ? bash("sleep 0.1")
      : (steps[results.length]?.() ?? say("Status: PARTIAL"))
  }
  await using here = await makeWorld(script)
  world = here
  const client = await here.connect()
  uid = z
    .string()
    .parse((await client.call("spawn_instance", { project: "shop", name: "one" })).uid)
  await eventually(() => results.length >= steps.length, "all its steps", 60)
  expect(results[1]).toContain("goes on")
  expect(results[2]).toMatch(
    /supervisor of this instance did not answer within 2 s; nothing was sent/,
  )
  expect(results[3]).toContain("headline")
  expect(await client.call("read_messages", {})).toMatchObject({ messages: [] })
}, 120_000)
