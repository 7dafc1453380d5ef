import { readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { expect, it } from "vitest"
import { z } from "zod"
import { type ModelRequest, type Reply, say, use } from "../model/model.ts"
import { eventually, makeWorld, processesOf, standsStill } from "./world.ts"

/**
 * Everything that its port takes, as fast as a program can, over many connections; and connections
 * that say nothing.
 */
const flood = `
import { Agent, request } from "node:http"
import { connect } from "node:net"
import { readFileSync, renameSync, writeFileSync } from "node:fs"
const { BLACKBOX5_AGENT_URL: url, BLACKBOX5_AGENT_TOKEN: token, BLACKBOX5_TURN: turn } = process.env
const stat = readFileSync("/proc/self/stat", "utf8")
const self = { pid: process.pid, startTicks: Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19]) }
const record = (fields) => ({ attributes: Object.entries({ "event.name": "api_request", ...fields }).map(([key, doubleValue]) =>
  ({ key, value: typeof doubleValue === "string" ? { stringValue: doubleValue } : { doubleValue } })) })
const kinds = [
  (n) => ["/hooks", { hook_event_name: "StopFailure", error: n % 2 ? "billing_error" : "authentication_failed", last_assistant_message: "flood " + n }],
  (n) => ["/hooks", { hook_event_name: "PreToolUse", tool_name: "flood " + n, tool_input: { command: "x".repeat(n % 1000) } }],
  (n) => ["/hooks", { hook_event_name: "UserPromptSubmit", transcript_path: "/dev/zero" }],
  (n) => ["/v1/logs", { resourceLogs: [{ scopeLogs: [{ logRecords: [record({ "event.sequence": String(n), cost_usd: 0, input_tokens: 0.5 })] }] }] }],
  (n) => ["/turns/t-" + n, self],
  (n) => ["/turns/t-" + n + "/end", { code: 0, ms: 0 }],
  (n) => ["/turns/x/settings", { n: "y".repeat(n % 5000), n }],
  (n) => ["/v1/instances", { goal: "flooded", dryRun: true }],
  (n) => ["/mcp/none", { n }],
  (n) => ["/hooks", "x".repeat(100_000)],
]
const agent = new Agent({ keepAlive: true, maxSockets: 60 })
let sent = 0
const answers = {}
const one = () => new Promise((resolve) => {
  const n = sent++
  const [path, body] = kinds[n % kinds.length](n)
  const text = JSON.stringify(body)
  const call = request(url + path, { method: "POST", agent, timeout: 300, headers: { authorization: "Bearer " + token, "content-type": "application/json" } }, (response) => {
    answers[response.statusCode] = (answers[response.statusCode] ?? 0) + 1
    response.resume().on("end", resolve).on("error", resolve)
  })
  call.on("timeout", () => call.destroy()).on("error", resolve).end(text)
})
for (let n = 0; n < 100; n++) connect(Number(new URL(url).port), "127.0.0.1").on("error", () => {}).write("POST /hooks HTTP/1.1\\r\\n")
setInterval(() => {
  writeFileSync(process.argv[2] + ".tmp", JSON.stringify({ sent, answers }))
  renameSync(process.argv[2] + ".tmp", process.argv[2])
}, 200)
await Promise.all(Array.from({ length: 60 }, async () => { for (;;) await one() }))
`
const countsSchema = z.object({ sent: z.int(), answers: z.record(z.string(), z.int()) })
const events = z.object({
  events: z.array(z.looseObject({ kind: z.string() })),
  next: z.unknown().optional(),
})

it("an agent that floods its supervisor's port is paused, resumed and stopped as any other, and nobody else notices", async () => {
  let works = 0
  let flooded = 0
  const script = ({ text, toolResults }: ModelRequest): Reply => {
    if (text.includes("The goal of other")) {
      works += 1
      return say("Status: PARTIAL")
    }
    if (toolResults.length > 0) return say("Status: PARTIAL")
    flooded += 1
    const command = `node ${join(world.directory, "flood.mjs")} ${join(world.directory, "counts")}`
    return use([{ name: "Bash", input: { command, timeout: 600_000 } }])
  }
  await using world = await makeWorld(script)
  writeFileSync(join(world.directory, "flood.mjs"), flood)
  const { call } = await world.connect()
  await call("spawn_instance", { project: "shop", name: "flooder", goal: "The goal of flooder." })
  const counts = () =>
    countsSchema.parse(JSON.parse(readFileSync(join(world.directory, "counts"), "utf8")))
  await eventually(() => flooded > 0 && counts().sent > 500, "the flood", 150)
  await call("spawn_instance", { project: "shop", name: "other", goal: "The goal of other." })
  await eventually(() => works >= 2, "the other's iterations")
  const phase = async () => (await call("inspect_instance", { name: "flooder" })).phase
  const floods = () =>
    processesOf(world.directory).filter(({ command }) => command.includes("flood.mjs"))

  await call("pause_instances", { names: ["flooder"] })
  await eventually(async () => (await phase()) === "Paused", "paused")
  expect(floods().length).toBeGreaterThan(0)
  expect(floods().every(standsStill)).toBe(true)
  const before = counts().sent
  await call("resume_instances", { names: ["flooder"] })
  await eventually(() => counts().sent > before + 100, "the flood goes on")
  await call("stop_instances", { names: ["flooder"] })
  await eventually(async () => (await phase()) === "Stopped", "stopped")
  expect(floods()).toEqual([])
  const told = events.parse(
    await call("read_events", { name: "flooder", kinds: ["Warning"], limit: 500 }),
  ).events
  expect(told.length).toBeGreaterThan(0)
  process.stdout.write(`flood: ${JSON.stringify(counts())}; ${told.length} warnings\n`)
}, 240_000)
