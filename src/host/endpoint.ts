import { readFileSync } from "node:fs"
import type { ClientRequest, OutgoingHttpHeaders } from "node:http"
import type { Socket } from "node:net"
import { type Endpoint, type EndpointAddress, socketPathIn } from "../core/endpoint.ts"
import { connectTo, requestOptionsTo } from "./local-socket.ts"

/** Requests and WebSockets to an endpoint, whether it is a socket, HTTP or HTTPS. */

// An import of node:http also loads what it merely re-exports, node's fetch and WebSocket: 40 ms
// and 12 MiB in every client. node:https comes when it is needed.
const { request: requestPlain } = process.getBuiltinModule("node:http")

/** An endpoint that cannot name its credential by then counts as one that cannot be reached. */
const credentialMs = 10_000

/** @throws what the endpoint throws, or an error after 10 s. */
export function credentialInTime(endpoint: Endpoint): Promise<string | undefined> {
  const { promise, resolve, reject } = Promise.withResolvers<string | undefined>()
  const timer = setTimeout(
    () => reject(new Error(`no credential within ${credentialMs / 1000} s`)),
    credentialMs,
  )
  endpoint
    .credential()
    .then(resolve, reject)
    .finally(() => clearTimeout(timer))
  return promise
}

/** Read again for each connection: authorities are replaced while programs run. */
const authorities = ({ caFile }: EndpointAddress): { readonly ca?: Buffer } =>
  caFile === undefined ? {} : { ca: readFileSync(caFile) }

/**
 * Begins a request, on a connection of its own: one that is kept could be closed by a restart just
 * while a call is written to it. `path` is appended to the URL of the endpoint; without it, the URL
 * is asked for as it is.
 */
export function openRequest(
  address: EndpointAddress,
  {
    method,
    path,
    headers,
  }: {
    readonly method: string
    readonly path?: string
    readonly headers: OutgoingHttpHeaders
  },
): ClientRequest {
  const socketPath = socketPathIn(address.url)
  if (socketPath !== undefined)
    return requestPlain({ method, path: path ?? "/", headers, ...requestOptionsTo(socketPath) })
  const url = new URL(path === undefined ? address.url : address.url.replace(/\/+$/, "") + path)
  const options = { method, headers, agent: false }
  if (url.protocol !== "https:") return requestPlain(url, options)
  return process
    .getBuiltinModule("node:https")
    .request(url, { ...options, ...authorities(address) })
}

/** Calls `then` once the connection can carry the request: for HTTPS when it is encrypted. */
export const onceConnected = (request: ClientRequest, then: () => void): void =>
  void request.on("socket", (socket) =>
    socket.once("encrypted" in socket ? "secureConnect" : "connect", then),
  )

/** For a WebSocket: the URL to give it, and how it gets there, as options of `ws`. */
export function webSocketRoute(
  address: EndpointAddress,
  path: string,
): {
  readonly url: string
  readonly options: { readonly createConnection?: () => Socket; readonly ca?: Buffer }
} {
  const socketPath = socketPathIn(address.url)
  // Not as part of the URL, in which `:`, `?`, `#` and `%` would mean something else.
  if (socketPath !== undefined)
    return {
      url: `ws://localhost${path}`,
      options: { createConnection: () => connectTo(socketPath) },
    }
  return {
    url: address.url.replace(/^http/, "ws").replace(/\/+$/, "") + path,
    options: authorities(address),
  }
}
