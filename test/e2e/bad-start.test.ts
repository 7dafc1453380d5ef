import { spawn } from "node:child_process"
import { createHash } from "node:crypto"
import { once } from "node:events"
import {
  copyFileSync,
  existsSync,
  openSync,
  readFileSync,
  renameSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from "node:fs"
import { type AddressInfo, createServer, type Server } from "node:net"
import { join } from "node:path"
import { afterEach, describe, expect, it } from "vitest"
import { z } from "zod"
import { say } from "../model/model.ts"
import { mcpText, reaches, rest, run, toldBy } from "./every-face.ts"
import { eventually, main, makeWorld, processesOf, type World } from "./world.ts"

describe("a serve that cannot begin", () => {
  const held: Server[] = []
  afterEach(async () => {
    for (const server of held.splice(0)) await new Promise((resolve) => server.close(resolve))
  })
  /** Takes a port; 0 for any. Undefined when somebody has it already. */
  const take = async (port: number): Promise<number | undefined> => {
    const server = createServer()
    const taken = await new Promise<boolean>((resolve) => {
      server.once("error", () => resolve(false))
      server.listen(port, "127.0.0.1", () => resolve(true))
    })
    if (!taken) return undefined
    held.push(server)
    return (server.address() as AddressInfo).port // TCP, so no path
  }
  const idle = () => makeWorld(() => say("Status: PARTIAL"))
  /** Starts a serve and lets it run; its screen. */
  const begin = async (
    world: World,
    ...args: string[]
  ): Promise<{ pid: number; screen: string; end(): Promise<number | null> }> => {
    const child = spawn(process.execPath, [main, "serve", ...args], {
      env: world.env,
      cwd: world.directory,
      stdio: ["ignore", "pipe", "ignore"],
    })
    const ended = once(child, "exit").then(() => child.exitCode)
    let screen = ""
    await new Promise<void>((resolve, reject) => {
      child.stdout.setEncoding("utf8").on("data", (more: string) => {
        screen += more
        if (screen.includes("the agents keep running.")) resolve()
      })
      void ended.then((code) => reject(new Error(`serve ended with ${code}`)))
    })
    return {
      pid: child.pid ?? 0,
      screen,
      end() {
        child.kill("SIGTERM")
        return ended
      },
    }
  }

  it("says that a port it was told to take is taken, and leaves nothing behind", async () => {
    await using world = await idle()
    const port = await take(0)
    for (const ran of [
      await run(world, ["serve", "--port", String(port)]),
      await run(world, ["serve"], { BLACKBOX5_PORT: String(port) }),
    ]) {
      expect([ran.code, ran.stdout]).toEqual([1, ""])
      expect(toldBy(ran)).toEqual({
        message: `Port ${port} is taken by another program.`,
        next: expect.stringMatching(/--port or BLACKBOX5_PORT/),
      })
    }
    for (const name of ["serve.sock", "serve.json"])
      expect(existsSync(join(world.state, name))).toBe(false)
    expect(processesOf(world.directory)).toEqual([])
    const ran = await run(world, ["serve", "--port", "all"])
    expect([ran.code, toldBy(ran)]).toEqual([
      1,
      {
        message: '"all" is not a valid TCP port.',
        next: expect.stringMatching(/number from 0 .* to 65535/),
      },
    ])
    const free = await begin(world, "--port", "0")
    expect(await free.end()).toBe(0)
  })

  it("takes another port when the usual one is taken, and says which", async () => {
    await using world = await idle()
    // Another test's serve may have the usual port, and give it back at any moment: then it is
    // tried again.
    const { screen } = await eventually(async () => {
      await take(7505)
      const served = await begin(world)
      const beside = !served.screen.includes("127.0.0.1:7505 ")
      if (!beside) await served.end()
      return beside && served
    }, "a serve beside the usual port")
    const { url } = z
      .object({ url: z.string() })
      .parse(JSON.parse(readFileSync(join(world.state, "serve.json"), "utf8")))
    expect(url).toMatch(/^http:\/\/127\.0\.0\.1:\d+$/)
    expect(screen).toContain(`REST         ${url} `)
    expect((await rest(world, "tcp", "GET", "/v1/instances")).status).toBe(200)
  })

  it("ends well when one serves already", async () => {
    await using world = await idle()
    const { pid } = await begin(world)
    const ran = await run(world, ["serve"])
    expect(ran).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(
        /^blackbox5 is already serving on .*serve\.sock; this one exits\.\n$/,
      ),
    })
    expect(world.servePid()).toBe(pid)
    expect((await rest(world, "socket", "GET", "/v1/instances")).status).toBe(200)
  })

  it("says that another program has its database open, to its clients too, and serves when that is over", async () => {
    await using world = await idle()
    const path = join(world.state, "blackbox5.db")
    const lock = `const { DatabaseSync } = require("node:sqlite")
      const database = new DatabaseSync(${JSON.stringify(path)})
      database.exec("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE; CREATE TABLE foreign_table (x)")
      process.stdout.write("locked")
      setInterval(() => {}, 1e6)`
    const holder = spawn(process.execPath, ["-e", lock], {
      env: world.env,
      stdio: ["ignore", "pipe", "inherit"],
    })
    await once(holder.stdout, "data")
    const ran = await run(world, ["serve"])
    expect([ran.code, ran.stdout]).toEqual([1, ""])
    const told = toldBy(ran)
    expect(told).toEqual({
      message: expect.stringMatching(/Another process has .*blackbox5\.db open/),
      next: expect.stringMatching(/end it, or set BLACKBOX5_STATE/),
    })
    const mcp = await world.connect()
    const { isError, text } = await mcpText(mcp, "fleet_status", {})
    expect(isError).toBe(true)
    for (const part of [told.message, told.next]) expect(text).toContain(part)
    holder.kill("SIGKILL")
    await once(holder, "exit")
    expect(await mcp.call("fleet_status")).toMatchObject({ turns: { used: 0 } })
  })

  describe("because its database is damaged", () => {
    const overwrite = (path: string, at: number, bytes: Buffer): void =>
      void writeSync(openSync(path, "r+"), bytes, 0, bytes.length, at)
    it.each<[string, (path: string) => void]>([
      ["the head was overwritten", (path) => overwrite(path, 0, Buffer.alloc(100, 0xff))],
      [
        "its pages were overwritten",
        (path) => overwrite(path, 4096, Buffer.alloc(readFileSync(path).length - 4096, 0xa5)),
      ],
      ["one page was overwritten", (path) => overwrite(path, 4096, Buffer.alloc(4096, 0xa5))],
      [
        "its last page was overwritten",
        (path) => overwrite(path, readFileSync(path).length - 4096, Buffer.alloc(4096, 0xa5)),
      ],
      ["it was cut", (path) => truncateSync(path, readFileSync(path).length / 2)],
      ["it is a text", (path) => writeFileSync(path, "no database at all\n".repeat(1000))],
    ])(
      "says what to do, leaves it as it is, and serves again when that was done: %s",
      async (_, damage) => {
        await using world = await idle()
        const path = join(world.state, "blackbox5.db")
        const first = await begin(world)
        const mcp = await world.connect()
        await mcp.call("spawn_instance", { project: "shop", name: "kept", labels: { team: "web" } })
        await mcp.call("stop_instances", { names: ["kept"] })
        await reaches(mcp, "kept", "Stopped")
        await eventually(
          () =>
            !processesOf(world.directory).some(({ command }) => command.includes("main.js agent")),
          "its supervisor's end",
        )
        expect(await first.end()).toBe(0)
        copyFileSync(path, `${path}.copy`)
        damage(path)
        const digest = (): string => createHash("sha256").update(readFileSync(path)).digest("hex")
        const damaged = digest()

        const ran = await run(world, ["serve"])
        expect([ran.code, ran.stdout]).toEqual([1, ""])
        const told = toldBy(ran)
        expect(told).toEqual({
          message: `The database ${path} is damaged or is no database; it was left as it is.`,
          next: `Put a copy back, or move it and ${path}-wal aside together and start again with an empty fleet.`,
        })
        const { isError, text } = await mcpText(mcp, "list_instances", {})
        expect(isError).toBe(true)
        for (const part of [told.message, told.next]) expect(text).toContain(part)
        const listed = await run(world, ["list-instances"])
        expect(listed.code).toBe(1)
        for (const part of [told.message, told.next]) expect(listed.stderr).toContain(part)
        expect(digest()).toBe(damaged)

        // Moved aside: an empty fleet, for which all works.
        renameSync(path, `${path}.aside`)
        if (existsSync(`${path}-wal`)) renameSync(`${path}-wal`, `${path}.aside-wal`)
        expect(await mcp.call("list_instances")).toMatchObject({ total: 0 })
        expect(await mcp.call("spawn_instance", { project: "shop", dryRun: true })).toMatchObject({
          name: "shop-1",
        })
        // The copy put back: what was there.
        process.kill(world.servePid(), "SIGTERM")
        await eventually(() => !existsSync(join(world.state, "serve.json")), "the end of serve")
        await eventually(
          () =>
            !processesOf(world.directory).some(({ command }) => / serve$| serve /.test(command)),
          "the end of serve",
        )
        copyFileSync(`${path}.copy`, path)
        expect(await mcp.call("list_instances")).toMatchObject({
          total: 1,
          instances: [{ name: "kept", phase: "Stopped" }],
        })
      },
    )
  })

  it("says that its state directory cannot be made, alike to all who ask", async () => {
    await using world = await idle()
    const file = join(world.directory, "a file")
    writeFileSync(file, "mine")
    for (const state of [file, join(file, "below")]) {
      const env = { BLACKBOX5_STATE: state }
      for (const args of [["serve"], ["fleet-status"], ["spawn-instance", "--project", "shop"]]) {
        const ran = await run(world, args, env)
        expect([ran.code, ran.stdout]).toEqual([1, ""])
        expect(toldBy(ran)).toEqual({
          message: expect.stringContaining(`The state directory ${state} cannot be `),
          next: "Set BLACKBOX5_STATE to a directory that this user can write.",
        })
      }
      const child = await run(world, ["list-instances", "--json"], env)
      expect(child.code).toBe(1)
    }
    expect(readFileSync(file, "utf8")).toBe("mine")
    expect(processesOf(world.directory)).toEqual([])
  })
})
