import { existsSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { DatabaseSync } from "node:sqlite"
import { setTimeout as sleep } from "node:timers/promises"
import { describe, expect, it } from "vitest"
import { z } from "zod"
import { type ModelRequest, say, use } from "../model/model.ts"
import { pick, random } from "../random.ts"
import { claudesOf, isClaudeShim, isStopped, type Process } from "./iteration-processes.ts"
import {
  eventually,
  type McpClient,
  makeWorld,
  processesOf,
  type Result,
  standsStill,
  type World,
} from "./world.ts"

/**
 * Everything is killed again and again, in random order, while agents work, people write to them,
 * pause them and let them go on. BLACKBOX5_CHAOS_SEED repeats a run's choices (not its moments),
 * BLACKBOX5_CHAOS_BLOWS sets how many blows fall.
 */
const seed = Number(process.env.BLACKBOX5_CHAOS_SEED ?? Math.floor(Math.random() * 1e9))
const blowsMax = Number(process.env.BLACKBOX5_CHAOS_BLOWS ?? 50)
const stillMs = 30_000
/** Claude waits 10 s for a hook: a supervisor that stands still for longer answers to nobody. */
const deafMs = 12_000
const turnsMax = 2

const isLoop = ({ command }: Process): boolean => /^\S*bash \S*ralf-loop\.sh/.test(command)
/** Loops that are no subshell of another loop. */
const loopsOf = (all: readonly Process[]): readonly Process[] => {
  const loops = new Set(all.filter(isLoop).map(({ pid }) => pid))
  return all.filter((one) => loops.has(one.pid) && !loops.has(one.parent))
}
const roles = {
  serve: (all: readonly Process[]) => all.filter(({ command }) => / serve( |$)/.test(command)),
  supervisor: (all: readonly Process[]) =>
    all.filter(({ command }) => command.includes("main.js agent")),
  loop: loopsOf,
  claude: claudesOf,
  shim: (all: readonly Process[]) => all.filter(isClaudeShim),
  stdio: (all: readonly Process[]) => all.filter(({ command }) => command.includes("main.js mcp")),
} as const
type Role = keyof typeof roles

const kill = (pid: number, signal: NodeJS.Signals): void => {
  try {
    process.kill(pid, signal)
  } catch {
    // It ended meanwhile.
  }
}
/** The value of a variable in a process's environment. */
function variableOf(pid: number, name: string): string | undefined {
  try {
    const entry = readFileSync(`/proc/${pid}/environ`, "utf8")
      .split("\0")
      .find((one) => one.startsWith(`${name}=`))
    return entry?.slice(name.length + 1)
  } catch {
    return undefined
  }
}

/** Looks all the time; what it saw that must never be. */
function watch(world: World): {
  readonly wrong: string[]
  readonly looks: () => number
  stop(): Promise<void>
} {
  const wrong: string[] = []
  let looks = 0
  let watching = true
  let doubled = new Set<string>()
  const done = (async () => {
    while (watching) {
      looks++
      const all = processesOf(world.directory)
      const running = claudesOf(all).filter((one) => !isStopped(one, all))
      if (running.length > turnsMax)
        wrong.push(
          `${running.length} iterations at once: ${running.map(({ pid }) => variableOf(pid, "BLACKBOX5_INSTANCE"))}`,
        )
      const loops = Map.groupBy(
        loopsOf(all).filter((one) => !isStopped(one, all)),
        ({ pid }) => variableOf(pid, "BLACKBOX5_INSTANCE")?.split("/")[0] ?? "gone",
      )
      const now = new Set<string>()
      for (const [uid, found] of loops) {
        if (uid === "gone" || found.length < 2) continue
        const pids = `${uid}: ${found.map(({ pid }) => pid)}`
        now.add(pids)
        // A subshell whose loop was killed a moment ago looks like a loop: it is one only if it
        // stays.
        if (doubled.has(pids)) wrong.push(`two loops of ${pids}`)
      }
      doubled = now
      await sleep(100)
    }
  })()
  return {
    wrong,
    looks: () => looks,
    async stop() {
      watching = false
      await done
    },
  }
}

/**
 * A client that connects again when its stdio process was killed, and repeats a call until it is
 * answered.
 */
function persistent(world: World): {
  call(tool: string, input: Record<string, unknown>): Promise<Result>
  close(): Promise<void>
} {
  let client: Promise<McpClient> | undefined
  return {
    async call(tool, input) {
      for (
        let last: unknown, until = performance.now() + 120_000;
        performance.now() < until;
        await sleep(100)
      ) {
        client ??= world.connect()
        try {
          return await (await client).call(tool, input)
        } catch (error) {
          last = error
          if (/closed|Closed|EPIPE|Not connected/.test(String(error))) {
            await client.then((one) => one.close()).catch(() => {})
            client = undefined
          }
        }
        if (performance.now() + 200 > until) throw last
      }
      throw new Error(`${tool} was never answered`)
    },
    async close() {
      await (await client)?.close()
    },
  }
}

const receiptsSchema = z.array(z.object({ mail: z.string(), state: z.string() }))
const messagesSchema = z.object({
  messages: z.array(z.object({ mail: z.string(), state: z.string() })),
})
const listSchema = z.object({
  instances: z.array(
    z.object({ name: z.string(), phase: z.string(), why: z.string(), iteration: z.number() }),
  ),
})

describe("chaos", () => {
  it(`loses no mail, doubles no loop, leaves no orphan and comes to what was asked for (seed ${seed}, ${blowsMax} blows)`, async () => {
    process.stdout.write(`chaos: BLACKBOX5_CHAOS_SEED=${seed} BLACKBOX5_CHAOS_BLOWS=${blowsMax}\n`)
    const chance = random(seed)
    const names = ["ada", "bob", "cyd", "dan", "eve"]

    // What each session of the model was told, in the order in which it stands in its conversation.
    const told = new Map<string, readonly string[]>()
    const twice: string[] = []
    const first: { name: string; serial: number }[] = []
    const hear = ({ text, session = "" }: ModelRequest): void => {
      const mails = [...text.matchAll(/\[Message (m-\w+) from [^\]]*\]\nserial (\w+) (\d+)\n/g)]
      const ids = mails.map(([, id = ""]) => id)
      if (new Set(ids).size < ids.length) twice.push(`${session}: ${ids}`)
      for (const [, id = "", name = "", serial] of mails)
        if (![...told.values()].some((known) => known.includes(id))) {
          first.push({ name, serial: Number(serial) })
          told.set(session, [...(told.get(session) ?? []), id])
        }
      told.set(session, ids)
    }
    await using world = await makeWorld(
      (request) => {
        hear(request)
        const tools = request.body.messages.filter(({ role }) => role === "assistant").length
        return tools < 3
          ? use([{ name: "Bash", input: { command: "sleep 0.4" } }])
          : say("Status: PARTIAL")
      },
      { policy: `turnsMax: ${turnsMax}\n`, projects: names },
    )
    const people = persistent(world)
    const uidOf = new Map<string, string>()
    for (const name of names)
      uidOf.set(
        name,
        z.string().parse((await people.call("spawn_instance", { project: name, name })).uid),
      )
    const watcher = watch(world)

    // People write, to each agent one message after another: the next is written when the one
    // before was acknowledged.
    let going = true
    const acknowledged = new Map<string, { name: string; serial: number }>()
    const writers = names.map(async (name) => {
      const writer = persistent(world)
      for (let serial = 1; going; serial++) {
        const { receipts } = await writer.call("message_instances", {
          to: [name],
          text: `serial ${name} ${serial}`,
          urgency: serial % 2 === 0 ? "now" : "next-iteration",
          waitSeconds: 0,
          idempotencyKey: `${name}-${serial}`,
        })
        for (const { mail } of receiptsSchema.parse(receipts))
          acknowledged.set(mail, { name, serial })
        await sleep(500)
      }
      await writer.close()
    })
    // They pause agents and let them go on.
    const steering = random(seed + 1)
    const paused = new Set<string>()
    const wish = async (name: string, pause: boolean): Promise<void> => {
      await people.call(pause ? "pause_instances" : "resume_instances", { names: [name] })
      if (pause) paused.add(name)
      else paused.delete(name)
    }
    const steersman = (async () => {
      while (going) {
        const name = pick(steering, names) ?? ""
        await wish(name, !paused.has(name) && paused.size < 2)
        await sleep(1000 + 2000 * steering())
      }
    })()

    await eventually(
      () => acknowledged.size >= names.length && first.length > 0,
      "a fleet at work",
      60,
    )
    const blows: Role[] = []
    const kinds: readonly Role[] = [
      "serve",
      "serve",
      "supervisor",
      "supervisor",
      "loop",
      "claude",
      "claude",
      "shim",
      "stdio",
    ]
    const stillAt = Math.floor(chance() * Math.min(10, blowsMax))
    let stillUntil = 0
    const thawed: Promise<void>[] = []
    const stopFor = (pid: number, ms: number): void => {
      kill(pid, "SIGSTOP")
      thawed.push(sleep(ms).then(() => kill(pid, "SIGCONT")))
    }
    for (let blow = 0; blow < blowsMax; blow++) {
      await sleep(200 + 1800 * chance() ** 2)
      if (blow === stillAt) {
        const [serve] = await eventually(() => {
          const found = roles.serve(processesOf(world.directory))
          return found.length > 0 ? found : undefined
        }, "a serve to stop")
        if (serve) {
          stopFor(serve.pid, stillMs)
          stillUntil = performance.now() + stillMs
        }
        continue
      }
      if (blow % 12 === 5) {
        const deaf = pick(chance, roles.supervisor(processesOf(world.directory)))
        if (deaf) stopFor(deaf.pid, deafMs)
        continue
      }
      const role = pick(chance, kinds) ?? "serve"
      const which = chance()
      // It is to stand still for the whole time.
      if (role === "serve" && performance.now() < stillUntil) continue
      const found = await eventually(
        () => {
          const all = roles[role](processesOf(world.directory)).toSorted((a, b) => a.pid - b.pid)
          return all[Math.floor(which * all.length)]
        },
        `a ${role} to kill`,
        90,
      ).catch(() => undefined)
      if (!found) continue // all may stand still, waiting for a serve that stands still
      kill(found.pid, "SIGKILL")
      blows.push(role)
    }
    await Promise.all(thawed)
    going = false
    await Promise.all([...writers, steersman])
    expect(blows.length).toBeGreaterThan(blowsMax / 2)

    // The fleet comes to what was asked for: two paused and frozen, the others at work.
    for (const name of names) await wish(name, name === "ada" || name === "bob")
    const list = async () => listSchema.parse(await people.call("list_instances", {})).instances
    const settled = async (): Promise<boolean> =>
      (await list()).every(({ name, phase, why }) =>
        paused.has(name)
          ? phase === "Paused" && /are frozen|no process of it is running/.test(why)
          : ["Running", "Waiting"].includes(phase),
      )
    await eventually(settled, "the fleet as it was asked for", 120)
    const progress = async (more: number): Promise<void> => {
      const before = new Map((await list()).map(({ name, iteration }) => [name, iteration]))
      const behind = async () =>
        (await list()).filter(
          ({ name, iteration }) => !paused.has(name) && iteration < (before.get(name) ?? 0) + more,
        )
      await eventually(
        async () => (await behind()).length === 0,
        "iterations of those that run",
        120,
      ).catch(async (error) => {
        const processes = processesOf(world.directory).map(({ pid, parent, state, command }) => [
          pid,
          parent,
          state,
          command,
        ])
        throw new Error(`${error}: ${JSON.stringify([await behind(), processes])}`)
      })
    }
    await progress(1)

    // The machine restarts: everything is killed at once.
    await people.close()
    for (
      let left = processesOf(world.directory);
      left.length > 0;
      left = processesOf(world.directory)
    )
      for (const { pid } of left) kill(pid, "SIGKILL")
    const stirred: string[] = []
    const watched = new AbortController()
    const stirring = (async () => {
      while (!watched.signal.aborted) {
        for (const { pid, command, state } of processesOf(world.directory)) {
          const uid = variableOf(pid, "BLACKBOX5_INSTANCE")?.split("/")[0]
          const name = names.find((one) => uidOf.get(one) === uid)
          if (name && paused.has(name) && !standsStill({ state }))
            stirred.push(`${name}: ${command}`)
        }
        await sleep(50)
      }
    })()
    await eventually(settled, "the fleet after a restart of the machine", 120)
    await progress(2)
    watched.abort()
    await stirring
    expect(stirred).toEqual([])

    // All that was acknowledged is delivered.
    for (const name of names) await wish(name, false)
    const mails = [...acknowledged.keys()]
    const states = async (): Promise<ReadonlyMap<string, string>> => {
      const found = new Map<string, string>()
      for (let from = 0; from < mails.length; from += 50) {
        const some = mails.slice(from, from + 50)
        const { messages } = messagesSchema.parse(
          await people.call("read_messages", { sent: true, mails: some, limit: 50 }),
        )
        for (const { mail, state } of messages) found.set(mail, state)
      }
      return found
    }
    await eventually(
      async () => [...(await states()).values()].every((state) => state !== "queued"),
      "a receipt for every mail",
      180,
    )
    const heard = new Set([...told.values()].flat())
    const lost = [...(await states())].filter(
      ([mail, state]) => state !== "delivered" || !heard.has(mail),
    )
    expect(lost.map(([mail, state]) => ({ mail, state, ...acknowledged.get(mail) }))).toEqual([])
    expect((await states()).size).toBe(mails.length)
    expect(twice).toEqual([])
    for (const name of names) {
      const serials = first.filter((one) => one.name === name).map(({ serial }) => serial)
      expect([name, serials]).toEqual([name, serials.toSorted((a, b) => a - b)])
    }

    // Removed, nothing is left of them.
    await people.call("stop_instances", { names, remove: true })
    await eventually(
      async () => Number((await people.call("list_instances", {})).total) === 0,
      "all are removed",
      60,
    )
    const rest = (): readonly Process[] =>
      processesOf(world.directory).filter(({ command }) => !/main\.js (serve|mcp)/.test(command))
    await eventually(() => rest().length === 0, "no process is left").catch(() => {})
    expect(rest()).toEqual([])
    for (const uid of uidOf.values())
      expect([uid, existsSync(join(world.state, "instances", uid))]).toEqual([uid, false])
    await watcher.stop()
    expect(watcher.wrong).toEqual([])
    expect(watcher.looks()).toBeGreaterThan(blowsMax)

    const { pid } = roles.serve(processesOf(world.directory))[0] ?? { pid: 0 }
    await people.close()
    process.kill(pid, "SIGTERM")
    await eventually(
      () => roles.serve(processesOf(world.directory)).length === 0,
      "the end of serve",
    )
    const database = new DatabaseSync(join(world.state, "blackbox5.db"), { readOnly: true })
    expect(database.prepare("PRAGMA integrity_check").all()).toEqual([
      expect.objectContaining({ integrity_check: "ok" }),
    ])
    database.close()
    process.stdout.write(
      `chaos: ${mails.length} mails, ${told.size} iterations, blows: ${blows.join(" ")}\n`,
    )
  }, 900_000)
})
