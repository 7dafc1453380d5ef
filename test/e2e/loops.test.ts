import { execFileSync } from "node:child_process"
import { chmodSync, copyFileSync, mkdirSync, rmSync, writeFileSync } from "node:fs"
import { dirname, join } from "node:path"
import { describe, expect, it, vi } from "vitest"
import { z } from "zod"
import { type ModelRequest, say, use } from "../model/model.ts"
import { git, type Layout, loopFixture, scriptOf } from "./code-root.ts"
import {
  claudeDirectory,
  eventually,
  type McpClient,
  makeWorld,
  processesOf,
  standsStill,
  type World,
} from "./world.ts"

/** Whole agents under loops of every shape, and other tests beside them. */
vi.setConfig({ testTimeout: 300_000 })

const bash = (command: string) => ({
  name: "Bash",
  input: { command, description: command.slice(0, 40) },
})
const seenSchema = z.looseObject({
  phase: z.string(),
  why: z.string(),
  usage: z.object({ tokens: z.number(), iterations: z.number() }),
  run: z.looseObject({ restarts: z.number(), loop: z.string().optional() }).optional(),
})
const inspect = async ({ call }: McpClient, name: string) =>
  seenSchema.parse(await call("inspect_instance", { name }))
const reaches = (client: McpClient, name: string, phase: string) =>
  eventually(async () => {
    const seen = await inspect(client, name)
    return seen.phase === phase && seen
  }, `${name} is ${phase}`)

interface Shape {
  readonly what: string
  /** Makes the loop; what a spawn is asked for beside the project. */
  prepare(world: World): { loop?: string }
  readonly layout?: Layout
  /** How many of its claudes say that all is done before it ends. */
  readonly completions: number
  /** What else must stand still. */
  readonly holds?: RegExp
}
/** A loop of the policy that stands in the code root, named by a relative path. */
const inCodeRoot = (world: World, name: string, text?: string): { loop: string } => {
  const path = join(world.codeRoot, `tools/${name}-loop.sh`)
  mkdirSync(dirname(path), { recursive: true })
  if (text === undefined) copyFileSync(loopFixture(name), path)
  else writeFileSync(path, text)
  chmodSync(path, 0o755)
  world.policy(`turnsMax: 2\nloops:\n  ${name}: [tools/${name}-loop.sh, "{project}"]\n`)
  return { loop: name }
}
const until = (claude: string): string => `#!/bin/bash
cd "$1" || exit 1
printf 'Go on.' > ../prompt.txt
while true; do
  ${claude}
  cat ../out
  grep -q '<promise>COMPLETE</promise>' ../out && exit 0
  sleep "$LOOP_PAUSE"
done
`
/** As people do who want to look: the pane is an interactive login shell, and is typed into. */
const typed = `rm -f ../done
  tmux new-session -d -s "typed-$$" -x 300 2> /dev/null
  tmux send-keys -t "typed-$$" "claude -p --dangerously-skip-permissions < $PWD/../prompt.txt > $PWD/../out 2>&1; touch $PWD/../done" Enter
  while [ ! -e ../done ]; do sleep 0.2; done`

const shapes: readonly Shape[] = [
  { what: "the engine's", layout: "engine", prepare: () => ({}), completions: 1 },
  { what: "the classic one", layout: "classic", prepare: () => ({}), completions: 1 },
  {
    what: "the built-in one",
    layout: "engine",
    prepare(world) {
      rmSync(join(world.codeRoot, scriptOf("engine")))
      return {}
    },
    completions: 1,
  },
  {
    what: "claudes side by side in the background",
    prepare: (world) => inCodeRoot(world, "background"),
    completions: 2,
  },
  {
    what: "claude in tmux panes",
    prepare: (world) => inCodeRoot(world, "tmux"),
    completions: 1,
    holds: /^tmux new-session/,
  },
  {
    // There nothing but its environment tells whose daemon the server is.
    what: "claude in tmux panes, without namespaces",
    prepare(world) {
      const more = inCodeRoot(world, "tmux")
      world.policy(`isolation: off\nloops: { tmux: [tools/tmux-loop.sh, "{project}"] }\n`)
      return more
    },
    completions: 1,
    holds: /^tmux new-session/,
  },
  {
    what: "claude typed into a tmux pane",
    prepare(world) {
      // What a profile does on many machines: PATH anew, with the real claude on it.
      const path = `PATH=${claudeDirectory}:/usr/local/bin:/usr/bin:/bin\n`
      writeFileSync(
        join(world.env.HOME ?? "", ".profile"),
        `${path}alias claude=${join(claudeDirectory, "claude")}\n`,
      )
      return inCodeRoot(world, "typed", until(typed))
    },
    completions: 1,
    holds: /^tmux new-session/,
  },
  {
    what: "claude in screen",
    prepare: (world) =>
      inCodeRoot(
        world,
        "screen",
        until(
          `screen -DmS "s-$$" sh -c 'claude -p --dangerously-skip-permissions < ../prompt.txt > ../out 2>&1'`,
        ),
      ),
    completions: 1,
    holds: /^SCREEN/i,
  },
  {
    what: "claude under timeout, the prompt as an argument",
    prepare: (world) =>
      inCodeRoot(
        world,
        "timeout",
        until(
          `timeout 600 claude -p --dangerously-skip-permissions "$(cat ../prompt.txt)" > ../out`,
        ),
      ),
    completions: 1,
  },
]

describe("a loop of any shape keeps every promise", () => {
  it.each(shapes)(
    "$what: turn, mail now, pause, budget, completion, stop",
    async ({ prepare, layout, completions, holds }) => {
      const sessions: string[] = []
      let go = ""
      let busy = false
      const script = ({ session = "", text }: ModelRequest) => {
        if (!sessions.includes(session)) sessions.push(session)
        const iteration = sessions.indexOf(session) + 1
        if (busy) return use([bash("sleep 1000 > /dev/null 2>&1 & sleep 1000")])
        if (iteration === 1) {
          if (!text.includes("use euros")) return use([bash("sleep 0.2")])
          if (!text.includes("step two"))
            return use([bash(`while [ ! -e ${go} ]; do sleep 0.1; done`)], { text: "step two" })
        }
        return say(iteration <= 2 ? "Status: PARTIAL" : "All is done.\n<promise>COMPLETE</promise>")
      }
      await using person = personsTmux()
      await using world = await makeWorld(script, { ...(layout && { layout }), env: person.env })
      go = join(world.directory, "go")
      const more = prepare(world)
      // What is not ours: the control plane's, and the person's own tmux.
      const agents = () =>
        processesOf(world.directory).filter(
          ({ command }) => !/main\.js (serve|agent|mcp)/.test(command),
        )
      const running = () => {
        const all = agents()
        const shims = new Set(
          all.filter(({ command }) => command.includes("main.js turn")).map(({ pid }) => pid),
        )
        return all.filter(
          ({ parent, command }) => shims.has(parent) && command.includes("--settings"),
        )
      }
      const client = await world.connect()
      const { call } = client

      // Turn: one claude works, and knows its goal.
      await call("spawn_instance", {
        project: "shop",
        name: "one",
        goal: "Sell things.",
        budget: { iterations: 2 },
        ...more,
      })
      await eventually(() => sessions.length > 0, "the first request")
      expect(world.model.requests[0]?.text).toContain("Sell things.")
      expect((await reaches(client, "one", "Running")).why).toContain("In iteration 1")

      // Mail now.
      const sent = await call("message_instances", {
        to: ["one"],
        text: "Please use euros.",
        urgency: "now",
        waitSeconds: 50,
      })
      expect(sent.receipts).toMatchObject([
        { state: "delivered", note: expect.stringMatching(/iteration 1\b.*PostToolUse/) },
      ])

      // Pause: all stands still, the multiplexer's server too.
      await eventually(
        () => agents().some(({ command }) => command.includes("while [")),
        "the long command",
      )
      expect(running()).toHaveLength(1)
      await call("pause_instances", { names: ["one"] })
      await eventually(() => agents().every(standsStill), "every process stands still")
      if (holds)
        expect(agents().map(({ command }) => command)).toContainEqual(expect.stringMatching(holds))
      await eventually(
        async () => (await inspect(client, "one")).why.includes("are frozen"),
        "the pause is confirmed",
      )
      await call("resume_instances", { names: ["one"] })
      writeFileSync(go, "")

      // Budget: after two iterations no claude begins.
      await reaches(client, "one", "BudgetReached")
      expect(sessions).toHaveLength(2)
      await call("update_instance", { name: "one", budget: { iterations: 50 } })

      // Completion, with the right count of everything.
      const done = await reaches(client, "one", "Completed")
      expect(sessions).toHaveLength(2 + completions)
      const { input, output, cacheRead, cacheWrite } = world.model.billed
      expect(done.usage).toMatchObject({
        iterations: 2 + completions,
        tokens: input + output + cacheRead + cacheWrite,
      })
      await eventually(() => agents().length === 0, "nothing is left of it")

      // Stop: nothing is left, whoever started it.
      busy = true
      await call("resume_instances", { names: ["one"] })
      await eventually(
        () => agents().some(({ command }) => command.startsWith("sleep 1000")),
        "it works again",
      )
      await call("stop_instances", { names: ["one"] })
      await reaches(client, "one", "Stopped")
      expect(agents()).toEqual([])
      expect(person.sessions()).toEqual(["mine: 1"])
    },
  )
})

/**
 * A person's own tmux and screen, in which serve is started: their server listens, and the
 * environment leads to it.
 */
function personsTmux() {
  const directory = execFileSync("mktemp", ["-d", "/tmp/bb5-person-XXXXXX"], {
    encoding: "utf8",
  }).trim()
  const own = {
    PATH: process.env.PATH ?? "",
    HOME: directory,
    TMUX_TMPDIR: directory,
    SHELL: "/bin/bash",
  }
  const tmux = (...args: readonly string[]): string =>
    execFileSync("tmux", args, { env: own, encoding: "utf8" }).trim()
  tmux("new-session", "-d", "-s", "mine", "sleep 100000")
  const [socket, pid] = tmux("display-message", "-p", "#{socket_path} #{pid}").split(" ")
  return {
    env: {
      TMUX: `${socket},${pid},0`,
      TMUX_PANE: "%0",
      TMUX_TMPDIR: directory,
      STY: "1.mine",
      SCREENDIR: directory,
      SHELL: "/bin/bash",
    },
    sessions: () => tmux("list-sessions", "-F", "#{session_name}: #{session_windows}").split("\n"),
    async [Symbol.asyncDispose]() {
      tmux("kill-server")
      rmSync(directory, { recursive: true, force: true })
    },
  }
}

describe("the end of a loop", () => {
  const markers = "turnsMax: 1\nloops:\n"
  it("is no completion while the agent has not said so, and no crash: the loop is started again at once", async () => {
    let iterations = 0
    await using world = await makeWorld(
      () => say(++iterations < 3 ? "Status: PARTIAL" : "<promise>COMPLETE</promise>"),
      {
        policy: `${markers}  short: { command: [sh, -c, "echo go | claude -p; exit 0"], completion: marker }\n`,
      },
    )
    const client = await world.connect()
    await client.call("spawn_instance", { project: "shop", name: "one", loop: "short" })
    const done = await reaches(client, "one", "Completed")
    expect(iterations).toBe(3)
    expect(done.run?.restarts).toBe(0)
  })

  it("completes a loop of the policy by its exit code, unless that chose the agent's word", async () => {
    await using world = await makeWorld(() => say("Status: PARTIAL"), {
      policy: `${markers}  short: [sh, -c, "echo go | claude -p; exit 0"]\n`,
    })
    const client = await world.connect()
    await client.call("spawn_instance", { project: "shop", name: "one", loop: "short" })
    expect((await reaches(client, "one", "Completed")).usage.iterations).toBe(1)
  })

  it("is a failure when claude never ran, whatever the exit code is", async () => {
    await using world = await makeWorld(() => say("never asked"), {
      policy: `${markers}  nothing: ["true"]\n`,
    })
    const client = await world.connect()
    await client.call("spawn_instance", { project: "shop", name: "one", loop: "nothing" })
    const failed = await reaches(client, "one", "CrashLoop")
    expect(failed.why).toMatch(/ended without running claude \(exit code 0\).* started 4 times/)
    const { events } = z
      .object({ events: z.array(z.object({ untrusted: z.string() })) })
      .parse(await client.call("read_events", { kinds: ["Exited"] }))
    expect(events[0]?.untrusted).toContain("ended without running claude (exit code 0)")
  })
})

describe("which loop was taken", () => {
  const loopOf = async (world: World, client: McpClient, name: string): Promise<string> => {
    const spawned = z
      .looseObject({ loop: z.string() })
      .parse(await client.call("spawn_instance", { project: "shop", name }))
    const seen = await eventually(
      async () => (await inspect(client, name)).run?.loop,
      "the loop is told",
    )
    expect(seen).toBe(spawned.loop)
    const { stdout } = await world.cli("doctor")
    expect(stdout).toContain(spawned.loop.replace("its own work tree of ", ""))
    return spawned.loop
  }
  const working = () => use([bash("sleep 1000")])

  it("is told by spawn_instance, inspect_instance and doctor, with where it stands", async () => {
    await using world = await makeWorld(working, { layout: "engine" })
    const client = await world.connect()
    expect(await loopOf(world, client, "one")).toBe(
      `2-engine/.autonomous/shell/ralf-loop.sh in ${world.codeRoot}`,
    )
    expect(await loopOf(world, client, "two")).toBe(
      `2-engine/.autonomous/shell/ralf-loop.sh in its own work tree of ${world.codeRoot}`,
    )
    rmSync(join(world.codeRoot, scriptOf("engine")))
    expect(await loopOf(world, client, "three")).toMatch(
      /^built-in; .* has no 2-engine\/.* and no bin\/ralf-tools\/ralf-loop\.sh$/,
    )
  })

  it("works on its own tree when it takes no project: the script of that tree runs, commits there, and not in the person's", async () => {
    await using world = await makeWorld(
      ({ toolResults, text }) =>
        text.includes("Write a line") && toolResults.length === 0
          ? use([bash('cd "$RALF_PROJECT_DIR" && echo text >> README.md')])
          : toolResults.length === 0
            ? use([bash("sleep 1000")])
            : say("Status: PARTIAL"),
      { layout: "classic" },
    )
    const client = await world.connect()
    await client.call("spawn_instance", { project: "shop", name: "one" })
    await reaches(client, "one", "Running")
    await client.call("spawn_instance", { project: "shop", name: "two", goal: "Write a line." })
    await eventually(
      () =>
        git(world.codeRoot, "log", "--format=%s", "ralf/two").includes(
          "ralf: autonomous improvements 1",
        ),
      "the script's own commit",
    )
    expect(git(world.codeRoot, "show", "--name-only", "--format=", "ralf/two")).toBe(
      "5-project-memory/shop/README.md",
    )
    expect(git(world.codeRoot, "log", "--format=%s", "main")).toBe("Begin")
    expect(git(world.codeRoot, "status", "--porcelain")).toBe("")
  })
})
