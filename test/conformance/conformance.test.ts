import { type ChildProcess, execFile, spawn } from "node:child_process"
import { once } from "node:events"
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs"
import { createServer, request, type Server } from "node:http"
import type { AddressInfo } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { z } from "zod"
import { makeCodeRoot } from "../e2e/code-root.ts"
import { eventually } from "../e2e/world.ts"

/**
 * The protocol's own suites against the real control plane. They know no credential: a door in
 * front of it adds the token of the machine, and changes nothing else.
 */

const here = fileURLToPath(new URL(".", import.meta.url))
const modules = fileURLToPath(new URL("../../node_modules", import.meta.url))
const directory = mkdtempSync(join(tmpdir(), "bb5-conformance-"))
const state = join(directory, "state")
let plane: ChildProcess | undefined
let door: Server | undefined
let url = ""

beforeAll(async () => {
  const codeRoot = join(directory, "code")
  mkdirSync(codeRoot)
  makeCodeRoot(codeRoot, ["shop"])
  plane = spawn(
    process.execPath,
    [join(here, "serve.ts"), "--code-root", codeRoot, "--port", "0"],
    {
      env: {
        PATH: process.env.PATH,
        HOME: directory,
        BLACKBOX5_STATE: state,
        BLACKBOX5_CONFIG: join(directory, "config"),
      },
      stdio: ["ignore", "ignore", "inherit"],
    },
  )
  const file = z.object({ url: z.string() })
  const target = await eventually(
    () => file.parse(JSON.parse(readFileSync(join(state, "serve.json"), "utf8"))).url,
    "serve",
    60,
  )
  const token = readFileSync(join(state, "token"), "utf8").trim()
  door = createServer((incoming, outgoing) => {
    const headers = { ...incoming.headers, authorization: `Bearer ${token}` }
    const passed = request(
      `${target}${incoming.url}`,
      { method: incoming.method ?? "GET", headers },
      (answer) => {
        outgoing.writeHead(answer.statusCode ?? 502, answer.headers)
        outgoing.flushHeaders()
        answer.pipe(outgoing)
        answer.on("error", () => outgoing.destroy())
      },
    )
    passed.on("error", () => outgoing.destroy())
    outgoing.on("close", () => passed.destroy())
    incoming.pipe(passed)
  })
  door.listen(0, "127.0.0.1")
  await once(door, "listening")
  url = `http://127.0.0.1:${(door.address() as AddressInfo).port}/mcp` // TCP, so no path
})
afterAll(async () => {
  door?.closeAllConnections()
  door?.close()
  if (plane?.exitCode === null) {
    plane.kill("SIGTERM")
    await once(plane, "exit")
  }
  rmSync(directory, { recursive: true, force: true })
})

/** What a suite printed, without colours. */
const run = (suite: string, ...args: string[]): Promise<{ code: number; text: string }> =>
  new Promise((resolve) => {
    const child = execFile(
      process.execPath,
      [join(modules, suite, "dist/index.js"), "server", "--url", url, ...args],
      {
        cwd: directory,
        env: { PATH: process.env.PATH, HOME: directory, NO_COLOR: "1" },
        maxBuffer: 16_777_216,
      },
      (_error, stdout, stderr) =>
        resolve({ code: child.exitCode ?? -1, text: `${stdout}${stderr}` }),
    )
  })

describe("conformance", () => {
  it("0.1.16: all scenarios", { timeout: 300_000 }, async () => {
    const { code, text } = await run("@modelcontextprotocol/conformance", "--suite", "all")
    expect(text).toMatch(/Total: \d{2,} passed, 0 failed/)
    expect(code).toBe(0)
  })

  it.each(["2025-11-25", "2026-07-28"])(
    "0.2.0-alpha: what %s requires",
    { timeout: 300_000 },
    async (revision) => {
      const { code, text } = await run("conformance-next", "--requirements", revision)
      const [scored = "", unscored = ""] = text
        .slice(text.indexOf("=== SUMMARY ==="))
        .split("Not scored for")
      expect(scored).toMatch(/Total: \d{2,} passed/)
      // Extensions, and what the suite's own example does not pass, are run and told, not scored.
      const failing = [...scored.matchAll(/✗ ([\w-]+):/g)].map(([, name = ""]) => name)
      expect(failing.filter((name) => !unscored.includes(`✗ ${name} (`))).toEqual([])
      expect(code).toBe(0)
    },
  )
})
