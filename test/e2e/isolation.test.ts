import { spawnSync } from "node:child_process"
import { existsSync, readdirSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { describe, expect, it } from "vitest"
import { z } from "zod"
import { say, use } from "../model/model.ts"
import { eventually, makeWorld, processesOf, standsStill } from "./world.ts"

/**
 * What an agent starts can neither leave its instance nor see the control plane's state, where the
 * kernel has namespaces to give; elsewhere fleet_status has said so. Both are tested on every
 * machine: the policy can turn them off.
 */

const whole = "pid and mount namespaces"
const status = z.object({ isolation: z.string(), warnings: z.array(z.string()) })

interface Seen {
  readonly pid: number
  readonly state: string
}
/** The daemons below, by their command line: no environment names their world. */
const daemonsOf = (directory: string): readonly Seen[] =>
  readdirSync("/proc").flatMap((entry) => {
    const pid = Number(entry)
    if (!Number.isInteger(pid)) return []
    try {
      const command = readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ")
      const stat = readFileSync(`/proc/${pid}/stat`, "latin1")
      const state = stat.charAt(stat.lastIndexOf(")") + 2)
      const one =
        command.startsWith(`${directory}/sleeper `) ||
        command.startsWith(`bash -c (while :; do date +%s%N > ${directory}`)
      return one && state !== "Z" ? [{ pid, state }] : []
    } catch {
      return []
    }
  })
/** Where nothing holds them, a test must end them itself. */
const endDaemons = (directory: string): void => {
  for (const { pid } of daemonsOf(directory)) {
    try {
      process.kill(pid, "SIGKILL")
    } catch {
      // It ended meanwhile.
    }
  }
}

/**
 * By the shortest way: whether this machine gives namespaces to this user, and lets a file system
 * be mounted in them.
 */
const possible = (): boolean => {
  const user = process.geteuid?.() === 0 ? [] : ["--user", "--map-current-user", "--keep-caps"]
  const mount = ["mount", "-t", "tmpfs", "none", "/mnt"]
  return (
    spawnSync("unshare", [...user, "--pid", "--fork", "--mount", "--mount-proc", ...mount])
      .status === 0
  )
}

/**
 * Two daemons that drop parent, session and environment: one sleeps, one (forked twice) writes the
 * moment into a file, again and again.
 */
const daemons = (directory: string): string =>
  [
    `env -i setsid -f bash -c 'exec -a ${directory}/sleeper sleep 3000'`,
    `env -i setsid -f bash -c '(while :; do date +%s%N > ${directory}/heart.new; mv ${directory}/heart.new ${directory}/heart; sleep 0.05; done) & exit'`,
    "sleep 1000",
  ].join("; ")

describe("a daemon that an agent detaches", () => {
  it("stands still with its instance, goes on with it, also under another supervisor, and ends with it", async () => {
    let command = ""
    await using world = await makeWorld(() =>
      use([{ name: "Bash", input: { command, timeout: 600_000 } }]),
    )
    command = daemons(world.directory)
    const { call } = await world.connect()
    const before = status.parse(await call("fleet_status"))
    expect(before.isolation === whole).toBe(possible())
    await call("spawn_instance", { project: "shop", name: "one" })
    const heart = join(world.directory, "heart")
    const beat = (): string => readFileSync(heart, "utf8")
    const ours = (): readonly Seen[] => daemonsOf(world.directory)
    try {
      await eventually(() => existsSync(heart) && ours().length === 2, "both daemons")
      if (before.isolation === "process tree") {
        expect(before.warnings.join()).toContain("neither paused nor stopped")
        return
      }
      const pauseAndResume = async (): Promise<void> => {
        await call("pause_instances", { names: ["one"] })
        await eventually(() => ours().every(standsStill), "the daemons stand still")
        const last = beat()
        await new Promise((resolve) => setTimeout(resolve, 300)) // six of its beats
        expect(beat()).toBe(last)
        await call("resume_instances", { names: ["one"] })
        await eventually(() => beat() !== last, "its heart goes on")
      }
      await pauseAndResume()

      const supervisor = () =>
        processesOf(world.directory).find(({ command: words }) => words.includes("main.js agent"))
      const first = supervisor()?.pid ?? 0
      process.kill(first, "SIGKILL")
      await eventually(() => (supervisor()?.pid ?? first) !== first, "another supervisor")
      await pauseAndResume()
      expect(await call("inspect_instance", { name: "one" })).toMatchObject({
        why: expect.stringMatching(/^In iteration 1 /),
        run: { restarts: 0 },
      })

      await call("stop_instances", { names: ["one"] })
      await eventually(
        async () => (await call("inspect_instance", { name: "one" })).phase === "Stopped",
        "stopped",
      )
      expect(ours()).toEqual([])
    } finally {
      endDaemons(world.directory)
    }
  }, 120_000)

  it("is not held where the policy turns isolation off, and fleet_status says so", async () => {
    let command = ""
    await using world = await makeWorld(
      () => use([{ name: "Bash", input: { command, timeout: 600_000 } }]),
      {
        policy: "isolation: off\n",
      },
    )
    command = daemons(world.directory)
    const { call } = await world.connect()
    const said = status.parse(await call("fleet_status"))
    expect(said.isolation).toBe("process tree")
    expect(said.warnings).toContainEqual(
      expect.stringMatching(/neither paused nor stopped.*policy.yaml turns isolation off/),
    )
    await call("spawn_instance", { project: "shop", name: "one" })
    try {
      await eventually(() => daemonsOf(world.directory).length === 2, "the daemons")
      await call("stop_instances", { names: ["one"] })
      await eventually(
        async () => (await call("inspect_instance", { name: "one" })).phase === "Stopped",
        "stopped",
      )
      expect(daemonsOf(world.directory)).toHaveLength(2)
    } finally {
      endDaemons(world.directory)
    }
  }, 120_000)
})

describe("the state directory, seen by an agent", () => {
  it("holds neither token, database, socket nor other instances' runs, but its own commands and all work trees", async () => {
    let command = ""
    await using world = await makeWorld(({ toolResults }) =>
      toolResults.length === 0
        ? use([{ name: "Bash", input: { command, timeout: 60_000 } }])
        : say("<promise>COMPLETE</promise>"),
    )
    const { call } = await world.connect()
    const { isolation } = status.parse(await call("fleet_status"))
    expect(isolation === whole).toBe(possible())
    const { state, directory } = world
    const token = readFileSync(join(state, "token"), "utf8")
    command = [
      `exec > ${directory}/seen 2>&1`,
      `find ${state}`,
      `cat ${state}/token ${state}/link.key /proc/*/root${state}/token /proc/*/cwd/../../state/token`,
      `test -e ${state}/serve.sock && echo a socket`,
      `touch ${state}/mine; touch ${state}/trees/ours`,
      "command -v claude",
      "echo done",
    ].join("; ")
    const { uid } = z
      .object({ uid: z.string() })
      .parse(await call("spawn_instance", { project: "shop", name: "one" }))
    await eventually(
      async () => (await call("inspect_instance", { name: "one" })).phase === "Completed",
      "completed",
      60,
    )
    const seen = readFileSync(join(directory, "seen"), "utf8")
    const bin = join(world.runOf(uid), "bin")
    expect(seen).toContain(`${bin}/claude\ndone\n`)
    const found = seen
      .split("\n")
      .filter((line) => line.startsWith(`${state}/`) && line !== `${bin}/claude`)
    const hidden = {
      token: !seen.includes(token.trim()),
      socket: !seen.includes("a socket"),
      closed:
        ["mine", "trees/ours"].every((name) => !existsSync(join(state, name))) &&
        /mine.*Read-only file system/.test(seen),
      rest: found.filter(
        (path) =>
          !bin.startsWith(path) && !path.startsWith(`${bin}/`) && !/\/(trees|clones)$/.test(path),
      ),
    }
    if (possible()) expect(hidden).toEqual({ token: true, socket: true, closed: true, rest: [] })
  }, 120_000)
})
