import { execFile, spawn } from "node:child_process"
import { cpSync, existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs"
import { dirname, join } from "node:path"
import { Client } from "@modelcontextprotocol/sdk/client/index.js"
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js"
import { expect, it } from "vitest"
import { z } from "zod"
import { isAlive } from "../../src/host/processes.ts"
import { processIdSchema } from "../../src/run/run-directory.ts"
import { version } from "../../src/settings/version.ts"
import { say, use } from "../model/model.ts"
import { eventually, main, makeWorld, processesOf, type World } from "./world.ts"

/** The same program with another version in it. Gives its main file. */
function buildOf(world: World, other: string): string {
  const dist = join(world.directory, `dist-${other}`)
  cpSync(dirname(main), dist, { recursive: true })
  writeFileSync(join(dist, "package.json"), '{"type":"module"}')
  const chunk = readdirSync(dist).find((name) => name.startsWith("version-")) ?? "none"
  const text = readFileSync(join(dist, chunk), "utf8")
  expect(text).toContain(`"${version}"`)
  writeFileSync(join(dist, chunk), text.replace(`"${version}"`, `"${other}"`))
  return join(dist, "main.js")
}
const run = (
  world: World,
  program: string,
  ...args: string[]
): Promise<{ code: number; stdout: string; stderr: string }> =>
  new Promise((resolve) => {
    const child = execFile(
      process.execPath,
      [program, ...args],
      { env: world.env, cwd: world.codeRoot },
      (_error, stdout, stderr) => resolve({ code: child.exitCode ?? -1, stdout, stderr }),
    )
  })
const served = (world: World) =>
  z
    .object({ pid: z.number(), version: z.string(), codeRoot: z.string() })
    .parse(JSON.parse(readFileSync(join(world.state, "serve.json"), "utf8")))
const serving = (world: World) =>
  processesOf(world.directory).filter(({ command }) => / serve( |$)/.test(command))
const receipts = z.object({ receipts: z.array(z.object({ state: z.string(), note: z.string() })) })

it("a newer client replaces an older serve under a running iteration, an older client leaves a newer one alone", async () => {
  await using world = await makeWorld(({ text, toolResults }) => {
    // The first iteration waits for a file, and then for a message.
    if (toolResults.length === 0)
      return use([
        {
          name: "Bash",
          input: { command: `until [ -e ${world.codeRoot}/go ]; do sleep 0.1; done` },
        },
      ])
    return text.includes("use euros")
      ? say("Status: PARTIAL")
      : use([{ name: "Bash", input: { command: "sleep 0.2" } }])
  })
  const older = buildOf(world, "0.0.9")
  const spawned = await run(
    world,
    older,
    "spawn-instance",
    "--project",
    "shop",
    "--name",
    "one",
    "--json",
  )
  expect(spawned.stderr).toBe("")
  const { uid } = z.object({ uid: z.string() }).parse(JSON.parse(spawned.stdout))
  const fileOf = (name: string): unknown =>
    JSON.parse(readFileSync(join(world.runOf(uid), "status", `${name}.json`), "utf8"))
  await eventually(
    () => processesOf(world.directory).some(({ command }) => command.includes("until [ -e")),
    "the long command",
  )
  const first = served(world)
  expect(first.version).toBe("0.0.9")
  const [loop, supervisor] = [
    processIdSchema.parse(fileOf("loop")),
    z.object({ pid: z.number() }).parse(fileOf("supervisor")),
  ]
  const turn = z.looseObject({ id: z.string(), iteration: z.number() }).parse(fileOf("turn"))
  const session = new Client({ name: "older", version: "1" })
  await session.connect(
    new StdioClientTransport({
      command: process.execPath,
      args: [older, "mcp"],
      env: world.env,
      cwd: "/",
    }),
  )
  expect(await session.callTool({ name: "fleet_status", arguments: {} })).toMatchObject({
    structuredContent: { turns: { used: 1 } },
  })

  // Five newer clients at once, that know another code root: one of them replaces it, and the fleet
  // stays where it is.
  const elsewhere = { ...world, env: { ...world.env, BLACKBOX5_CODE_ROOT: world.directory } }
  const asked = await Promise.all(
    Array.from({ length: 5 }, () => run(elsewhere, main, "fleet-status", "--json")),
  )
  expect(asked.map(({ code, stderr }) => [code, stderr])).toEqual(
    Array.from({ length: 5 }, () => [0, ""]),
  )
  const second = served(world)
  expect(second).toMatchObject({ version, codeRoot: world.codeRoot })
  expect(serving(world).map(({ pid }) => pid)).toEqual([second.pid])

  // The iteration is the same, under the same supervisor, which is connected again: mail reaches it
  // in the middle of its work.
  expect(isAlive(loop)).toBe(true)
  expect(fileOf("supervisor")).toMatchObject(supervisor)
  expect(fileOf("turn")).toMatchObject({ id: turn.id, iteration: 1 })
  const told = run(
    world,
    main,
    ..."message-instances --to one --urgency now --wait-seconds 30 --json --text".split(" "),
    "use euros",
  )
  writeFileSync(join(world.codeRoot, "go"), "")
  expect(receipts.parse(JSON.parse((await told).stdout)).receipts).toMatchObject([
    { state: "delivered", note: expect.stringContaining("iteration 1") },
  ])
  await eventually(async () => {
    const { stdout } = await run(world, main, "inspect-instance", "one", "--json")
    return (
      z.object({ usage: z.object({ iterations: z.number() }) }).parse(JSON.parse(stdout)).usage
        .iterations >= 1
    )
  }, "the iteration's end")
  expect(isAlive(loop)).toBe(true)

  // Older clients, those that were there and those that come, talk to the newer one as it is.
  expect(await session.callTool({ name: "fleet_status", arguments: {} })).toMatchObject({
    structuredContent: { instances: { running: 1 } },
  })
  expect(await run(world, older, "fleet-status")).toMatchObject({ code: 0 })
  expect(served(world)).toEqual(second)
  await session.close()

  // And a supervisor of before starts the newer one again when it was killed, not its own.
  process.kill(second.pid, "SIGKILL")
  const third = await eventually(() => {
    const now = existsSync(join(world.state, "serve.json")) ? served(world) : undefined
    return now && now.pid !== second.pid && now
  }, "another serve")
  expect(third.version).toBe(version)
}, 120_000)

it("a newer serve that a person starts takes the place of an older one, and an older one ends beside a newer", async () => {
  await using world = await makeWorld(() => say("unused"))
  const older = buildOf(world, "0.0.9")
  await run(world, older, "fleet-status")
  const first = served(world)
  expect(first.version).toBe("0.0.9")
  const person = spawn(process.execPath, [main, "serve"], {
    env: world.env,
    cwd: world.codeRoot,
    stdio: "ignore",
  })
  await eventually(() => served(world).version === version, "the newer serve")
  expect(serving(world).map(({ pid }) => pid)).toEqual([person.pid])
  expect(await run(world, older, "serve")).toMatchObject({
    code: 0,
    stdout: expect.stringContaining("is already serving"),
  })
  expect(served(world).pid).toBe(person.pid)
})
