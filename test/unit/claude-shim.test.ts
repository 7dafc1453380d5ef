import { spawn } from "node:child_process"
import { once } from "node:events"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { afterEach, describe, expect, it } from "vitest"
import { appended, isPrompt } from "../../src/agent/shim-arguments.ts"

/** The shim named claude, as a program: what it asks its supervisor, and what it runs then. */

const main = fileURLToPath(new URL("../../src/main.ts", import.meta.url))
const ends: (() => void)[] = []
afterEach(() => {
  for (const end of ends.splice(0)) end()
})
type Answer = readonly [status: number, body?: unknown]
interface Heard {
  readonly path: string
  readonly body: string
}

/**
 * Runs it under a supervisor that answers so; what that was asked, what claude was called with, and
 * how it ended.
 */
async function runShim(
  answer: (path: string, asked: number) => Answer,
  args: readonly string[],
  env: Record<string, string> = {},
) {
  const directory = mkdtempSync(join(tmpdir(), "bb5-shim-"))
  ends.push(() => rmSync(directory, { recursive: true, force: true }))
  const claude = join(directory, "claude")
  writeFileSync(claude, '#!/bin/sh\nprintf "turn=%s\\n" "$BLACKBOX5_TURN"\nprintf "%s\\n" "$@"\n', {
    mode: 0o755,
  })
  const heard: Heard[] = []
  const server = createServer((incoming, response) => {
    let body = ""
    incoming.on("data", (chunk) => {
      body += chunk
    })
    incoming.on("end", () => {
      const path = (incoming.url ?? "").replace(/t-[0-9a-f-]{36}/, "ID")
      const asked = heard.filter((one) => one.path === path).length
      heard.push({ path, body })
      const id = /t-[0-9a-f-]{36}/.exec(incoming.url ?? "")?.[0] ?? ""
      const [status, json] = answer(path, asked)
      response.writeHead(status, { "content-type": "application/json" })
      response.end(json === undefined ? undefined : JSON.stringify(json).replaceAll("ID", id))
    })
  })
  server.listen(0, "127.0.0.1")
  await once(server, "listening")
  ends.push(() => server.close())
  const child = spawn(process.execPath, [main, "turn", ...args], {
    cwd: directory,
    stdio: ["ignore", "pipe", "pipe"],
    env: {
      PATH: process.env.PATH,
      HOME: directory,
      HTTPS_PROXY: "http://user:word@proxy",
      // A TCP server's address is never a path.
      BLACKBOX5_AGENT_URL: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
      BLACKBOX5_AGENT_TOKEN: "the-token",
      BLACKBOX5_AGENT_CLAUDE: claude,
      ...env,
    },
  })
  let [stdout, stderr] = ["", ""]
  child.stdout.on("data", (chunk) => {
    stdout += chunk
  })
  child.stderr.on("data", (chunk) => {
    stderr += chunk
  })
  const [code] = await once(child, "close")
  return { heard, code, stderr, ran: stdout.trim().split("\n") }
}
const grant = { settings: { env: { OURS: "1" } }, mcp: "/run/mcp.json" }
const given = (path: string): Answer => {
  if (path === "/turns/ID") return [200, grant]
  return path.endsWith("/settings") ? [200, { path: "/run/settings.json", turn: "ID" }] : [200, {}]
}

describe("claude under a supervisor", () => {
  it("gets its settings and its servers as files, and its end is told", async () => {
    const { heard, code, ran } = await runShim(given, ["-p", "go", "--settings", '{"model":"m"}'])
    expect(code).toBe(0)
    expect(heard.map(({ path }) => path)).toEqual([
      "/turns/ID",
      "/turns/ID/settings",
      "/turns/ID/end",
    ])
    expect(JSON.parse(heard[1]?.body ?? "")).toMatchObject({
      model: "m",
      env: { OURS: "1", HTTPS_PROXY: "http://user:word@proxy", BLACKBOX5_AGENT_TOKEN: "the-token" },
    })
    expect(ran.slice(1)).toEqual([
      "--settings",
      "/run/settings.json",
      "-p",
      "go",
      "--mcp-config",
      "/run/mcp.json",
    ])
  })

  it("gets them as an argument from one of before, which knows no files", async () => {
    const { code, ran } = await runShim(
      (path) => (path.endsWith("/settings") ? [404] : given(path)),
      ["-p", "go"],
    )
    expect(code).toBe(0)
    expect(ran.slice(0, 2)).toEqual([expect.stringMatching(/^turn=t-/), "--settings"])
    expect(JSON.parse(ran[2] ?? "")).toMatchObject({ env: { OURS: "1" } })
  })

  it("is not started when its turn is over before it began, and says so", async () => {
    const over: Answer = [
      409,
      { error: { code: "Conflict", message: "No iteration runs.", next: "Do that." } },
    ]
    const { heard, code, ran, stderr } = await runShim(
      (path) => (path.endsWith("/settings") ? over : given(path)),
      ["-p", "go"],
    )
    expect([code, ran]).toEqual([75, [""]])
    expect(stderr).toContain("no iteration started: No iteration runs. Do that.")
    expect(heard.at(-1)?.path).toBe("/turns/ID/end")
  })

  it("waits where the instance asks too often", async () => {
    const { heard, code } = await runShim(
      (path, asked) => (asked === 0 ? [429] : given(path)),
      ["-p", "go"],
    )
    expect(code).toBe(0)
    expect(heard.length).toBe(6)
  })
})

describe("a claude inside of an iteration", () => {
  const nested = { BLACKBOX5_TURN: "t-before" }

  it("belongs to the one that runs now, and is counted", async () => {
    const { heard, code, ran } = await runShim(
      () => [200, { path: "/run/n.json", turn: "t-now" }],
      ["-p", "go"],
      nested,
    )
    expect(code).toBe(0)
    expect(heard.map(({ path }) => path)).toEqual(["/turns/t-before/settings"])
    expect(heard[0]?.body).toContain("/nested/logs")
    expect(ran).toEqual(["turn=t-now", "--settings", "/run/n.json", "-p", "go"])
  })

  it("is not started when none runs", async () => {
    const over: Answer = [
      409,
      { error: { code: "Conflict", message: "No iteration runs.", next: "Do that." } },
    ]
    const { code, ran } = await runShim(() => over, ["-p", "go"], nested)
    expect([code, ran]).toEqual([75, [""]])
  })

  it("asks nothing to print its version", async () => {
    const { heard, ran } = await runShim(() => [500], ["--version"], nested)
    expect([heard, ran]).toEqual([[], ["turn=t-before", "--version"]])
  })
})

describe("its arguments", () => {
  it.each<[boolean, string[]]>([
    [true, ["-p", "--dangerously-skip-permissions"]],
    [true, []],
    [true, ["-p", "update the prices"]],
    [true, ["-p", "doctor"]],
    [true, ["-p", "what does --version print?"]],
    [true, ["-c", "-p", "go on"]],
    [false, ["--version"]],
    [false, ["-v"]],
    [false, ["-p", "--help"]],
    [false, ["mcp", "list"]],
    [false, ["doctor"]],
    [false, ["setup-token"]],
  ])("a turn is needed: %j for %j", (needed, args) => {
    expect(isPrompt(args)).toBe(needed)
  })

  it("puts its flags behind the caller's, but before what is none", () => {
    expect(appended(["-p", "--mcp-config", "a"], ["--x"])).toEqual([
      "-p",
      "--mcp-config",
      "a",
      "--x",
    ])
    expect(appended(["-p", "--", "--mcp-config"], ["--x"])).toEqual([
      "-p",
      "--x",
      "--",
      "--mcp-config",
    ])
  })
})
