import { once } from "node:events"
import { mkdtempSync, rmSync } from "node:fs"
import { createServer, type RequestListener } from "node:http"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { type LoopbackHandlers, listen } from "../../src/agent/loopback.ts"
import { endpointAt, socketUrl } from "../../src/core/endpoint.ts"

export const token = "the-port's"

export interface PortOptions {
  readonly handlers?: Partial<LoopbackHandlers>
  /** Stands for the control plane; without it nobody is there. */
  readonly answer?: RequestListener | undefined
  /** Its socket. */
  readonly at?: string | undefined
  readonly nowMs?: () => number
}

/**
 * A supervisor's port whose supervisor does nothing by itself. What has to be closed goes to
 * `ends`.
 */
export async function openPort(
  ends: (() => void)[],
  { handlers, answer, at, nowMs }: PortOptions = {},
): Promise<number> {
  const directory = mkdtempSync(join(tmpdir(), "bb5-port-"))
  ends.push(() => rmSync(directory, { recursive: true, force: true }))
  const socketPath = at ?? join(directory, "serve.sock")
  if (answer) {
    const server = createServer(answer)
    server.listen(socketPath)
    await once(server, "listening")
    ends.push(() => {
      server.close()
      server.closeAllConnections()
    })
  }
  const door = await listen(
    0,
    token,
    {
      turn: async () => undefined,
      turnEnded: async () => {},
      settings: async () => ({ path: "/settings", turn: "t-1" }),
      hook: () => ({}),
      given: () => {},
      openingPart: () => ({}),
      logs: () => {},
      mcp: async (c) => c.notFound(),
      fleet: endpointAt(socketUrl(socketPath), "the-instance's"),
      ...handlers,
    },
    nowMs,
  )
  ends.push(door.close)
  return door.port
}
