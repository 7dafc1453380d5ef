import { execFile, spawn } from "node:child_process"
import { once } from "node:events"
import { existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs"
import { request } from "node:http"
import { connect } from "node:net"
import { join } from "node:path"
import { Client } from "@modelcontextprotocol/sdk/client/index.js"
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { z } from "zod"
import { createCredentials } from "../../src/api/credentials.ts"
import { uidSchema } from "../../src/core/instance.ts"
import { isAlive } from "../../src/host/processes.ts"
import { processIdSchema } from "../../src/run/run-directory.ts"
import { tools } from "../../tools/index.ts"
import { say, use } from "../model/model.ts"
import { makeCodeRoot } from "./code-root.ts"
import { eventually, main, makeWorld, processesOf, type World } from "./world.ts"

interface Served {
  readonly pid: number
  /** All that it printed. */
  screen(): string
  /** Its exit code. */
  readonly ended: Promise<number | null>
}
/** `blackbox5 serve` as a person starts it; resolves when its screen is there. */
async function serve(
  world: World,
  env: Record<string, string> = world.env,
  ...args: string[]
): Promise<Served> {
  const child = spawn(process.execPath, [main, "serve", ...args], {
    env,
    cwd: world.codeRoot,
    stdio: ["ignore", "pipe", "pipe"],
  })
  let text = ""
  let log = ""
  child.stderr.setEncoding("utf8").on("data", (more: string) => {
    log += more
  })
  const ended = once(child, "exit").then(() => child.exitCode)
  await new Promise<void>((resolve, reject) => {
    child.stdout.setEncoding("utf8").on("data", (more: string) => {
      text += more
      if (text.includes("the agents keep running.")) resolve()
    })
    void ended.then((code) => reject(new Error(`serve ended with ${code}: ${text}${log}`)))
  })
  return { pid: child.pid ?? 0, screen: () => text, ended }
}
const serveSchema = z.object({ pid: z.number(), url: z.string(), codeRoot: z.string() })
const serveFile = (state: string) =>
  serveSchema.parse(JSON.parse(readFileSync(join(state, "serve.json"), "utf8")))
const serving = (world: World) =>
  processesOf(world.directory).filter(({ command }) => / serve( |$)/.test(command))

interface Sent {
  readonly path: string
  readonly headers?: Record<string, string>
  readonly socketPath?: string
}
/** Sends a GET, which may ask for an upgrade; what comes back first. */
const get = (
  url: string,
  { path, headers = {}, socketPath }: Sent,
): Promise<{ status: number; text: string; json: unknown }> =>
  new Promise((resolve, reject) => {
    const { hostname, port } = new URL(url)
    const call = request({
      ...(socketPath ? { socketPath } : { host: hostname, port }),
      path,
      headers,
      agent: false,
    })
    call.once("error", reject)
    call.once("upgrade", (response, socket) => {
      socket.destroy()
      resolve({ status: response.statusCode ?? 0, text: "", json: undefined })
    })
    call.once("response", async (response) => {
      let text = ""
      for await (const chunk of response.setEncoding("utf8")) text += chunk
      const json: unknown = response.headers["content-type"]?.includes("json")
        ? JSON.parse(text)
        : undefined
      resolve({ status: response.statusCode ?? 0, text, json })
    })
    call.end()
  })

const configured = z.object({
  command: z.string(),
  args: z.array(z.string()),
  env: z.record(z.string(), z.string()),
})

describe("what a person sees who starts serve", () => {
  let world: World
  let served: Served
  let state: string
  let codeRoot: string
  let env: Record<string, string>
  let token: string
  let url: string
  /** What the screen's lines write into a client's settings. */
  let entry: z.output<typeof configured>
  beforeAll(async () => {
    world = await makeWorld(() => say("Status: PARTIAL"), { policy: "turnsMax: 3\n" })
    // Names as people give them.
    state = join(world.directory, "state of o'me")
    codeRoot = join(world.directory, "my code $HOME")
    mkdirSync(codeRoot)
    makeCodeRoot(codeRoot, ["shop", "blog"])
    env = { ...world.env, BLACKBOX5_STATE: state }
    served = await serve(world, env, "--code-root", codeRoot)
    token = readFileSync(join(state, "token"), "utf8").trim()
    url = serveFile(state).url
  })
  afterAll(() => world[Symbol.asyncDispose]())

  /** What a client is that was configured as the screen says. */
  const configuredClient = async (config: z.output<typeof configured>): Promise<Client> => {
    const client = new Client({ name: "serve", version: "1" })
    // Neither the variables nor the directory of whoever started serve.
    const clean = Object.fromEntries(
      Object.entries(world.env).filter(([name]) => !name.startsWith("BLACKBOX5_")),
    )
    const transport = new StdioClientTransport({
      ...config,
      env: { ...clean, ...config.env },
      cwd: "/",
      stderr: "inherit",
    })
    await client.connect(transport)
    return client
  }
  /** What the screen's line for a client does to a home. */
  const connected = (client: string, home: string, cwd: string): Promise<string> => {
    const line = served
      .screen()
      .split("\n")
      .find((one) => one.includes(` connect ${client} `))
    const { HOME: _home, ...rest } = world.env
    const shell = Object.fromEntries(
      Object.entries(rest).filter(([name]) => !/^(BLACKBOX5|CLAUDE|XDG)/.test(name)),
    )
    return new Promise((resolve, reject) =>
      execFile(
        "sh",
        ["-c", line ?? "false"],
        { env: { ...shell, HOME: home }, cwd },
        (error, stdout) => (error ? reject(error) : resolve(stdout)),
      ),
    )
  }

  it("is where everything is", () => {
    const lines = served
      .screen()
      .split("\n")
      .map((line) => line.trim())
    expect(serveFile(state)).toMatchObject({ pid: served.pid, codeRoot })
    expect(lines).toContain(`Code root    ${codeRoot}`)
    expect(lines).toContain("Projects     blog, shop")
    expect(lines).toContain(`State        ${state}`)
    expect(lines).toContainEqual(
      expect.stringMatching(
        /^Policy .*config\/policy\.yaml: at most 50 instances and 3 iterations at once$/,
      ),
    )
    expect(lines).toContainEqual(expect.stringContaining(`REST         ${url} `))
  })

  it("is for this user alone", () => {
    expect(statSync(state).mode & 0o777).toBe(0o700)
    for (const name of ["serve.sock", "serve.json", "token", "link.key"])
      expect([name, statSync(join(state, name)).mode & 0o077]).toEqual([name, 0])
  })

  it("is a line that makes Claude Code know it, and one for Claude Desktop; a client made so finds this serve", async () => {
    const home = join(world.directory, "home of claude")
    const project = join(world.directory, "elsewhere")
    for (const path of [home, project]) mkdirSync(path)
    expect(await connected("claude-code", home, project)).toContain("blackbox5")
    await connected("claude-desktop", home, project)
    const known = z.object({ mcpServers: z.object({ blackbox5: configured }) })
    const read = (path: string) =>
      known.parse(JSON.parse(readFileSync(join(home, path), "utf8"))).mcpServers.blackbox5
    entry = read(".config/Claude/claude_desktop_config.json")
    expect(read(".claude.json")).toEqual(entry)

    const client = await configuredClient(entry)
    const result = await client.callTool({
      name: "spawn_instance",
      arguments: { project: "blog", dryRun: true },
    })
    await client.close()
    expect(result).toMatchObject({ structuredContent: { name: "blog-1", created: false } })
    expect(serving(world).map(({ pid }) => pid)).toEqual([served.pid])
  })

  it("is health, readiness, metrics and every tool's operation over TCP", async () => {
    const bearer = { authorization: `Bearer ${token}` }
    expect(await get(url, { path: "/healthz" })).toMatchObject({
      status: 200,
      json: { alive: true },
    })
    await eventually(async () => (await get(url, { path: "/readyz" })).status === 200, "ready")
    await get(url, { path: "/v1/instances", headers: bearer })
    const metrics = await get(url, { path: "/metrics", headers: bearer })
    expect(metrics.status).toBe(200)
    expect(metrics.text).toMatch(
      /^blackbox5_calls_total\{tool="list_instances",code="[^"]+"\} [1-9]/m,
    )
    const { json } = await get(url, { path: "/openapi.json", headers: bearer })
    const operations = z.object({
      paths: z.record(z.string(), z.record(z.string(), z.looseObject({ operationId: z.string() }))),
    })
    const found = Object.entries(operations.parse(json).paths).flatMap(([path, methods]) =>
      Object.entries(methods).map(
        ([method, { operationId }]) => `${operationId}: ${method.toUpperCase()} ${path}`,
      ),
    )
    expect(found.toSorted()).toEqual(tools.map(({ name, route }) => `${name}: ${route}`).toSorted())
  })

  it("is closed to other hosts, other origins, and whoever has not the token", async () => {
    const bearer = { authorization: `Bearer ${token}` }
    const path = "/v1/instances"
    const refused = (code: string) => ({
      error: { code, message: expect.any(String), next: expect.any(String) },
    })
    expect(await get(url, { path, headers: bearer })).toMatchObject({ status: 200 })
    for (const host of ["evil.example", "evil.example:80", "127.0.0.1.evil.example"])
      for (const at of [path, "/healthz", "/openapi.json"])
        expect(await get(url, { path: at, headers: { ...bearer, host } })).toMatchObject({
          status: 403,
          json: refused("Forbidden"),
        })
    for (const origin of ["https://evil.example", "null", "http://localhost.evil.example"])
      for (const socketPath of [undefined, join(state, "serve.sock")])
        expect(
          await get(url, {
            path,
            headers: { ...bearer, origin },
            ...(socketPath !== undefined && { socketPath }),
          }),
        ).toMatchObject({ status: 403, json: refused("Forbidden") })
    for (const authorization of [
      undefined,
      "Bearer ",
      `Bearer ${token}x`,
      `Bearer ${token.slice(1)}`,
      `Basic ${token}`,
    ])
      for (const at of [path, "/metrics", "/openapi.json", "/v1/nothing"])
        expect(
          await get(url, {
            path: at,
            headers: authorization === undefined ? {} : { authorization },
          }),
        ).toMatchObject({
          status: 401,
          json: refused("Unauthenticated"),
        })
  })

  it("takes an upgrade to /v1/link only with the credential of that instance at that place", async () => {
    const holder = { name: "one", uid: uidSchema.parse("u-one"), place: "p1" }
    const credential = createCredentials(state).mint(holder)
    const [said, proof] = credential.split(".")
    const forged = Buffer.from(JSON.stringify({ ...holder, place: "p2" })).toString("base64url")
    const upgrade = (more: Record<string, string>, path = "/v1/link") => ({
      path,
      headers: {
        connection: "Upgrade",
        upgrade: "websocket",
        "sec-websocket-version": "13",
        "sec-websocket-key": Buffer.from("0123456789abcdef").toString("base64"),
        ...more,
      },
    })
    const right = { authorization: `Bearer ${credential}` }
    for (const at of [{}, { socketPath: join(state, "serve.sock") }]) {
      const status = async (sent: Sent) => (await get(url, { ...sent, ...at })).status
      expect(await status(upgrade(right))).toBe(101)
      expect(await status(upgrade({}))).toBe(401)
      for (const authorization of [
        `Bearer ${token}`,
        "Bearer ",
        `Bearer ${credential.slice(1)}`,
        `Bearer ${forged}.${proof}`,
        `Bearer ${said}`,
        `Bearer ${credential}.${proof}`,
        `Basic ${credential}`,
      ])
        expect(await status(upgrade({ authorization }))).toBe(401)
      expect(await status(upgrade({ ...right, origin: "http://localhost" }))).toBe(401)
      expect(await status(upgrade(right, "/v1/instances"))).toBe(404)
    }
  })

  it("is started again by such a client with the same code root, state and policy", async () => {
    process.kill(served.pid, "SIGTERM")
    expect(await served.ended).toBe(0)
    const client = await configuredClient(entry)
    const status = await client.callTool({ name: "fleet_status", arguments: {} })
    await client.close()
    expect(status).toMatchObject({ structuredContent: { turns: { max: 3 } } })
    expect(serveFile(state)).toMatchObject({ codeRoot })
    expect(serveFile(state).pid).not.toBe(served.pid)
  })
})

describe("the end of serve", () => {
  it("comes with SIGTERM also while clients hold connections, and leaves neither socket nor file", async () => {
    await using world = await makeWorld(() => say("Status: PARTIAL"))
    const served = await serve(world)
    const client = await world.connect()
    await client.call("fleet_status")
    const { port } = new URL(serveFile(world.state).url)
    // Requests that never end.
    const dangling = [connect(Number(port), "127.0.0.1"), connect(join(world.state, "serve.sock"))]
    for (const socket of dangling) {
      socket.on("error", () => {})
      if (socket.connecting) await once(socket, "connect")
      socket.write(
        "POST /v1/instances HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{",
      )
    }
    process.kill(served.pid, "SIGTERM")
    expect(await served.ended).toBe(0)
    for (const name of ["serve.sock", "serve.json", "blackbox5.db-wal"])
      expect([name, existsSync(join(world.state, name))]).toEqual([name, false])
    for (const socket of dangling) socket.destroy()
    // The client goes on with a new one.
    expect(await client.call("fleet_status")).toMatchObject({ turns: { used: 0 } })
    expect(world.servePid()).not.toBe(served.pid)
  })

  it("is not brought about by a path that is none, as anybody on this machine can send it", async () => {
    await using world = await makeWorld(() => say("Status: PARTIAL"))
    const served = await serve(world)
    const { url } = serveFile(world.state)
    const upgrade = { connection: "Upgrade", upgrade: "websocket" }
    for (const path of ["//", "//:0/", "/v1/link?%ff=%"])
      for (const headers of [upgrade, {}]) {
        const answer = await get(url, { path, headers }).catch((error: unknown) => String(error))
        expect([path, answer]).toEqual([
          path,
          expect.objectContaining({ status: expect.any(Number) }),
        ])
      }
    expect(await get(url, { path: "/healthz" })).toMatchObject({ status: 200 })
    expect(serving(world).map(({ pid }) => pid)).toEqual([served.pid])
  })

  /** One instance at work, whose loop never ends by itself. */
  const working = async (world: World) => {
    const spawned = await world.cli(
      "spawn-instance",
      "--project",
      "shop",
      "--name",
      "one",
      "--json",
    )
    const { uid } = z.object({ uid: z.string() }).parse(JSON.parse(spawned.stdout))
    const loop = await eventually(
      () =>
        processIdSchema.parse(
          JSON.parse(readFileSync(join(world.runOf(uid), "status/loop.json"), "utf8")),
        ),
      "a loop",
    )
    const seen = async (): Promise<{ phase: string; iterations: number }> => {
      const { stdout } = await world.cli("inspect-instance", "one", "--json")
      const { phase, usage } = z
        .object({ phase: z.string(), usage: z.object({ iterations: z.number() }) })
        .parse(JSON.parse(stdout))
      return { phase, iterations: usage.iterations }
    }
    await eventually(async () => (await seen()).iterations >= 1, "the first iteration's end", 60)
    return { uid, loop, seen, iterations: async () => (await seen()).iterations }
  }
  const atWork = ({ toolResults }: { toolResults: readonly unknown[] }) =>
    toolResults.length === 0
      ? use([{ name: "Bash", input: { command: "sleep 0.1" } }])
      : say("Status: PARTIAL")

  it("lets the agents go on, and the next serve finds them again", async () => {
    await using world = await makeWorld(atWork)
    const served = await serve(world)
    const { uid, loop, seen, iterations } = await working(world)
    const before = await iterations()
    process.kill(served.pid, "SIGTERM")
    expect(await served.ended).toBe(0)
    expect(isAlive(loop)).toBe(true)
    await eventually(
      async () => (await seen()).iterations > before + 1,
      "iterations after the restart",
      60,
    )
    expect(["Running", "Waiting"]).toContain((await seen()).phase)
    expect(isAlive(loop)).toBe(true)
    expect(JSON.parse(readFileSync(join(world.runOf(uid), "status/loop.json"), "utf8"))).toEqual(
      loop,
    )
    expect(world.servePid()).not.toBe(served.pid)
    expect(serving(world)).toHaveLength(1)
    // It is not only watched: it still does as it is told.
    await world.cli("stop-instances", "one")
    await eventually(async () => (await seen()).phase === "Stopped", "stopped")
    expect(isAlive(loop)).toBe(false)
  }, 120_000)

  it("by SIGKILL is mended by an agent's supervisor, with no client there", async () => {
    await using world = await makeWorld(atWork)
    const served = await serve(world)
    const { uid, loop, iterations } = await working(world)
    const before = await iterations()
    process.kill(served.pid, "SIGKILL")
    await served.ended
    // Nobody calls: files alone are looked at.
    await eventually(
      () => world.servePid() !== served.pid && serving(world).length === 1,
      "another serve",
    )
    const usageSchema = z.object({ used: z.object({ iterations: z.number() }) })
    const used = (): number =>
      usageSchema.parse(
        JSON.parse(readFileSync(join(world.runOf(uid), "status/usage.json"), "utf8")),
      ).used.iterations
    await eventually(() => used() > before + 1, "iterations without any client", 60)
    expect(isAlive(loop)).toBe(true)
    expect(await iterations()).toBeGreaterThan(before)
    expect(serving(world).map(({ pid }) => pid)).toEqual([world.servePid()])
  }, 120_000)
})

describe("the beginning of serve", () => {
  it("happens once for ten clients that start at once", async () => {
    await using world = await makeWorld(() => say("Status: PARTIAL"))
    const clients = await Promise.all(Array.from({ length: 10 }, () => world.connect()))
    const made = await Promise.all(
      clients.map(({ call }, index) =>
        call("spawn_instance", { name: `n-${index}`, dryRun: true }),
      ),
    )
    expect(made.map(({ name }) => name)).toEqual(clients.map((_, index) => `n-${index}`))
    expect(serving(world).map(({ pid }) => pid)).toEqual([world.servePid()])
    const log = readFileSync(join(world.state, "serve.log"), "utf8")
    expect(log.match(/"msg":"serving"/g)).toHaveLength(1)
    for (const name of ["serve.start", "serve.failed"])
      expect(existsSync(join(world.state, name))).toBe(false)
  })

  it("takes the place of one that was killed and left its socket and its files", async () => {
    await using world = await makeWorld(() => say("Status: PARTIAL"))
    const first = await serve(world)
    process.kill(first.pid, "SIGKILL")
    await first.ended
    expect(existsSync(join(world.state, "serve.sock"))).toBe(true)
    writeFileSync(join(world.state, "serve.start"), String(first.pid))
    const client = await world.connect()
    expect(await client.call("fleet_status")).toMatchObject({ turns: { used: 0 } })
    expect(serving(world).map(({ pid }) => pid)).toEqual([world.servePid()])
  })
})
