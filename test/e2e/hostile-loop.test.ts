import { execFileSync } from "node:child_process"
import { cpSync, existsSync, readdirSync, readFileSync, readlinkSync, statSync } from "node:fs"
import { join } from "node:path"
import { setTimeout as sleep } from "node:timers/promises"
import { fileURLToPath } from "node:url"
import { expect, it } from "vitest"
import { WebSocket } from "ws"
import { z } from "zod"
import { type ModelRequest, say, use } from "../model/model.ts"
import { pick, random } from "../random.ts"
import { hasNamespaces, people } from "./person.ts"
import {
  eventually,
  makeWorld,
  processesOf,
  type Result,
  standsStill,
  type World,
} from "./world.ts"

/**
 * One loop does for two minutes all that it can against its own supervisor, from inside
 * (`hostile.ts`) and, with that supervisor's credential, over the link. Two others go about their
 * work, a person writes to them and looks at the fleet: for them it is as if it were quiet.
 * BLACKBOX5_HOSTILE_SEED repeats a run's choices (not its moments), BLACKBOX5_HOSTILE_SECONDS sets
 * how long it lasts.
 */
const seed = Number(process.env.BLACKBOX5_HOSTILE_SEED ?? Math.floor(Math.random() * 1e9))
const seconds = Number(process.env.BLACKBOX5_HOSTILE_SECONDS ?? 120)
const quietSeconds = 30
const worstSeconds = 15
const turnsMax = 2
const good = ["ann", "ben"] as const

const receiptsSchema = z.array(z.object({ mail: z.string() }))
const messagesSchema = z.object({
  messages: z.array(z.object({ mail: z.string(), state: z.string() })),
})
const auditSchema = z.object({
  calls: z.array(
    z.object({ who: z.string(), made: z.array(z.string()).default([]), verdict: z.string() }),
  ),
})
const listSchema = z.object({
  instances: z.array(z.object({ name: z.string(), iteration: z.number() })),
})

/** Resident memory of a process now, in MiB. */
const memoryOf = (pid: number): number => {
  try {
    return (
      Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? 0) / 1024
    )
  } catch {
    return 0
  }
}
const namespaceOf = (pid: number | string): string => {
  try {
    return readlinkSync(`/proc/${pid}/ns/pid`)
  } catch {
    return ""
  }
}

/** The instance that a process belongs to, as its environment names it. */
const instanceOf = (pid: number): string => {
  try {
    return (
      /BLACKBOX5_INSTANCE=([\w-]+)/.exec(readFileSync(`/proc/${pid}/environ`, "utf8"))?.[1] ?? ""
    )
  } catch {
    return ""
  }
}

/** Looks all the time: iterations at once, and the most memory that serve and a supervisor had. */
function watch(world: World) {
  const seen = { wrong: [] as string[], looks: 0, serveMiB: 0, supervisorMiB: 0 }
  const ended = new AbortController()
  const claude = join(world.directory, "checkout/node_modules/.bin/claude")
  const done = (async () => {
    while (!ended.signal.aborted) {
      seen.looks++
      const all = processesOf(world.directory)
      const claudes = all.filter(
        ({ command }) => command.startsWith(`${claude} `) && command.includes("--settings"),
      )
      const pids = new Set(claudes.map(({ pid }) => pid))
      const running = claudes.filter(({ parent, state }) => !pids.has(parent) && state !== "T")
      if (running.length > turnsMax)
        seen.wrong.push(`${running.length} at once: ${running.map(({ pid }) => instanceOf(pid))}`)
      for (const { pid, command } of all) {
        if (/main\.js serve/.test(command)) seen.serveMiB = Math.max(seen.serveMiB, memoryOf(pid))
        if (/main\.js agent/.test(command))
          seen.supervisorMiB = Math.max(seen.supervisorMiB, memoryOf(pid))
      }
      await sleep(100)
    }
  })()
  const stop = async () => {
    ended.abort()
    await done
    return seen
  }
  return { stop }
}

/**
 * A supervisor gone bad: it has its credential, and says whatever it likes. `aboutTurns`: also in
 * beats, which say whether its iteration runs. No one else knows that, so that the limit of turns
 * holds only as far as supervisors do not lie about it.
 */
async function lie(
  world: World,
  uid: string,
  until: AbortSignal,
  aboutTurns: boolean,
): Promise<number> {
  const chance = random(seed + 1)
  const many = (max: number): number => Math.floor(chance() * max)
  const run = z.object({ credential: z.string(), place: z.string() })
  let said = 0
  const frame = (place: string): string | Buffer => {
    const atMs = Date.now()
    const used = { usd: chance(), tokens: many(1e6), iterations: many(100), ms: many(1e6) }
    const turn = {
      id: `t-${many(5)}`,
      state: pick(chance, ["Wanted", "Running"]),
      sinceMs: many(2) * atMs,
      grantedAtMs: atMs,
    }
    const event = {
      id: `e-${many(1e9)}`,
      kind: pick(chance, ["Warning", "IterationStarted", "Audit", "Removed"]),
      message: "w".repeat(many(4000)),
      atMs,
    }
    const receipt = {
      mail: `m-${many(1e6)}`,
      state: pick(chance, ["Delivered", "Answered", "Returned"]),
      iteration: 1,
      door: "Stop",
    }
    const beat = {
      place: aboutTurns ? place : "elsewhere",
      frozen: chance() < 0.5,
      used,
      atMs: pick(chance, [atMs, 0, 9e15]),
      ...(chance() < 0.5 && { turn }),
    }
    return (
      pick(chance, [
        ...Array.from({ length: 4 }, () => JSON.stringify({ type: "beat", beat })),
        ...Array.from({ length: 6 }, () =>
          JSON.stringify({ type: "event", seq: many(1e6), event: { ...event, kind: "Warning" } }),
        ),
        JSON.stringify({ type: "receipt", seq: many(1e6), receipt }),
        chance() < 0.1
          ? JSON.stringify({ type: "event", seq: 1, event })
          : JSON.stringify({ type: "beat", beat }),
        chance() < 0.05 ? "{" : JSON.stringify({ type: "beat", beat }),
        chance() < 0.02 ? Buffer.alloc(2_000_000) : JSON.stringify({ type: "beat", beat }),
      ]) ?? ""
    )
  }
  while (!until.aborted) {
    const { credential, place } = await eventually(
      () => run.parse(JSON.parse(readFileSync(join(world.runOf(uid), "status/run.json"), "utf8"))),
      "a run of the wolf's",
    )
    const link = new WebSocket(`ws+unix://${join(world.state, "serve.sock")}:/v1/link`, {
      headers: { authorization: `Bearer ${credential}` },
    })
    await new Promise<void>((resolve) => {
      link.on("error", () => resolve()).on("close", () => resolve())
      link.on("open", async () => {
        for (let count = many(1500); count > 0 && link.readyState === WebSocket.OPEN; count--) {
          link.send(frame(place))
          said++
          if (count % 20 === 0) await sleep(5)
        }
        link.close()
      })
    })
    await sleep(many(300))
  }
  return said
}

/** All that is in a PID namespace, whatever it made of its parents and its environment. */
const membersOf = (
  namespace: string,
): readonly { readonly pid: number; readonly state: string }[] =>
  readdirSync("/proc").flatMap((name) => {
    const pid = Number(name)
    if (!Number.isInteger(pid) || namespaceOf(pid) !== namespace) return []
    try {
      const stat = readFileSync(`/proc/${pid}/stat`, "latin1")
      const state = stat.charAt(stat.lastIndexOf(")") + 2)
      return state === "Z" ? [] : [{ pid, state }]
    } catch {
      return []
    }
  })

/**
 * Where mounting is allowed, a project gets a disk of its own of a few megabytes, which it can
 * fill.
 */
function smallTree(world: World, path: string): Disposable {
  const owner = statSync(path).uid
  const copy = join(world.directory, "copy")
  try {
    cpSync(path, copy, { recursive: true })
    execFileSync("mount", ["-t", "tmpfs", "-o", `size=20m,mode=700,uid=${owner}`, "tmpfs", path], {
      stdio: "ignore",
    })
    execFileSync("cp", ["-a", `${copy}/.`, path])
    execFileSync("chown", ["-R", String(owner), path])
  } catch {
    return { [Symbol.dispose]: () => {} }
  }
  return { [Symbol.dispose]: () => void execFileSync("umount", ["-l", path]) }
}

/**
 * The hostile loop: it keeps a claude in its turn, and starts the program again whenever that is
 * gone.
 */
const script = (world: World, outside: readonly number[]): string => `#!/bin/bash
export HOSTILE_LOOP=$$
number=${seed}
begin() { number=$((number + 1)); node "${world.directory}/e2e/hostile.ts" $number 20 "${world.directory}/acts" "$1" ${outside.join(" ")} & attacker=$!; }
while :; do
  kill -0 "$attacker" 2> /dev/null || begin "$1"
  echo "The goal of wolf." | claude -p --dangerously-skip-permissions
  sleep 0.3
done
`
const model = ({ text, body }: ModelRequest) => {
  const sleeps = (duration: string) =>
    use([{ name: "Bash", input: { command: `sleep ${duration}` } }])
  if (!/The goal of (ann|ben)\./.test(text)) return sleeps("2")
  // Mail that comes at its end makes it no longer.
  return body.messages.some(({ role }) => role === "assistant")
    ? say("Status: PARTIAL")
    : sleeps("0.2")
}

it(`two minutes of one hostile loop are quiet ones for everybody else (seed ${seed}, ${seconds} s)`, async () => {
  process.stdout.write(
    `hostile loop: BLACKBOX5_HOSTILE_SEED=${seed} BLACKBOX5_HOSTILE_SECONDS=${seconds}\n`,
  )
  const person = people.find(({ user }) => user === "ordinary")
  if (!person) throw new Error("nobody plays an ordinary user")
  const isHeld = hasNamespaces(person.user)
  await using world = await makeWorld(model, {
    ...{ person, projects: [...good, "wolf"], under: "person" },
  })
  const loop = join(world.directory, "hostile.sh")
  const files = { "e2e/hostile.ts": "hostile.ts", "random.ts": "../random.ts" }
  await world.run("mkdir", ["-p", join(world.directory, "e2e")])
  for (const [to, from] of Object.entries(files))
    world.write(
      join(world.directory, to),
      readFileSync(fileURLToPath(new URL(from, import.meta.url)), "utf8"),
    )
  using _disk = smallTree(world, world.projectOf("wolf"))
  world.policy(`turnsMax: ${turnsMax}\nloops:\n  hostile: ["${loop}", "{project}"]\n`)

  const { call } = await world.connect()
  await call("fleet_status")
  const serve = world.servePid()
  world.write(loop, script(world, isHeld ? [serve, process.pid] : []), 0o755)
  for (const name of good)
    await call("spawn_instance", { name, project: name, goal: `The goal of ${name}.` })
  const watcher = watch(world)

  // A person writes to both, and looks once a second; and each call is answered.
  const failures: string[] = []
  const mails = new Map<string, string>()
  let answered = 0
  const ask = async (
    tool: string,
    input: Record<string, unknown> = {},
  ): Promise<Result | undefined> => {
    try {
      const result = await call(tool, input)
      answered++
      return result
    } catch (error) {
      failures.push(`${tool}: ${String(error)}`)
      return undefined
    }
  }
  const iterations = async (): Promise<readonly number[]> => {
    const { instances } = listSchema.parse(await call("list_instances"))
    return good.map((name) => instances.find((one) => one.name === name)?.iteration ?? 0)
  }
  const phase = async (lengthSeconds: number) => {
    const before = await iterations()
    const endsAtMs = performance.now() + lengthSeconds * 1000
    const from = { mails: mails.size, answered }
    for (let second = 0; performance.now() < endsAtMs; second++) {
      // Mail at its end makes an iteration longer: not all of them.
      for (const name of second % 4 === 0 ? good : []) {
        const sent = await ask("message_instances", {
          to: [name],
          text: `Go on, ${name}.`,
          urgency: pick(Math.random, ["now", "next-iteration"]),
          waitSeconds: 0,
        })
        for (const { mail } of receiptsSchema.parse(sent?.receipts ?? [])) mails.set(mail, name)
      }
      for (const tool of ["fleet_status", "list_instances", "read_events"]) await ask(tool)
      await sleep(1000)
    }
    const done = (await iterations()).map((count, index) => count - (before[index] ?? 0))
    return { iterations: done, mails: mails.size - from.mails, answered: answered - from.answered }
  }
  await eventually(
    async () => (await iterations()).every((count) => count >= 2),
    "iterations of both",
  )
  const quiet = await phase(quietSeconds)

  const { uid } = z.object({ uid: z.string() }).parse(
    await call("spawn_instance", {
      name: "wolf",
      project: "wolf",
      loop: "hostile",
      budget: { usd: 100_000, iterations: 100_000 },
    }),
  )
  await eventually(() => existsSync(join(world.directory, "acts")), "the wolf attacks")
  const over = new AbortController()
  const lies = lie(world, uid, over.signal, false)
  const loud = await phase(seconds)
  const seen = await watcher.stop()
  over.abort()
  let said = await lies
  const worse = new AbortController()
  const worst = lie(world, uid, worse.signal, true)
  const after = await phase(worstSeconds)
  worse.abort()
  said += await worst
  const acts = readFileSync(join(world.directory, "acts"), "utf8").trim().split("\n")

  // It obeys: it stands still, it goes, and nothing of it is left.
  // Its children are of its kind.
  const { instances } = listSchema.parse(await call("list_instances"))
  const names = instances
    .map(({ name }) => name)
    .filter((name) => !good.some((one) => one === name))
  const loops = processesOf(world.directory).filter(({ command }) =>
    command.startsWith(`/bin/bash ${loop}`),
  )
  const packs = new Set(isHeld ? loops.map(({ pid }) => namespaceOf(pid)) : [])
  const wolves = () => [...packs].flatMap((pack) => membersOf(pack))
  await call("pause_instances", { names })
  await eventually(
    async () => (await call("inspect_instance", { name: "wolf" })).phase === "Paused",
    "it is paused",
  )
  await eventually(() => wolves().every(standsStill), "all of it stands still")
  await call("stop_instances", { names, remove: true })
  const left = async () =>
    listSchema.parse(await call("list_instances")).instances.map(({ name }) => name)
  await eventually(async () => (await left()).length === good.length, "it is removed")
  expect(wolves()).toEqual([])
  expect(existsSync(join(world.state, "instances", uid))).toBe(false)
  const mounts = readFileSync(`/proc/${serve}/mountinfo`, "utf8")
    .split("\n")
    .filter((line) => line.includes(world.state))
  expect(mounts).toEqual([])

  // As if it were quiet.
  process.stdout.write(
    `hostile loop: ${acts.length} acts, ${said} frames; ${JSON.stringify({ quiet, loud, after })}\n`,
  )
  expect(failures).toEqual([])
  expect(world.servePid()).toBe(serve)
  const unheard = async (): Promise<readonly string[]> => {
    const left: string[] = []
    const ids = [...mails.keys()]
    for (let from = 0; from < ids.length; from += 50) {
      const some = ids.slice(from, from + 50)
      const { messages } = messagesSchema.parse(
        await call("read_messages", { sent: true, mails: some, limit: 50 }),
      )
      const delivered = new Set(
        messages.filter(({ state }) => state === "delivered").map(({ mail }) => mail),
      )
      left.push(...some.filter((mail) => !delivered.has(mail)))
    }
    return left
  }
  await eventually(async () => (await unheard()).length === 0, "every mail is delivered").catch(
    () => {},
  )
  expect(await unheard()).toEqual([])
  const audit = await world.cli(
    "audit",
    "--who",
    "admin",
    "--tool",
    "message_instances",
    "--limit",
    "1000",
    "--json",
  )
  const written = new Set(
    auditSchema.parse(JSON.parse(audit.stdout)).calls.flatMap(({ made }) => made),
  )
  expect([...mails.keys()].filter((mail) => !written.has(mail))).toEqual([])
  // The machine is busier than before: a quarter of the pace of quiet is asked for.
  for (const [index, count] of quiet.iterations.entries()) {
    expect(count).toBeGreaterThan(0)
    expect(loud.iterations[index]).toBeGreaterThanOrEqual(
      Math.floor((count * seconds) / quietSeconds / 4),
    )
  }
  process.stdout.write(`hostile loop: ${JSON.stringify(seen)}\n`)
  expect(seen.wrong).toEqual([])
  expect(seen.serveMiB).toBeLessThan(400)
  expect(seen.supervisorMiB).toBeLessThan(400)
}, 600_000)
