import { type OutgoingHttpHeaders, request as requestPlain } from "node:http"
import type { HttpBindings } from "@hono/node-server"
import { RESPONSE_ALREADY_SENT } from "@hono/node-server/utils/response"
import type { Context } from "hono"
import type { FaultCode } from "../core/faults.ts"
import { requestOptionsTo } from "../host/local-socket.ts"

/**
 * Hands a request of the instance on to where the instance may not go by itself: what it lacks is
 * added on the way.
 */

export interface Upstream {
  /** In words, for who is told that it does not answer. */
  readonly name: string
  readonly at: { readonly socketPath: string; readonly path: string } | { readonly url: string }
  /** Put in place of the caller's own headers of these names. */
  readonly headers: Readonly<Record<string, string>>
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

/** What is said in place of an answer, as the control plane says it. */
const refusal = (code: FaultCode, message: string, next: string): string =>
  JSON.stringify({ error: { code, message, next } })

/**
 * Streams a request there and its answer back; nothing is kept, so nothing need be bounded here but
 * the wait for a connection. Whoever of the two goes away first ends the other's side. Not by
 * `fetch`: it knows no Unix sockets, and would be loaded for this alone.
 */
export async function forward(
  c: ForwardContext,
  { name, at, headers: added }: Upstream,
): Promise<Response> {
  const { incoming, outgoing } = c.env
  const headers: OutgoingHttpHeaders = {
    ...incoming.headers,
    host: "url" in at ? new URL(at.url).host : "localhost",
    ...added,
  }
  for (const one of hopByHop) delete headers[one]
  // A body keeps its bounds: node writes one without a length into a GET as it is, and serve would
  // read it as a second call, which lacks the credential. There is no Content-Length beside it: the
  // port's parser refuses both.
  if (incoming.headers["transfer-encoding"] !== undefined) headers["transfer-encoding"] = "chunked"
  // Closed by us, behind the answer: an upstream that closes first meets the end of our request,
  // which then fails (EPIPE) though it was answered.
  headers.connection = "keep-alive"
  const secure = "url" in at && at.url.startsWith("https:")
  const request = secure ? (await import("node:https")).request : requestPlain
  const options = { method: incoming.method ?? "GET", headers, agent: false } as const
  return new Promise((resolve) => {
    const done = (): void => resolve(RESPONSE_ALREADY_SENT)
    const upstream =
      "url" in at
        ? request(at.url, options)
        : request({ ...options, ...requestOptionsTo(at.socketPath), path: at.path })
    const connecting = setTimeout(
      () => upstream.destroy(new Error("no connection in time")),
      connectMs,
    )
    outgoing.once("close", () => {
      clearTimeout(connecting)
      upstream.destroy()
      done()
    })
    upstream.on("socket", (socket) => socket.once("connect", () => clearTimeout(connecting)))
    upstream.on("error", (error) => {
      clearTimeout(connecting)
      if (outgoing.headersSent) return void outgoing.destroy()
      incoming.resume() // read to its end, so that its sender sees the answer
      outgoing.writeHead(503, { "content-type": "application/json" })
      outgoing.end(
        refusal(
          "Unavailable",
          `${name} does not answer (${error.message}).`,
          "Go on with something else, and try again in a minute.",
        ),
      )
    })
    upstream.on("response", (response) => {
      for (const one of hopByHop) delete response.headers[one]
      outgoing.writeHead(response.statusCode ?? 502, response.headers)
      outgoing.flushHeaders()
      response.on("error", () => outgoing.destroy())
      response.pipe(outgoing)
    })
    incoming.pipe(upstream)
  })
}
