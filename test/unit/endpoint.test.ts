import { once } from "node:events"
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { createServer, type RequestListener, type Server } from "node:http"
import { createServer as createSecureServer } from "node:https"
import type { AddressInfo } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, afterEach, describe, expect, it } from "vitest"
import { WebSocketServer } from "ws"
import { connectLink, type LinkOptions } from "../../src/agent/connection.ts"
import { createSpool } from "../../src/agent/spool.ts"
import { exchange } from "../../src/client/exchange.ts"
import { type Endpoint, endpointAt, socketUrl } from "../../src/core/endpoint.ts"
import { closeReplaced, closeUnauthenticated } from "../../src/core/frames.ts"
import { noProgress } from "../../src/core/tool.ts"
import { listeningPath } from "../../src/host/local-socket.ts"
import { selfSigned } from "./self-signed.ts"
import { openPort, token } from "./supervisor-port.ts"

/** The one way to the control plane, for each of its users: over a socket, HTTP and HTTPS alike. */

const directory = mkdtempSync(join(tmpdir(), "bb5-endpoint-"))
const identity = selfSigned()
const caFile = join(directory, "ca.pem")
const otherCaFile = join(directory, "other.pem")
writeFileSync(caFile, identity.cert)
writeFileSync(otherCaFile, selfSigned().cert)
const ends: (() => void)[] = []
afterEach(() => {
  for (const end of ends.splice(0)) end()
})
afterAll(() => rmSync(directory, { recursive: true }))

const started = async (server: Server, at: string | undefined): Promise<Server> => {
  if (at === undefined) server.listen(0, "127.0.0.1")
  else server.listen(at)
  await once(server, "listening")
  ends.push(() => {
    server.close()
    server.closeAllConnections()
  })
  return server
}
/** A credential that is another one each time, as a mounted token is. */
const renewed = (): (() => Promise<string>) => {
  let count = 0
  return async () => `credential-${++count}`
}
const urlOf = (server: Server, scheme: string): string =>
  `${scheme}://127.0.0.1:${(server.address() as AddressInfo).port}` // TCP, so no path

type Kind = readonly [
  name: string,
  open: (listener: RequestListener) => Promise<{ server: Server; endpoint: Endpoint }>,
]
const onSocket =
  (name: string): Kind[1] =>
  async (listener) => {
    const path = join(directory, name, "serve.sock")
    mkdirSync(join(directory, name), { recursive: true })
    const server = await started(createServer(listener), listeningPath(path))
    return { server, endpoint: { url: socketUrl(path), credential: renewed() } }
  }
const kinds: readonly Kind[] = [
  ["a socket", onSocket("short")],
  ["a socket with a long path that looks like a URL", onSocket(`a b%20?#${"x".repeat(120)}`)],
  [
    "HTTP",
    async (listener) => {
      const server = await started(createServer(listener), undefined)
      return { server, endpoint: { url: urlOf(server, "http"), credential: renewed() } }
    },
  ],
  [
    "HTTPS of an authority of its own",
    async (listener) => {
      const server = await started(createSecureServer(identity, listener), undefined)
      return { server, endpoint: { url: urlOf(server, "https"), credential: renewed(), caFile } }
    },
  ],
]
const quiet = { signal: new AbortController().signal, progress: noProgress }
const ask = (endpoint: Endpoint) => exchange(endpoint, { method: "GET", path: "/v1/fleet" }, quiet)
const echo: RequestListener = ({ url, headers }, response) =>
  void response.end(JSON.stringify({ url, authorization: headers.authorization }))

const linkTo = (endpoint: Endpoint, more: Partial<LinkOptions> = {}) => {
  const link = connectLink({
    endpoint,
    spool: createSpool({ left: [], keep: () => {}, dropped: () => {} }),
    directive: () => {},
    mail: () => {},
    replaced: () => {},
    away: () => {},
    connected: () => {},
    ...more,
  })
  ends.push(link.close)
  return link
}
/** The bearers of the links that come, one after another; each is closed with the next code. */
function linksAt(server: Server, codes: readonly number[]) {
  const bearers: (string | undefined)[] = []
  const all = Promise.withResolvers<readonly (string | undefined)[]>()
  const sockets = new WebSocketServer({ server, path: "/v1/link" })
  ends.push(() => sockets.close())
  sockets.on("connection", (socket, { headers }) => {
    socket.close(codes[bearers.push(headers.authorization) - 1] ?? closeReplaced)
    if (bearers.length === codes.length) all.resolve(bearers)
  })
  return all.promise
}

describe.each(kinds)("over %s", (_, open) => {
  it("a client calls, with the credential of that moment", async () => {
    const { endpoint } = await open(echo)
    for (const authorization of ["Bearer credential-1", "Bearer credential-2"])
      expect(await ask(endpoint)).toEqual({ url: "/v1/fleet", authorization })
  })

  it("a supervisor links, with another credential after its own was refused", async () => {
    const { server, endpoint } = await open(echo)
    const links = linksAt(server, [closeUnauthenticated, closeUnauthenticated, closeReplaced])
    const replaced = Promise.withResolvers<void>()
    linkTo(endpoint, { replaced: replaced.resolve })
    expect(await links).toEqual([1, 2, 3].map((count) => `Bearer credential-${count}`))
    await replaced.promise
  })

  it("an agent's port hands its calls on", async () => {
    const { endpoint } = await open(echo)
    const port = await openPort(ends, { handlers: { fleet: endpoint } })
    const throughPort = endpointAt(`http://127.0.0.1:${port}`, token)
    for (const authorization of ["Bearer credential-1", "Bearer credential-2"])
      expect(await ask(throughPort)).toEqual({ url: "/v1/fleet", authorization })
  })
})

describe("an endpoint", () => {
  it("is not reached where its certificate is of another authority, or the CA file is missing", async () => {
    const server = await started(createSecureServer(identity, echo), undefined)
    for (const file of [otherCaFile, join(directory, "none.pem")]) {
      const endpoint = { ...endpointAt(urlOf(server, "https"), "secret"), caFile: file }
      await expect(ask(endpoint)).rejects.toMatchObject({ code: "Unavailable" })
      const port = await openPort(ends, { handlers: { fleet: endpoint } })
      await expect(ask(endpointAt(`http://127.0.0.1:${port}`, token))).rejects.toMatchObject({
        code: "Unavailable",
        message: expect.stringMatching(/^The control plane (does not answer|cannot be called)/),
      })
    }
  })

  it("that has no credential now is not called without one", async () => {
    let calls = 0
    const server = await started(
      createServer((_, response) => {
        calls++
        response.end("{}")
      }),
      undefined,
    )
    const refusing = async (): Promise<string> => {
      throw new Error("the token file is gone")
    }
    const endpoint = { url: urlOf(server, "http"), credential: refusing }
    const failure = { code: "Unavailable", message: expect.stringContaining("token file is gone") }
    await expect(ask(endpoint)).rejects.toMatchObject(failure)
    const port = await openPort(ends, { handlers: { fleet: endpoint } })
    await expect(ask(endpointAt(`http://127.0.0.1:${port}`, token))).rejects.toMatchObject(failure)
    expect(calls).toBe(0)
  })

  it("holds up no cancelled call while it looks for its credential, and links once it has one", async () => {
    const hanging = endpointAt("http://127.0.0.1:1")
    const cancelled = new AbortController()
    const call = exchange(
      { ...hanging, credential: () => new Promise(() => {}) },
      { method: "GET", path: "/" },
      { signal: cancelled.signal, progress: noProgress },
    )
    cancelled.abort()
    await expect(call).rejects.toMatchObject({ code: "Unavailable" })
    const server = await started(createServer(echo), undefined)
    const links = linksAt(server, [closeReplaced])
    let asked = 0
    linkTo({
      url: urlOf(server, "http"),
      credential: async () => {
        if (++asked === 1) throw new Error("not yet")
        return "later"
      },
    })
    expect(await links).toEqual(["Bearer later"])
  })
})
