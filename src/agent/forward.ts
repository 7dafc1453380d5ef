import type { ClientRequest, IncomingMessage, OutgoingHttpHeaders, ServerResponse } from "node:http"
import type { HttpBindings } from "@hono/node-server"
import { RESPONSE_ALREADY_SENT } from "@hono/node-server/utils/response"
import type { Context } from "hono"
import { type EndpointAddress, socketPathIn } from "../core/endpoint.ts"
import type { FaultCode } from "../core/faults.ts"
import { onceConnected, openRequest } from "../host/endpoint.ts"

/**
 * Hands a request of the instance on to where the instance may not go by itself: what it lacks is
 * added on the way.
 */

export interface Upstream {
  /** For whoever is told that it does not answer: `The control plane`. */
  readonly name: string
  readonly address: EndpointAddress
  /** Appended to the URL of the address, which without it is asked for as it is. */
  readonly path?: string
  /** Put in place of the caller's own headers of these names. @throws when they cannot be had. */
  headers(): Promise<Readonly<Record<string, string>>>
}
export type ForwardContext = Context<{ Bindings: HttpBindings }>

/** Of one connection, not of the message (RFC 9110, 7.6.1). */
const hopByHop = [
  "connection",
  "keep-alive",
  "proxy-authenticate",
  "proxy-authorization",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
]
const connectMs = 10_000

/** An error in the form that the control plane has for it. */
const errorBody = (code: FaultCode, message: string, next: string): string =>
  JSON.stringify({ error: { code, message, next } })

function upstreamHeaders(
  incoming: IncomingMessage,
  url: string,
  added: Readonly<Record<string, string>>,
): OutgoingHttpHeaders {
  const headers: OutgoingHttpHeaders = {
    ...incoming.headers,
    host: socketPathIn(url) === undefined ? new URL(url).host : "localhost",
    ...added,
  }
  for (const name of hopByHop) delete headers[name]
  // A body keeps its framing: node writes one without a length into a GET as it is, and serve would
  // read it as a second call, which lacks the credential. There is no Content-Length beside it: the
  // port's parser refuses both.
  if (incoming.headers["transfer-encoding"] !== undefined) headers["transfer-encoding"] = "chunked"
  // We close the connection ourselves, after the answer: an upstream that closes first meets the
  // end of our request, which then fails (EPIPE) although it was answered.
  headers.connection = "keep-alive"
  return headers
}

function refuse(incoming: IncomingMessage, outgoing: ServerResponse, message: string): void {
  if (outgoing.headersSent) return void outgoing.destroy()
  incoming.resume() // read to its end, so that its sender sees the answer
  outgoing.writeHead(503, { "content-type": "application/json" })
  outgoing.end(
    errorBody("Unavailable", message, "Go on with something else, and try again in a minute."),
  )
}

/**
 * Streams a request there and its answer back; nothing is kept, so nothing need be bounded here but
 * the wait for a connection. Whoever of the two goes away first ends the other's side. Not by
 * `fetch`: it knows no Unix sockets, and would be loaded for this alone.
 */
export async function forward(
  c: ForwardContext,
  { name, address, path, headers: addedHeaders }: Upstream,
): Promise<Response> {
  const { incoming, outgoing } = c.env
  let upstream: ClientRequest
  try {
    const headers = upstreamHeaders(incoming, address.url, await addedHeaders())
    const method = incoming.method ?? "GET"
    upstream = openRequest(
      address,
      path === undefined ? { method, headers } : { method, path, headers },
    )
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error)
    refuse(incoming, outgoing, `${name} cannot be called (${why}).`)
    return RESPONSE_ALREADY_SENT
  }
  return new Promise((resolve) => {
    const connecting = setTimeout(
      () => upstream.destroy(new Error(`no connection within ${connectMs / 1000} s`)),
      connectMs,
    )
    const end = (): void => {
      clearTimeout(connecting)
      upstream.destroy()
      resolve(RESPONSE_ALREADY_SENT)
    }
    outgoing.once("close", end)
    onceConnected(upstream, () => clearTimeout(connecting))
    upstream.on("error", (error) => {
      clearTimeout(connecting)
      refuse(incoming, outgoing, `${name} does not answer (${error.message}).`)
    })
    upstream.on("response", (response) => {
      for (const one of hopByHop) delete response.headers[one]
      outgoing.writeHead(response.statusCode ?? 502, response.headers)
      outgoing.flushHeaders()
      response.on("error", () => outgoing.destroy())
      response.pipe(outgoing)
    })
    // It may have gone away while its headers were prepared.
    if (outgoing.destroyed) end()
    else incoming.pipe(upstream)
  })
}
