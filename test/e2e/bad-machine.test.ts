import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs"
import { basename, join } from "node:path"
import { fileURLToPath } from "node:url"
import { describe, expect, it } from "vitest"
import { z } from "zod"
import { type ModelRequest, say, use } from "../model/model.ts"
import { smallDisk } from "./small-disk.ts"
import { eventually, type McpClient, makeWorld, processesOf, type World } from "./world.ts"

/**
 * What happens to machines: a full disk, a clock that is set back, no home, a loop that prints
 * without end.
 */

const atWork = ({ body }: ModelRequest) =>
  body.messages.filter(({ role }) => role === "assistant").length < 2
    ? use([{ name: "Bash", input: { command: "sleep 0.2" } }])
    : say("Status: PARTIAL")
const supervisorSchema = z.object({ pid: z.number() })
const supervisorOf = (world: World, uid: string): number =>
  supervisorSchema.parse(
    JSON.parse(readFileSync(join(world.runOf(uid), "status/supervisor.json"), "utf8")),
  ).pid
const receiptsSchema = z.array(z.object({ mail: z.string(), state: z.string() }))
const inspectedSchema = z.object({
  phase: z.string(),
  why: z.string(),
  usage: z.object({ iterations: z.number() }),
})
const inspect = async ({ call }: McpClient, name: string) =>
  inspectedSchema.parse(await call("inspect_instance", { name }))
const spawn = async ({ call }: McpClient, input: Record<string, unknown>): Promise<string> =>
  z.string().parse((await call("spawn_instance", input)).uid)
/** The order in which the model first read the texts `serial <n>`. */
const serialsOf = (world: World): readonly number[] => [
  ...new Set(
    world.model.requests.flatMap(({ text }) =>
      [...text.matchAll(/\nserial (\d+)\n/g)].map(([, serial]) => Number(serial)),
    ),
  ),
]

describe("a full disk", () => {
  it("is said, loses nothing that was acknowledged, ends no agent; with room again all goes on by itself", async () => {
    using disk = smallDisk()
    await using world = await makeWorld(atWork, { state: disk.directory, env: disk.env })
    {
      const client = await world.connect()
      const uid = await spawn(client, { project: "shop", name: "one" })
      await eventually(
        async () => (await inspect(client, "one")).usage.iterations >= 1,
        "a first iteration",
        60,
      )
      const supervisor = supervisorOf(world, uid)
      const loop = readFileSync(join(world.runOf(uid), "status/loop.json"), "utf8")

      const acknowledged: string[] = []
      let serial = 0
      const write = async (): Promise<void> => {
        const key = `k-${++serial}`
        const text = `serial ${serial}\n${"x".repeat(4000)}`
        const { receipts } = await client.call("message_instances", {
          to: ["one"],
          text,
          waitSeconds: 0,
          idempotencyKey: key,
        })
        acknowledged.push(...receiptsSchema.parse(receipts).map(({ mail }) => mail))
      }
      await write()
      disk.fill()
      // What still finds room in the database's own files is acknowledged and counts; then it is
      // said, and nothing is half done.
      const refused = await eventually(() => write().then(() => undefined, String), "a refusal")
      expect(refused).toMatch(/disk .*full.*room/is)
      const before = acknowledged.length
      await expect(client.call("spawn_instance", { project: "shop", name: "two" })).rejects.toThrow(
        /disk .*full.*room/is,
      )
      await expect(write()).rejects.toThrow(/disk .*full.*room/is)
      expect(acknowledged).toHaveLength(before)
      // Reading works as before, and nobody was ended.
      expect(await client.call("list_instances")).toMatchObject({ total: 1 })
      const asked = world.model.requests.length
      await eventually(
        () =>
          readFileSync(join(world.runOf(uid), "log")).length > 0 &&
          world.model.requests.length >= asked,
        "a log",
      )
      expect(supervisorOf(world, uid)).toBe(supervisor)
      expect(processesOf(world.directory).map(({ pid }) => pid)).toContain(supervisor)

      disk.free()
      const done = (await inspect(client, "one")).usage.iterations
      await eventually(
        async () => (await inspect(client, "one")).usage.iterations > done + 1,
        "iterations again",
        90,
      )
      await write()
      const states = async () =>
        z.object({ messages: z.array(z.object({ mail: z.string(), state: z.string() })) }).parse(
          await client.call("read_messages", {
            sent: true,
            mails: acknowledged.slice(-100),
            limit: 100,
          }),
        ).messages
      await eventually(
        async () => (await states()).every(({ state }) => state === "delivered"),
        "every mail's receipt",
        90,
      )
      expect((await states()).length).toBe(Math.min(100, acknowledged.length))
      const serials = serialsOf(world)
      expect(serials).toEqual(serials.toSorted((a, b) => a - b))
      expect(serials.length).toBeGreaterThanOrEqual(acknowledged.length)
      expect([
        supervisorOf(world, uid),
        readFileSync(join(world.runOf(uid), "status/loop.json"), "utf8"),
      ]).toEqual([supervisor, loop])
      await spawn(client, { project: "shop", name: "two" })
    }
  }, 240_000)
})

describe("a clock that is set back an hour", () => {
  it("starves nobody, brings nothing back, and delays neither restarts nor mail nor the end of a pause", async () => {
    await using world = await makeWorld(atWork, {
      policy: "turnsMax: 1\n",
      projects: ["shop", "blog"],
    })
    const clock = join(world.directory, "clock")
    const set = (ms: number): void => writeFileSync(clock, String(ms))
    set(0)
    world.env.SET_CLOCK_FILE = clock
    world.env.NODE_OPTIONS = `--import=${fileURLToPath(new URL("set-clock.mjs", import.meta.url))}`
    const client = await world.connect()
    const uid = await spawn(client, { project: "shop", name: "one" })
    await spawn(client, { project: "blog", name: "two" })
    const iterations = async (name: string): Promise<number> =>
      (await inspect(client, name)).usage.iterations
    const both = async (more: number, what: string): Promise<void> => {
      const [one, two] = [await iterations("one"), await iterations("two")]
      await eventually(
        async () =>
          (await iterations("one")) >= one + more && (await iterations("two")) >= two + more,
        what,
        90,
      )
    }
    await both(1, "iterations of both")

    // Mail from before and after waits together; its order is that of the sending.
    await client.call("pause_instances", { names: ["one"] })
    const write = async (serial: number): Promise<void> => {
      await client.call("message_instances", {
        to: ["one"],
        text: `serial ${serial}\n`,
        waitSeconds: 0,
      })
    }
    await write(1)
    await write(2)
    const place = world.runOf(uid)
    set(-3_600_000)
    await write(3)
    await client.call("resume_instances", { names: ["one"] })
    await client.call("pause_instances", { names: ["one"], until: "3s" })
    await eventually(
      async () => (await inspect(client, "one")).phase !== "Paused",
      "the end of the pause",
      60,
    )
    await both(2, "iterations of both, after the clock went back")
    await eventually(() => serialsOf(world).length === 3, "the mail")
    expect(serialsOf(world)).toEqual([1, 2, 3])
    expect((await inspect(client, "one")).phase).toMatch(/Running|Waiting/)
    expect(world.runOf(uid)).toBe(place)

    // What dies is started again at once, and what is new is taken for new.
    process.kill(supervisorOf(world, uid), "SIGKILL")
    await both(1, "iterations under another supervisor")
    const { pid } = supervisorSchema.parse(
      JSON.parse(readFileSync(join(place, "status/loop.json"), "utf8")),
    )
    process.kill(pid, "SIGKILL")
    await eventually(() => world.runOf(uid) !== place, "another run")
    expect(basename(world.runOf(uid)) > basename(place)).toBe(true)
    await both(1, "iterations of the other run")
    process.kill(world.servePid(), "SIGKILL")
    await eventually(() => iterations("one"), "another serve")
    await both(1, "iterations under another serve")
    await client.call("stop_instances", { names: ["one", "two"], remove: true })
    await eventually(
      async () => Number((await client.call("list_instances")).total) === 0,
      "all removed",
      30,
    )
    expect(readdirSync(join(world.state, "instances"))).toEqual([])
  }, 300_000)
})

describe("a home that cannot be written", () => {
  it("stops nothing of ours, and what claude cannot do without it is shown", async () => {
    await using world = await makeWorld(atWork)
    // Below a file not even root makes a directory. Claude's own files are elsewhere, as for a
    // person who says so.
    world.env.HOME = "/dev/null"
    const config = join(world.directory, "claude")
    mkdirSync(config)
    world.env.CLAUDE_CONFIG_DIR = config
    const client = await world.connect()
    await spawn(client, { project: "shop", name: "one" })
    await eventually(
      async () => (await inspect(client, "one")).usage.iterations >= 2,
      "iterations",
      60,
    )
    expect((await world.cli("fleet-status")).code).toBe(0)
    await client.call("stop_instances", { names: ["one"], remove: true })

    // Without its state elsewhere, it is said where it cannot be.
    const { BLACKBOX5_STATE: _state, ...rest } = world.env
    world.env.BLACKBOX5_STATE = "/dev/null/state"
    const nowhere = await world.cli("fleet-status")
    expect(nowhere.code).not.toBe(0)
    expect(nowhere.stderr).toMatch(/state directory \/dev\/null\/state .*BLACKBOX5_STATE/s)
    world.env.BLACKBOX5_STATE = rest.BLACKBOX5_STATE ?? world.state
  }, 120_000)
})

describe("a loop that prints 200,000 lines a second and more", () => {
  it("is slowed down, while pauses, mail and logs are as quick as ever and nothing grows", async () => {
    await using world = await makeWorld((request) =>
      request.text.includes("enough-printed")
        ? say("Status: PARTIAL")
        : use([{ name: "Bash", input: { command: "sleep 0.3" } }]),
    )
    const loop = join(world.directory, "flood.sh")
    writeFileSync(
      loop,
      `#!/bin/bash
n=0
while :; do n=$((n + 1)); printf '%s a line of some fifty characters, as programs print\\n' $n; done &
yes 'and another program that prints without end, too' &
while :; do echo go | claude -p --dangerously-skip-permissions; sleep 0.2; done
`,
      { mode: 0o755 },
    )
    world.policy(`loops:\n  flood: [${loop}]\n`)
    const client = await world.connect()
    const uid = await spawn(client, { project: "shop", name: "one", loop: "flood", goal: "Print." })
    const log = () => join(world.runOf(uid), "log")
    await eventually(() => statSync(`${log()}.1`).size > 0, "a full log", 90)
    await eventually(() => world.model.requests.length > 2, "an agent at work", 90)
    const timed = async <T>(work: () => Promise<T>): Promise<{ ms: number; result: T }> => {
      const sinceMs = performance.now()
      const result = await work()
      return { ms: performance.now() - sinceMs, result }
    }
    const status = await timed(() => client.call("fleet_status"))
    expect(status.ms).toBeLessThan(5000)
    const logs = await timed(() => client.call("read_logs", { name: "one" }))
    expect(logs.ms).toBeLessThan(5000)
    expect(JSON.stringify(logs.result)).toMatch(/as programs print|prints without end/)
    const mail = await timed(() =>
      client.call("message_instances", {
        to: ["one"],
        text: "enough-printed",
        urgency: "now",
        waitSeconds: 30,
      }),
    )
    expect(receiptsSchema.parse(mail.result.receipts)).toMatchObject([{ state: "delivered" }])
    await client.call("pause_instances", { names: ["one"] })
    const paused = await timed(() =>
      eventually(
        async () => (await inspect(client, "one")).why.includes("are frozen"),
        "all stands still",
        20,
      ),
    )
    expect(paused.ms).toBeLessThan(10_000)
    // Claude has made its output non-blocking; the others' is not, or they would have failed where
    // the FIFO was full.
    expect(
      processesOf(world.directory).filter(({ command }) => command.startsWith("yes ")),
    ).toHaveLength(1)
    const parts = [log(), `${log()}.1`].map((path) => statSync(path).size)
    expect(Math.max(...parts)).toBeLessThanOrEqual(8 * 1024 * 1024)
    const [, kilobytes] =
      /VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${supervisorOf(world, uid)}/status`, "utf8")) ??
      []
    expect(Number(kilobytes)).toBeLessThan(200 * 1024)
    await client.call("stop_instances", { names: ["one"], remove: true })
    await eventually(
      async () => Number((await client.call("list_instances")).total) === 0,
      "removed",
      40,
    )
    expect(
      processesOf(world.directory).filter(({ command }) => !/main\.js (serve|mcp)/.test(command)),
    ).toEqual([])
  }, 180_000)
})
