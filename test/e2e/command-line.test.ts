import { execFile, spawn } from "node:child_process"
import { once } from "node:events"
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs"
import { dirname, join } from "node:path"
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest"
import { z } from "zod"
import { launcherScript } from "../../src/roles/shell-command.ts"
import { say } from "../model/model.ts"
import { eventually, main, makeWorld, type World } from "./world.ts"

interface Ended {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}
const programs = ["serve", "mcp", "agent", "loop", "turn", "top", "logs", "doctor", "connect"]

let world: World
beforeAll(async () => {
  world = await makeWorld(() => say("unused"), {
    projects: ["shop", "blog"],
    policy: "loops: { wait: [bash, -c, 'sleep 1000'] }\n",
  })
})
afterAll(() => world[Symbol.asyncDispose]())

/** A line as somebody types it into a shell. */
const shell = (
  line: string,
  more: Record<string, string> = {},
  cwd = world.codeRoot,
): Promise<Ended> =>
  new Promise((resolve) => {
    const env = { ...world.env, NODE: process.execPath, MAIN: main, ...more }
    const child = execFile("bash", ["-c", line], { env, cwd }, (_error, stdout, stderr) =>
      resolve({ code: child.exitCode ?? -1, stdout, stderr }),
    )
  })
/** A line on a terminal, and what is answered there. */
async function onTerminal(
  line: string,
  answer = "",
  more: Record<string, string> = {},
): Promise<{ code: number | null; text: string }> {
  const env = { ...world.env, NODE: process.execPath, MAIN: main, TERM: "xterm-256color", ...more }
  const child = spawn("script", ["-qec", line, "/dev/null"], { env, cwd: world.codeRoot })
  let text = ""
  let answered = answer === ""
  child.stdout.setEncoding("utf8").on("data", (data: string) => {
    text += data
    if (answered || !text.includes("[Y/n]")) return
    answered = true
    child.stdin.write(answer)
  })
  await once(child, "close")
  return { code: child.exitCode, text: text.replaceAll("\r\n", "\n") }
}

describe("what every command has", () => {
  it.each(programs)("%s --help says what it is for, and starts nothing", async (name) => {
    for (const flag of ["--help", "-h"]) {
      const said = await world.cli(name, flag)
      expect(said).toMatchObject({ code: 0, stderr: "" })
      expect(said.stdout).toMatch(
        new RegExp(`^usage: blackbox5 ${name}\\b[\\s\\S]*\\n\\n[A-Z][\\s\\S]*\\.\\n`),
      )
    }
  })

  it.each(programs.filter((name) => name !== "turn"))(
    "%s says how it is called when it was called wrongly",
    async (name) => {
      const said = await world.cli(name, "--nonsense")
      expect(said).toMatchObject({ code: 2, stdout: "" })
      expect(said.stderr).toMatch(
        new RegExp(`^error: Unknown option '--nonsense'[\\s\\S]*\\nusage: blackbox5 ${name}`),
      )
      expect(said.stderr).not.toContain("    at ")
    },
  )

  it("an exit code of its own, whoever stops reading", async () => {
    const piped = 'set -o pipefail; "$NODE" "$MAIN" $ARGS | head -c 1'
    for (const [args, code] of [
      ["help", 0],
      ["list-instances", 0],
      ["list-instances --json", 0],
      ["doctor --help", 0],
    ] as const)
      expect([args, await shell(piped, { ARGS: args })]).toEqual([
        args,
        { code, stdout: expect.stringMatching(/^.$/s), stderr: "" },
      ])
    // Nobody reads from the first moment on.
    expect(await shell('"$NODE" "$MAIN" help | true; echo "$PIPESTATUS"')).toMatchObject({
      stdout: "0\n",
      stderr: "",
    })
    expect(await shell('"$NODE" "$MAIN" help >/dev/full')).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/^error: .*ENOSPC/),
    })
  })

  it("no colours in a pipe, and none where NO_COLOR is set", async () => {
    // biome-ignore lint/suspicious/noControlCharactersInRegex: what colours are made of
    const coloured = /\u001b\[\d/
    for (const args of ["doctor", "help", "list-instances"])
      expect((await world.cli(args)).stdout).not.toMatch(coloured)
    expect((await onTerminal('"$NODE" "$MAIN" doctor')).text).toMatch(coloured)
    expect((await onTerminal('"$NODE" "$MAIN" doctor', "", { NO_COLOR: "1" })).text).not.toMatch(
      coloured,
    )
  })
})

describe("flags", () => {
  const dry = async (...args: string[]): Promise<Record<string, unknown>> => {
    const { stdout, stderr } = await world.cli(
      "spawn-instance",
      "--project",
      "shop",
      "--dry-run",
      "--json",
      ...args,
    )
    return z.record(z.string(), z.unknown()).parse(JSON.parse(stdout || JSON.stringify({ stderr })))
  }

  it("take a budget of dollars as a number, and more as pairs", async () => {
    expect(await dry("--budget", "5")).toMatchObject({ budget: { usd: 5, from: "call" } })
    expect(await dry("--budget", "2.5", "--budget", "iterations=3")).toMatchObject({
      budget: { usd: 2.5, iterations: 3 },
    })
    expect(await dry("--budget", '{"hours":1}')).toMatchObject({ budget: { hours: 1 } })
    expect(
      (await world.cli("spawn-instance", "--project", "shop", "--budget", "five")).stderr,
    ).toMatch(/^error: budget/)
  })

  it("take labels as pairs, together or one by one, which a selector finds again", async () => {
    const spawned = [
      "--project",
      "blog",
      "--loop",
      "wait",
      "--name",
      "labelled",
      "--labels",
      "team=web,tier=db",
      "--labels",
      "old=",
    ]
    expect(await world.cli("spawn-instance", ...spawned)).toMatchObject({ code: 0 })
    const { stdout } = await world.cli(
      "inspect-instance",
      "labelled",
      "--sections",
      "spec,mail",
      "--json",
    )
    const labels = expect.stringMatching(/^<untrusted-\w+>\nteam=web, tier=db, old=\n</)
    expect(JSON.parse(stdout)).toMatchObject({
      spec: { untrusted: { labels } },
      mail: { messages: [] },
    })
    expect((await world.cli("list-instances", "--selector", "team=web")).stdout).toContain(
      "labelled",
    )
    await world.cli("message-instances", "labelled", "--text", "Use euros.", "--wait-seconds", "0")
    const shown = (
      await world.cli("inspect-instance", "labelled", "--sections", "spec,mail,events")
    ).stdout
    expect(shown).toMatch(
      /\nMessages\nm-\S+ from operator \S+, .*:\nUse euros\.\n\nDeclared\n[\s\S]*\nlabels: team=web, tier=db/,
    )
    expect(shown).toMatch(/\nEvents\n[\s\S]*Z Spawned /)
    expect(shown).not.toContain("untrusted")
    expect(await world.cli("stop-instances", "labelled", "--remove")).toMatchObject({ code: 0 })
  }, 60_000)

  it("that are missing are named before anything is called", async () => {
    expect(await world.cli("message-instances", "--to", "a")).toMatchObject({
      ...{ code: 2, stdout: "" },
      stderr: expect.stringMatching(
        /^error: message-instances needs --text\.\nnext: .* message-instances --help\n$/,
      ),
    })
  })
})

describe("a bare spawn-instance", () => {
  it("starts nothing, and says what to type", async () => {
    const before = (await world.cli("list-instances", "--json")).stdout
    const said = await world.cli("spawn-instance")
    expect(said).toMatchObject({ code: 2, stdout: "" })
    expect(said.stderr).toMatch(
      /^error: What should the agent work on\?.*\nnext: .* spawn-instance --project NAME --goal "…"\n$/,
    )
    expect(await world.cli("spawn-instance", "--budget", "5")).toMatchObject({ code: 2 })
    const { code, text } = await onTerminal('"$NODE" "$MAIN" spawn-instance')
    expect(code).toBe(2)
    expect(text).toMatch(
      /Projects: (blog, shop|shop, blog)\nnext: .* --project (blog|shop) --goal "…"\n/,
    )
    expect((await world.cli("list-instances", "--json")).stdout).toBe(before)
  })
})

describe("a wait", () => {
  it("ends with 0 when it is so, with 3 when it is not, and with 1 when it cannot be", async () => {
    await world.cli("spawn-instance", "--project", "shop", "--name", "waits", "--loop", "wait")
    const wait = (...args: string[]) =>
      world.cli("wait-for-instances", "waits", "--timeout-seconds", "0", ...args)
    expect(await wait("--until", "finished")).toMatchObject({
      code: 3,
      stdout: expect.stringMatching(/^Not yet/),
    })
    await world.cli("stop-instances", "waits")
    await eventually(async () => (await wait("--until", "finished")).code === 0, "the end of waits")
    expect(await world.cli("wait-for-instances", "nobody", "--timeout-seconds", "0")).toMatchObject(
      { code: 1 },
    )
    expect((await world.cli("wait-for-instances", "--help")).stdout).toMatch(/Exit code: .*3/)
  }, 60_000)
})

describe("what to do next", () => {
  it("is a line that a shell takes as it is", async () => {
    await world.cli("spawn-instance", "--project", "shop", "--name", "hinted", "--loop", "wait")
    const paused = await world.cli("pause-instances", "hinted")
    const line =
      /`(\S+ \S+main\.js resume-instances --batch [^`]+)`/.exec(paused.stdout)?.[1] ?? "false"
    expect(await shell(line)).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(/^1 of 1 instance resumed/),
    })
    const gone = await world.cli("inspect-instance", "nobody")
    expect(gone.stderr).toMatch(
      /^error: There is no instance nobody\.\nnext: `\S+ \S+main\.js list-instances` shows those that exist/,
    )
    // To programs it stays a call.
    const json: unknown = JSON.parse(
      (await world.cli("inspect-instance", "hinted", "--json")).stdout,
    )
    expect(JSON.stringify(json)).toMatch(
      /inspect_instance|message_instances|read_logs|Nothing to do/,
    )
    const { stderr } = await world.cli("list-instance")
    expect(await shell(/next: (.*)/.exec(stderr)?.[1] ?? "false")).toMatchObject({
      code: 0,
      stdout: expect.stringContaining("hinted"),
    })
    expect((await world.cli("xyzzy")).stderr).toMatch(
      /next: Run `\S+ \S+main\.js help` for the list/,
    )
    await world.cli("stop-instances", "hinted", "--remove")
  }, 60_000)

  it("names no package of somebody else", async () => {
    const tracked = (
      await shell("git ls-files src tools bundle README.md", {}, join(dirname(main), ".."))
    ).stdout
      .trim()
      .split("\n")
    const root = join(dirname(main), "..")
    expect(tracked.length).toBeGreaterThan(50)
    expect(
      tracked.filter((file) => readFileSync(join(root, file), "utf8").includes("npx blackbox5")),
    ).toEqual([])
  })
})

describe("the command blackbox5", () => {
  let home: string
  let env: Record<string, string>
  const command = (): string => join(home, ".local/bin/blackbox5")
  beforeEach(() => {
    home = join(world.directory, `home of "me" #${Math.trunc(performance.now())}`)
    mkdirSync(home)
    env = { HOME: home, PATH: `${home}/.local/bin:/usr/bin:/bin` }
  })
  const connect = (args: string) => shell(`"$NODE" "$MAIN" connect ${args}`, env)
  const finding = async (): Promise<unknown> => {
    const { stdout } = await shell('"$NODE" "$MAIN" doctor --json', env)
    const { findings } = z
      .object({ findings: z.array(z.looseObject({ check: z.string() })) })
      .parse(JSON.parse(stdout))
    return findings.find(({ check }) => check === "command")
  }

  it("is made by connect, works from anywhere, and is what hints then say", async () => {
    expect(await finding()).toMatchObject({
      state: "warn",
      next: expect.stringContaining("connect shell"),
    })
    expect(await connect("shell")).toMatchObject({
      code: 0,
      stderr: "",
      stdout: expect.stringContaining(command()),
    })
    expect(statSync(command()).mode & 0o777).toBe(0o755)
    expect(await shell("blackbox5 --version", env, "/")).toMatchObject({ code: 0, stderr: "" })
    expect((await shell("blackbox5 inspect-instance nobody", env)).stderr).toContain(
      "next: `blackbox5 list-instances` shows those that exist",
    )
    expect((await shell("blackbox5 help", env)).stdout).not.toContain(main)
    expect(await finding()).toMatchObject({ state: "ok" })
    expect(await connect("shell")).toMatchObject({
      code: 0,
      stdout: expect.stringContaining("already"),
    })
    expect(await connect("shell --remove")).toMatchObject({ code: 0 })
    expect(existsSync(command())).toBe(false)
  }, 60_000)

  it("runs whatever path it was made for, and says so when that is gone", async () => {
    const odd = join(home, 'it\'s a "checkout" of $HOME `x`')
    mkdirSync(odd)
    const program = join(odd, "main.js")
    writeFileSync(program, "console.log(JSON.stringify(process.argv.slice(2)))\n")
    mkdirSync(dirname(command()), { recursive: true })
    writeFileSync(command(), launcherScript([process.execPath, program]))
    chmodSync(command(), 0o755)
    expect(await shell("blackbox5 a 'b c' ''", env)).toMatchObject({
      code: 0,
      stdout: '["a","b c",""]\n',
    })
    renameSync(odd, `${odd} elsewhere`)
    expect(await shell("blackbox5 top", env)).toMatchObject({
      code: 127,
      stderr: expect.stringContaining(`${program}, which no longer exists`),
    })
    expect(await finding()).toMatchObject({
      state: "warn",
      what: expect.stringContaining("which no longer exists"),
    })
    // It is ours: it is made anew.
    expect(await connect("shell")).toMatchObject({ code: 0 })
    expect(await shell("blackbox5 --version", env)).toMatchObject({ code: 0 })
  }, 60_000)

  it("never takes the place of somebody else's file, nor deletes it", async () => {
    mkdirSync(dirname(command()), { recursive: true })
    writeFileSync(command(), "#!/bin/sh\necho mine\n", { mode: 0o755 })
    for (const args of ["shell", "shell --remove"])
      expect(await connect(args)).toMatchObject({
        code: 1,
        stderr: expect.stringContaining("Nothing was changed"),
      })
    expect(readFileSync(command(), "utf8")).toContain("echo mine")
    expect(await finding()).toMatchObject({
      state: "warn",
      what: expect.stringContaining("not this one"),
    })
    // What the PATH finds is not this program, so hints do not name it.
    expect((await shell('"$NODE" "$MAIN" inspect-instance nobody', env)).stderr).toContain(main)
  }, 60_000)

  it("says when its directory is not on the PATH", async () => {
    env = { ...env, PATH: "/usr/bin:/bin" }
    expect((await connect("shell")).stdout).toMatch(
      /is not on your PATH\.[\s\S]*export PATH="\$HOME\/\.local\/bin:\$PATH"/,
    )
    expect(await finding()).toMatchObject({
      state: "warn",
      what: expect.stringContaining("not on your PATH"),
    })
    expect((await shell('"$NODE" "$MAIN" inspect-instance nobody', env)).stderr).toContain(main)
  }, 60_000)

  it("is offered by serve, which serves meanwhile and goes on", async () => {
    const state = join(home, "state")
    const running = onTerminal('"$NODE" "$MAIN" serve', "y\n", { ...env, BLACKBOX5_STATE: state })
    await eventually(() => existsSync(command()), "the command")
    expect((await shell("blackbox5 fleet-status", { ...env, BLACKBOX5_STATE: state })).code).toBe(0)
    const { pid } = z
      .object({ pid: z.number() })
      .parse(JSON.parse(readFileSync(join(state, "serve.json"), "utf8")))
    process.kill(pid, "SIGTERM")
    const { code, text } = await running
    expect([code, text]).toEqual([
      0,
      expect.stringContaining(`Installed the command blackbox5 at ${command()}.`),
    ])
  }, 60_000)

  it("is offered where somebody can answer; elsewhere the line that makes it is printed", async () => {
    const line = '"$NODE" "$MAIN" connect claude-desktop'
    const piped = await shell(line, env)
    const made = /run:\n {2}(.*)\n/.exec(piped.stdout)?.[1] ?? "false"
    expect(existsSync(command())).toBe(false)
    expect((await onTerminal(line, "n\n", env)).text).toContain("connect shell")
    expect(existsSync(command())).toBe(false)
    const asked = await onTerminal(line, "\n", env)
    expect(asked.text).toContain(`Installed the command blackbox5 at ${command()}.`)
    expect(existsSync(command())).toBe(true)
    // Once it is there, nobody is asked again.
    expect((await onTerminal(line, "", env)).text).not.toContain("[Y/n]")
    rmSync(command())
    expect(await shell(made, env, "/")).toMatchObject({ code: 0 })
    expect(existsSync(command())).toBe(true)
  }, 60_000)
})
