import { execFile } from "node:child_process"
import { once } from "node:events"
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  writeFileSync,
} from "node:fs"
import type { AddressInfo } from "node:net"
import { createServer } from "node:net"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { z } from "zod"
import { checkHooks, checkRoot } from "../../src/roles/doctor/claude.ts"
import { checkSpace } from "../../src/roles/doctor/machine.ts"
import { version } from "../../src/settings/version.ts"
import { say } from "../model/model.ts"
import { main, makeWorld, processesOf, type World } from "./world.ts"

const report = z.object({
  ok: z.boolean(),
  findings: z.array(
    z.object({
      check: z.string(),
      state: z.string(),
      what: z.string(),
      next: z.string().optional(),
    }),
  ),
})

describe("doctor", () => {
  let world: World
  /** A PATH with a claude that is quick to answer, for what has nothing to do with it. */
  let quick: string
  beforeAll(async () => {
    world = await makeWorld(() => say("unused"))
    const bin = join(world.directory, "quick")
    mkdirSync(bin)
    const script =
      'case $1 in auth) echo \'{"loggedIn":true}\';; --help) echo "  auth  Manage";; *) echo 2.1.0;; esac'
    writeFileSync(join(bin, "claude"), `#!/bin/sh\n${script}\n`, { mode: 0o700 })
    quick = `${bin}:/usr/bin:/bin`
  })
  afterAll(() => world[Symbol.asyncDispose]())

  const run = (
    args: readonly string[],
    more: Record<string, string | undefined> = {},
    cwd = world.directory,
  ) =>
    new Promise<{ code: number; stdout: string; stderr: string }>((resolve) => {
      const env = { ...world.env, BLACKBOX5_PORT: "0", ...more }
      const child = execFile(
        process.execPath,
        [main, "doctor", ...args],
        { env, cwd },
        (_error, stdout, stderr) => resolve({ code: child.exitCode ?? -1, stdout, stderr }),
      )
    })
  /** What it says of one thing. */
  const said = async (check: string, more: Record<string, string | undefined> = {}) => {
    const { code, stdout } = await run(["--json"], { PATH: quick, ...more })
    const { ok, findings } = report.parse(JSON.parse(stdout))
    expect([code, ok]).toEqual(
      findings.some(({ state }) => state === "FAIL") ? [1, false] : [0, true],
    )
    return findings.filter((finding) => finding.check === check)
  }

  it("says that agents can work where they can, in a line for each thing, and starts and makes nothing", async () => {
    const state = join(world.directory, "a state that is not there yet")
    const before = processesOf(world.directory).length
    const { code, stdout, stderr } = await run([], { BLACKBOX5_STATE: state })
    expect(stderr).toBe("")
    const lines = stdout.trimEnd().split("\n")
    expect(lines.at(-1)).toBe("This machine is ready for agents.")
    expect(code).toBe(0)
    for (const line of lines.slice(0, -1)) expect(line).toMatch(/^(ok {2}|warn) {2}\S/)
    const checks = [
      "node",
      "settings",
      "policy",
      "claude",
      "login",
      "user",
      "hooks",
      "git",
      "identity",
      "command",
      "code root",
      "isolation",
    ]
    for (const check of [...checks, "state", "socket", "disk", "serve", "port"])
      expect(lines.filter((line) => line.slice(6).startsWith(`${check} `))).not.toEqual([])
    expect(stdout).toContain(`${world.codeRoot}: shop`)
    expect(stdout).not.toContain("\u001b")
    expect(stdout).not.toContain("scripted") // the key in the environment
    expect(existsSync(state)).toBe(false)
    expect(world.model.requests).toEqual([])
    expect(processesOf(world.directory)).toHaveLength(before)
  })

  it("fails, with what to do, for a claude that is not there, does not run, or knows nobody", async () => {
    const fail = (next: RegExp) => [{ state: "FAIL", next: expect.stringMatching(next) }]
    // git and unshare are where they were.
    expect(await said("claude", { PATH: "/usr/bin:/bin" })).toMatchObject(
      fail(/npm install -g @anthropic-ai\/claude-code/),
    )
    const bin = join(world.directory, "bin")
    mkdirSync(bin)
    writeFileSync(join(bin, "claude"), "#!/bin/sh\necho broken >&2\nexit 1\n", { mode: 0o700 })
    expect(await said("claude", { PATH: `${bin}:/usr/bin:/bin` })).toMatchObject(
      fail(/Reinstall it/),
    )
    expect(
      await said("login", { PATH: world.env.PATH ?? "", ANTHROPIC_API_KEY: "", HOME: bin }),
    ).toMatchObject(fail(/claude auth login/))
    // An older one that takes any word for a prompt is not given one.
    writeFileSync(
      join(bin, "claude"),
      `#!/bin/sh\ncase $1 in --*) echo 1.0.0;; *) touch ${bin}/asked;; esac\n`,
    )
    expect(await said("login", { PATH: `${bin}:/usr/bin:/bin` })).toMatchObject([{ state: "warn" }])
    expect(existsSync(join(bin, "asked"))).toBe(false)
  })

  it("finds a claude that is on the login shell's PATH alone, as apps of a desktop need it", async () => {
    const home = join(world.directory, "home of an app")
    const bin = join(home, "homebrew")
    mkdirSync(bin, { recursive: true })
    writeFileSync(join(bin, "claude"), "#!/bin/sh\necho 2.9.9\n", { mode: 0o700 })
    for (const profile of [".profile", ".bash_profile", ".zprofile"])
      writeFileSync(join(home, profile), `echo Welcome.\nPATH="${bin}:$PATH"\n`)
    expect(await said("claude", { PATH: "/usr/bin:/bin", HOME: home })).toMatchObject([
      { state: "ok", what: `2.9.9 at ${join(bin, "claude")}` },
    ])
  })

  it("fails for a git that is not there", async () => {
    const bin = join(world.directory, "bin without git")
    mkdirSync(bin)
    expect(await said("git", { PATH: bin })).toMatchObject([
      { state: "FAIL", next: expect.stringContaining("Install git") },
    ])
  })

  it("asks git by whom commits will be, as agents will have it", async () => {
    const unset = { GIT_AUTHOR_NAME: undefined, GIT_AUTHOR_EMAIL: undefined }
    const bare = { ...unset, GIT_COMMITTER_NAME: undefined, GIT_COMMITTER_EMAIL: undefined }
    const home = join(world.directory, "home of nobody")
    mkdirSync(home)
    // Whatever the machine's own name is, git makes nothing up.
    writeFileSync(join(home, ".gitconfig"), "[user]\n\tuseConfigOnly = true\n")
    expect(await said("identity", { ...bare, HOME: home })).toMatchObject([
      {
        state: "FAIL",
        what: expect.stringContaining("refuse every commit"),
        next: expect.stringContaining("user.email"),
      },
    ])
    expect(await said("identity")).toMatchObject([
      { state: "ok", what: "commits are by RALF <ralf@example.invalid>" },
    ])
    writeFileSync(join(home, ".gitconfig"), "[user]\n\tname = Ann\n\temail = ann@example.invalid\n")
    expect(await said("identity", { ...bare, HOME: home })).toMatchObject([
      { state: "ok", what: "commits are by Ann <ann@example.invalid>" },
    ])
  })

  it("names the line of a policy that is none, and the setting that cannot be", async () => {
    const config = join(world.directory, "broken config")
    mkdirSync(config)
    writeFileSync(join(config, "policy.yaml"), "instancesMax: 3\nturnsMax: many\n")
    expect(await said("policy", { BLACKBOX5_CONFIG: config })).toMatchObject([
      {
        state: "FAIL",
        what: expect.stringMatching(/broken config\/policy\.yaml: line 2: turnsMax/),
      },
    ])
    expect(
      await said("settings", { BLACKBOX5_STATE: join(world.directory, "a\nb") }),
    ).toMatchObject([
      {
        state: "FAIL",
        what: expect.stringContaining("line break"),
        next: expect.stringContaining("Move it"),
      },
    ])
    expect(await said("settings", { BLACKBOX5_PORT: "http" })).toMatchObject([{ state: "FAIL" }])
  })

  it("looks at the code root, its projects and its loop script", async () => {
    expect(await said("code root", { BLACKBOX5_CODE_ROOT: "" })).toMatchObject([{ state: "warn" }])
    expect(
      await said("code root", { BLACKBOX5_CODE_ROOT: join(world.directory, "gone") }),
    ).toMatchObject([{ state: "FAIL" }])
    const script = join(world.codeRoot, "2-engine/.autonomous/shell/ralf-loop.sh")
    chmodSync(script, 0o600)
    // Root may not execute it either.
    expect(await said("loop")).toMatchObject([
      { state: "FAIL", next: expect.stringContaining(`chmod +x ${script}`) },
    ])
    chmodSync(script, 0o700)
    expect(await said("loop")).toMatchObject([
      { state: "ok", what: `2-engine/.autonomous/shell/ralf-loop.sh in ${world.codeRoot}` },
    ])
  })

  it("looks at the state directory", async () => {
    const open = join(world.directory, "open")
    mkdirSync(open)
    chmodSync(open, 0o755)
    expect(await said("state", { BLACKBOX5_STATE: open })).toMatchObject([
      { state: "warn", next: expect.stringContaining(`chmod 700 ${open}`) },
    ])
    const file = join(world.directory, "file")
    writeFileSync(file, "")
    expect(await said("state", { BLACKBOX5_STATE: join(file, "below") })).toMatchObject([
      { state: "FAIL" },
    ])
  })

  it("tells whether the port is free, and whether serve runs, which version, and whether it answers", async () => {
    const other = createServer().listen(0, "127.0.0.1")
    await once(other, "listening")
    const port = (other.address() as AddressInfo).port // TCP, so no path
    expect(await said("port", { BLACKBOX5_PORT: String(port) })).toMatchObject([{ state: "FAIL" }])
    other.close()
    await world.cli("fleet-status")
    const pid = world.servePid()
    expect(await said("serve")).toMatchObject([
      {
        state: "ok",
        what: expect.stringContaining(`version ${version} is running as process ${pid}`),
      },
    ])
    expect(await said("port", { BLACKBOX5_PORT: "" })).toMatchObject([
      { state: "ok", what: expect.stringContaining("is used by serve") },
    ])
    process.kill(pid, "SIGSTOP")
    expect(await said("serve")).toMatchObject([
      { state: "FAIL", next: expect.stringContaining(`kill -CONT ${pid}`) },
    ])
    process.kill(pid, "SIGCONT")
    expect(readdirSync(world.state).filter((name) => name.startsWith("serve.start"))).toEqual([])
  })

  it("takes no words it does not know", async () => {
    expect(await run(["--fix"])).toMatchObject({
      code: 2,
      stderr: expect.stringContaining("usage: blackbox5 doctor"),
    })
  })
})

describe("what doctor makes of", () => {
  it("root", () => {
    expect(checkRoot(1000, {}).state).toBe("ok")
    expect(checkRoot(0, { IS_SANDBOX: "1" }).state).toBe("ok")
    for (const environment of [{}, { IS_SANDBOX: "0" }])
      expect(checkRoot(0, environment).state).toBe("FAIL")
  })

  it("managed settings", () => {
    const directory = mkdtempSync(join(tmpdir(), "bb5-managed-"))
    const path = join(directory, "managed-settings.json")
    const of = (text: string) => {
      writeFileSync(path, text)
      return checkHooks(path)
    }
    expect(checkHooks(join(dirname(path), "none.json")).state).toBe("ok")
    expect(of('{"permissions":{}}').state).toBe("ok")
    expect(of('{"allowManagedHooksOnly":false,"disableAllHooks":false}').state).toBe("ok")
    expect(of('{"allowManagedHooksOnly":true}')).toMatchObject({
      state: "FAIL",
      what: expect.stringContaining("allowManagedHooksOnly"),
    })
    expect(of('{"disableAllHooks":true}')).toMatchObject({
      state: "FAIL",
      what: expect.stringContaining("disableAllHooks"),
    })
    expect(of("{").state).toBe("warn")
    rmSync(directory, { recursive: true })
  })

  it("room on the disk", () => {
    const gib = 1024 ** 3
    expect(checkSpace("/x", 2 * gib)).toMatchObject({ state: "ok", what: "2.0 GiB free for /x" })
    expect(checkSpace("/x", 2 * gib - 1).state).toBe("warn")
    expect(checkSpace("/x", 200 * 1024 ** 2).state).toBe("warn")
    expect(checkSpace("/x", 200 * 1024 ** 2 - 1)).toMatchObject({
      state: "FAIL",
      what: "Only 199 MiB free for /x.",
    })
  })
})
