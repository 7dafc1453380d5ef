import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  realpathSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs"
import { createServer, request } from "node:http"
import { tmpdir } from "node:os"
import { delimiter, join } from "node:path"
import * as fc from "fast-check"
import { afterAll, describe, expect, it } from "vitest"
import { WebSocketServer } from "ws"
import { openLinkSocket } from "../../src/agent/connection.ts"
import { pathEntryFor } from "../../src/agent/path-entry.ts"
import { socketUrl } from "../../src/core/endpoint.ts"
import { listeningPath, requestOptionsTo } from "../../src/host/local-socket.ts"
import { checkSocket } from "../../src/roles/doctor/socket.ts"
import { readConfig } from "../../src/settings/config.ts"

/** What a path becomes: an entry of PATH, and a socket that is connected to. */

const directory = mkdtempSync(join(tmpdir(), "bb5-paths-"))
afterAll(() => rmSync(directory, { recursive: true }))
const made = (path: string): string => {
  mkdirSync(path, { recursive: true, mode: 0o700 })
  return path
}
/**
 * One component of a path: all that URLs, shells and PATH have a meaning for, and lengths beyond a
 * socket's.
 */
const component = fc
  .oneof(
    fc.string({
      unit: fc.constantFrom(..."aé :#%?&'\"$`\\;*[]{}()<>|!~=,+@^中😀"),
      minLength: 1,
      maxLength: 20,
    }),
    fc.integer({ min: 60, max: 120 }).map((count) => "long ".repeat(count / 5)),
  )
  .filter((name) => Buffer.byteLength(name) < 250)

describe("an entry of PATH", () => {
  const env = { XDG_DATA_HOME: join(directory, "data") }

  it("has no colon, and leads to the same directory", () => {
    fc.assert(
      fc.property(component, (name) => {
        const stateDirectory = join(directory, "states", name)
        const bin = made(join(stateDirectory, "instances/u/p/bin"))
        const found = pathEntryFor({ bin, stateDirectory }, env)
        const entry = "entry" in found ? found.entry : ""
        expect(entry).not.toContain(delimiter)
        expect(realpathSync(entry)).toBe(realpathSync(bin))
        if (!bin.includes(delimiter)) expect(entry).toBe(bin)
        expect(pathEntryFor({ bin, stateDirectory }, env)).toEqual(found)
      }),
      { numRuns: 100 },
    )
  })

  it("goes through no directory that others may write, and says so where there is no other", () => {
    const stateDirectory = join(directory, "st:ate")
    const bin = made(join(stateDirectory, "bin"))
    const open = made(join(directory, "open/blackbox5"))
    chmodSync(open, 0o777)
    const runtime = made(join(directory, "runtime"))
    const open2 = { XDG_DATA_HOME: join(directory, "open"), XDG_RUNTIME_DIR: runtime }
    expect(pathEntryFor({ bin, stateDirectory }, open2)).toMatchObject({
      entry: expect.stringContaining(runtime),
    })
    writeFileSync(join(directory, "file"), "")
    const before = process.env.TMPDIR
    process.env.TMPDIR = join(directory, "file")
    try {
      expect(
        pathEntryFor({ bin, stateDirectory }, { XDG_DATA_HOME: join(directory, "open") }),
      ).toMatchObject({
        problem: { reason: "PathEntry", message: expect.stringContaining("BLACKBOX5_STATE") },
      })
    } finally {
      if (before === undefined) delete process.env.TMPDIR
      else process.env.TMPDIR = before
    }
  })
})

describe("a socket", () => {
  it("is reached by requests and by the link, whatever its path", async () => {
    await fc.assert(
      fc.asyncProperty(component, component, async (one, two) => {
        const socketPath = join(made(join(directory, "sockets", one, two)), "serve.sock")
        const server = createServer((_, response) => response.end("hello"))
        const links = new WebSocketServer({ server, path: "/v1/link" })
        await new Promise<void>((resolve) => void server.listen(listeningPath(socketPath), resolve))
        try {
          expect(statSync(socketPath).isSocket()).toBe(true)
          const said = await new Promise((resolve, reject) => {
            const call = request(
              { ...requestOptionsTo(socketPath), path: "/healthz" },
              (response) => {
                response.setEncoding("utf8").on("data", resolve)
              },
            )
            call.on("error", reject).end()
          })
          expect(said).toBe("hello")
          await new Promise<void>((resolve, reject) => {
            const link = openLinkSocket({ url: socketUrl(socketPath) }, "secret")
            link.on("error", reject).on("open", () => link.close())
            link.on("close", () => resolve())
          })
        } finally {
          links.close()
          server.closeAllConnections()
          await new Promise((resolve) => server.close(resolve))
        }
        expect(existsSync(socketPath)).toBe(false)
      }),
      { numRuns: 40 },
    )
  })

  it("that is not there refuses, also where its path is long", async () => {
    for (const name of ["short", "x".repeat(200)]) {
      const failure = await new Promise<NodeJS.ErrnoException>((resolve) => {
        request({ ...requestOptionsTo(join(directory, "none", name, "serve.sock")), path: "/" })
          .on("error", resolve)
          .end()
      })
      expect(failure.syscall).toBe("connect")
    }
  })
})

describe("doctor's look at the socket", () => {
  it("connects as agents do: beside serve where none runs, leaving nothing there, and to serve itself", async () => {
    for (const name of ["short", "long ".repeat(30)]) {
      const stateDirectory = made(join(directory, "doctor", name))
      const socketPath = join(stateDirectory, "serve.sock")
      expect(await checkSocket({ stateDirectory, socketPath }, false)).toMatchObject({
        state: "ok",
      })
      expect(readdirSync(stateDirectory)).toEqual([])
      // Whatever answers there is no gateway.
      const server = createServer((_, response) => response.end("hello"))
      await new Promise<void>((resolve) => void server.listen(listeningPath(socketPath), resolve))
      expect(await checkSocket({ stateDirectory, socketPath }, true)).toMatchObject({
        state: "FAIL",
        what: expect.stringContaining("HTTP status 200"),
      })
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
      expect(await checkSocket({ stateDirectory, socketPath }, true)).toMatchObject({
        state: "FAIL",
        what: expect.stringContaining("cannot connect"),
      })
    }
  })
})

describe("a path that is given as a setting", () => {
  it("is refused with a control character in it, and taken with anything else", () => {
    const config = (BLACKBOX5_STATE: string) =>
      readConfig({}, { BLACKBOX5_STATE, HOME: "/home/me" })
    for (const bad of ["/a\nb", "/a\tb", "/a\u007f", "/a\ufffd"])
      expect(() => config(bad)).toThrow(/line break/)
    fc.assert(
      fc.property(component, (name) => {
        expect(config(`/${name}`).socketPath).toBe(join(`/${name}`, "serve.sock"))
      }),
    )
  })
})
