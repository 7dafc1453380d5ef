import { chmodSync, rmSync } from "node:fs"
import type { Server } from "node:http"
import type { AddressInfo } from "node:net"
import { createAdaptorServer } from "@hono/node-server"
import type { Listener } from "../../api/admission.ts"
import { through } from "../../api/app.ts"
import type { LocalControlPlane } from "../../assemble/local.ts"
import { errorCode } from "../../core/error-code.ts"
import { Fault } from "../../core/faults.ts"
import { listeningPath } from "../../host/local-socket.ts"
import { type Config, defaultPort, isLoopback } from "../../settings/config.ts"

/** The sockets of `serve`: the Unix socket for this user, and one TCP port. */

/** At shutdown, requests that are still open after this long are cut. */
const drainMs = 2000

export interface Listening {
  /** Where clients reach the TCP port. */
  readonly url: string
  /**
   * Lets open requests finish for `drainMs`, then cuts them. Resolves when all sockets are closed.
   */
  close(): Promise<void>
}

type Address = { readonly path: string } | { readonly host: string; readonly port: number }

/** @throws Unavailable when the port cannot be opened; then nothing listens any more. */
export async function openSockets(config: Config, plane: LocalControlPlane): Promise<Listening> {
  const servers: Server[] = []
  const open = async (listener: Listener, address: Address): Promise<Server> => {
    const server = createAdaptorServer({
      fetch: through(plane.app, listener),
      overrideGlobalObjects: false,
    }) as Server // neither TLS nor HTTP/2 is requested
    plane.acceptLinks(server)
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject)
      server.listen(address, resolve)
    })
    servers.push(server)
    return server
  }
  // A killed serve leaves its socket behind. The database lock proves that nobody else serves.
  rmSync(config.socketPath, { force: true })
  await open("socket", { path: listeningPath(config.socketPath) })
  chmodSync(config.socketPath, 0o600)
  const port = await openPort(config, (number) =>
    open(isLoopback(config.host) ? "tcp" : "public", { host: config.host, port: number }),
  ).catch((error: unknown) => {
    for (const server of servers) server.close()
    throw error
  })
  return {
    url: `http://${urlHost(config.host)}:${port}`,
    async close() {
      const cut = setTimeout(() => {
        for (const server of servers) server.closeAllConnections()
      }, drainMs)
      await Promise.all(
        servers.map(
          (server) => new Promise((resolve) => server.close(resolve).closeIdleConnections()),
        ),
      )
      clearTimeout(cut)
    },
  }
}

/** The host part of a URL. A wildcard address is reached at loopback. */
function urlHost(host: string): string {
  if (host === "0.0.0.0" || host === "::") return "127.0.0.1"
  return host.includes(":") ? `[${host}]` : host
}

/** A port that the user named must be free; the default falls back to any free port. */
async function openPort(
  { host, port }: Config,
  open: (port: number) => Promise<Server>,
): Promise<number> {
  // A TCP server's address is never a path.
  const portNumber = (server: Server): number => (server.address() as AddressInfo).port
  try {
    return portNumber(await open(port.number))
  } catch (error) {
    const code = errorCode(error)
    if (code === undefined) throw error
    const isTaken = code === "EADDRINUSE"
    if (isTaken && !port.demanded && isLoopback(host)) return portNumber(await open(0))
    throw new Fault(
      "Unavailable",
      isTaken
        ? `Port ${port.number} is taken by another program.`
        : `Cannot listen on port ${port.number} (${code}).`,
      `Choose another port with --port or BLACKBOX5_PORT. Without either, serve tries ${defaultPort}, then any free port.`,
      error,
    )
  }
}
