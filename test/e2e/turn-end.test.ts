import { readFileSync, readlinkSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { expect, it } from "vitest"
import { z } from "zod"
import { hold, type ModelRequest, type Reply, say, use } from "../model/model.ts"
import { people } from "./person.ts"
import { eventually, type McpClient, makeWorld, processesOf, type World } from "./world.ts"

/**
 * A turn is over when its claudes are gone, whatever is said of it: the fleet runs no more of them
 * than `turnsMax`.
 */

const never = new Promise<never>(() => {})
const events = z.object({ events: z.array(z.looseObject({ kind: z.string() })) })
const bash = (command: string): Reply =>
  use([{ name: "Bash", input: { command, timeout: 600_000 } }])
/** What says that the iteration is over, from inside of it. */
const sayOver = `node -e '
  const { BLACKBOX5_AGENT_URL: url, BLACKBOX5_AGENT_TOKEN: token, BLACKBOX5_TURN: turn } = process.env
  const headers = { authorization: "Bearer " + token, "content-type": "application/json" }
  fetch(url + "/turns/" + turn + "/end", { method: "POST", headers, body: JSON.stringify({ code: 0, ms: 1 }) })'`

/**
 * Processes that execute the real claude and have its work to do: one that it forks looks the same
 * until it becomes something else.
 */
const claudesOf = (world: World): readonly { pid: number; command: string }[] => {
  const all = processesOf(world.directory).filter(({ pid }) => {
    try {
      return /claude-code|\/copy$/.test(readlinkSync(`/proc/${pid}/exe`))
    } catch {
      return false
    }
  })
  return all.filter(({ parent }) => !all.some(({ pid }) => pid === parent))
}
const saidIn = async (call: McpClient["call"], name: string): Promise<string> =>
  JSON.stringify(events.parse(await call("read_events", { name, limit: 100 })).events)

it.each(people)(
  "is not freed by an iteration of $user with $shell that says that it is over and goes on: its claude is ended first",
  async (person) => {
    const seen: number[] = []
    let lies = 0
    const script = ({ text, toolResults }: ModelRequest): Reply => {
      if (text.includes("The goal of other")) {
        seen.push(claudesOf(world).length)
        return say("Status: PARTIAL")
      }
      if (toolResults.length === 0 && lies++ === 0) return bash(`${sayOver}; sleep 1000`)
      return say("Status: PARTIAL")
    }
    await using world = await makeWorld(script, { policy: "turnsMax: 1\n", person })
    const { call } = await world.connect()
    await call("spawn_instance", { project: "shop", name: "liar", goal: "The goal of liar." })
    await eventually(() => lies > 0, "the lie")
    await call("spawn_instance", {
      project: "shop",
      name: "other",
      goal: "The goal of other.",
      mode: "once",
    })
    await eventually(
      async () => (await call("inspect_instance", { name: "other" })).phase === "Completed",
      "the other's turn",
    )
    expect(seen).toEqual([1])
    const said = await saidIn(call, "liar")
    expect(said).toContain(
      "Something reported the end of iteration 1 while its claude was still running; that claude was ended.",
    )
    // The loop's own word about the exit counts, not the liar's.
    expect(said).toMatch(/Iteration 1 ended after \d+ s: FAILED, exit code 1(43|37)/)
    expect(said.split("Something reported the end of").length).toBe(2)
  },
  120_000,
)

it.each<[string, string]>([
  ["by the shim", "claude"],
  ["by its path", "$BLACKBOX5_AGENT_CLAUDE"],
  [
    "without its environment",
    'env -i HOME="$HOME" IS_SANDBOX=1 ANTHROPIC_API_KEY=x ANTHROPIC_BASE_URL="$ANTHROPIC_BASE_URL" $BLACKBOX5_AGENT_CLAUDE',
  ],
  ["from a copy", "./copy"],
])(
  "ends a claude that it left in the background, started %s, and no other program",
  async (how, claude) => {
    let nested = 0
    let left: string | undefined
    const script = ({ text, toolResults }: ModelRequest): Reply => {
      if (text.includes("The nested work")) {
        nested += 1
        return hold(say("never"), never)
      }
      if (text.includes("The goal of other")) {
        left = JSON.stringify(claudesOf(world).map(({ command }) => command))
        return say("Status: PARTIAL")
      }
      if (toolResults.length === 0)
        return bash(
          [
            ...(how === "from a copy"
              ? ['cp "$(readlink -f "$BLACKBOX5_AGENT_CLAUDE")" copy']
              : []),
            "setsid -f sleep 2000 > /dev/null 2>&1 < /dev/null",
            `setsid -f ${claude} -p 'The nested work.' > /dev/null 2>&1 < /dev/null`,
          ].join("\n"),
        )
      return nested > 0 ? say("Status: PARTIAL") : bash("sleep 0.1")
    }
    await using world = await makeWorld(script, { policy: "turnsMax: 1\n" })
    const { call } = await world.connect()
    await call("spawn_instance", { project: "shop", name: "leaver", goal: "The goal of leaver." })
    await eventually(() => nested === 1, "the nested claude works")
    await call("spawn_instance", {
      project: "shop",
      name: "other",
      goal: "The goal of other.",
      mode: "once",
    })
    await eventually(() => left, "the other's turn")
    expect(left).not.toContain("The nested work")
    await eventually(
      async () =>
        (await saidIn(call, "leaver")).includes("Iteration 1 left a claude running; it was ended."),
      "the event",
    )
    expect(
      processesOf(world.directory).some(({ command }) => command.startsWith("sleep 2000")),
    ).toBe(true)
  },
  120_000,
)

it("is not given to what an ended iteration left behind, by the shim or by its path", async () => {
  const script = ({ text, toolResults }: ModelRequest): Reply => {
    if (text.includes("The late work")) return hold(say("never"), never)
    if (toolResults.length > 0) return say("Status: PARTIAL")
    const start = (claude: string, file: string): string =>
      `setsid -f sh -c "until test -e ${at("go")}; do sleep 0.1; done; ${claude} -p 'The late work.' < /dev/null > ${at(file)} 2>&1; echo \\$? > ${at(`${file}.code`)}" > /dev/null 2>&1`
    return bash([start("claude", "shim"), start('"$BLACKBOX5_AGENT_CLAUDE"', "path")].join("\n"))
  }
  await using world = await makeWorld(script, { env: { LOOP_PAUSE: "1000" } })
  const at = (name: string): string => join(world.directory, name)
  const codeOf = (name: string) =>
    eventually(() => readFileSync(at(`${name}.code`), "utf8").trim(), name)
  const { call } = await world.connect()
  await call("spawn_instance", { project: "shop", name: "leaver" })
  await eventually(
    async () => (await saidIn(call, "leaver")).includes("Iteration 1 ended"),
    "the end of the iteration",
  )
  writeFileSync(at("go"), "")
  expect(await codeOf("shim")).toBe("75")
  expect(readFileSync(at("shim"), "utf8")).toContain("No iteration is running.")
  expect(["143", "137"]).toContain(await codeOf("path"))
  expect(claudesOf(world)).toEqual([])
  expect(await saidIn(call, "leaver")).toContain(
    "Something that an iteration left behind started claude without a turn",
  )
}, 120_000)

it("is taken from a process that asked for it and is no claude, when its time is over", async () => {
  let asked = false
  let works = 0
  const script = ({ text, toolResults }: ModelRequest): Reply => {
    if (text.includes("The goal of other")) {
      works += 1
      return say("Status: PARTIAL")
    }
    if (toolResults.length === 0 && !asked) {
      asked = true
      return bash(`setsid -f node -e '
        const { readFileSync } = require("node:fs")
        const { BLACKBOX5_AGENT_URL: url, BLACKBOX5_AGENT_TOKEN: token } = process.env
        const stat = readFileSync("/proc/self/stat", "utf8")
        const body = JSON.stringify({ pid: process.pid, startTicks: Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19]) })
        const headers = { authorization: "Bearer " + token, "content-type": "application/json" }
        setInterval(() => {}, 1000)
        fetch(url + "/turns/t-mine", { method: "POST", headers, body })' > /dev/null 2>&1 < /dev/null`)
    }
    return say("Status: PARTIAL")
  }
  const one = "turnsMax: 1\n"
  await using world = await makeWorld(script, { policy: one, env: { LOOP_PAUSE: "1000" } })
  const { call } = await world.connect()
  await call("spawn_instance", { project: "shop", name: "keeper", goal: "The goal of keeper." })
  const told = (words: string) =>
    eventually(async () => (await saidIn(call, "keeper")).includes(words), words)
  await told("Iteration 2 began.")
  world.policy(`${one}iterationMinutesMax: 0.1\n`)
  await told("Iteration 2 ended")
  world.policy(one) // on a busy machine the next one may need longer than that
  await call("spawn_instance", {
    project: "shop",
    name: "other",
    goal: "The goal of other.",
    mode: "once",
  })
  await eventually(() => works > 0, "the other's turn")
}, 240_000)
