import type { Authenticate, Authenticated } from "../core/authenticate-port.ts"
import { Fault } from "../core/faults.ts"
import type { Principal } from "../core/principal.ts"

/** Who may come in at all: the same for a call, an MCP request and a WebSocket's upgrade. */

/**
 * The listener that a connection came through; `public` is one that other machines reach. Whoever
 * listens says so: a connection's own address is no proof, for that of a TCP connection vanishes
 * when its peer resets it, and then looks like a Unix socket's.
 */
export type Listener = "socket" | "tcp" | "public"

/** What is known of a request before its body is read. */
export interface Arrival {
  readonly listener: Listener
  readonly host: string | undefined
  readonly origin: string | undefined
  readonly authorization: string | undefined
}

export interface AdmissionParts {
  readonly authenticate: Authenticate
  /**
   * Who comes through the machine's own socket without a bearer: its directory has mode 0700.
   * Without it, nobody does.
   */
  readonly localAdmin?: Principal
  /** Where people on other machines reach the control plane, if they do. */
  readonly publicUrl: () => string | undefined
}

/** Host names that only this machine answers to; DNS rebinding makes a browser send others. */
const loopbackHost = /^(?:localhost|127\.0\.0\.1|\[::1\])(?::\d{1,5})?$/i
const loopbackOrigin = /^https?:\/\/(?:localhost|127\.0\.0\.1|\[::1\])(?::\d{1,5})?$/i

/**
 * An address, with or without a port: a page that DNS rebinding brought here sends the name that it
 * was loaded by.
 */
const addressHost = /^(?:\d{1,3}(?:\.\d{1,3}){3}|\[[0-9a-f:]+\])(?::\d{1,5})?$/i

/**
 * @throws Forbidden when the request was made for another host, or by a page of another origin,
 * than loopback's or the public one's.
 */
export function checkOrigin({ listener, host = "", origin }: Arrival, publicUrl?: string): void {
  const known = publicUrl === undefined ? undefined : new URL(publicUrl)
  // Compared as URLs, which drop the protocol's default port.
  const byName = known !== undefined && URL.parse(`${known.protocol}//${host}`)?.host === known.host
  if (
    listener !== "socket" &&
    !byName &&
    !loopbackHost.test(host) &&
    !(listener === "public" && addressHost.test(host))
  )
    throw new Fault(
      "Forbidden",
      "The Host header names another host.",
      `Call ${known?.origin ?? "http://127.0.0.1 or http://localhost"}, or set publicUrl in policy.yaml to the name that clients use.`,
    )
  if (origin !== undefined && origin !== known?.origin && !loopbackOrigin.test(origin))
    throw new Fault(
      "Forbidden",
      "Web pages of other origins cannot call this API.",
      "Call from a page on localhost, or without an Origin header.",
    )
}

/** The bearer of an Authorization header. */
export const readBearer = (authorization: string | undefined): string | undefined =>
  /^Bearer +([^\s]+) *$/i.exec(authorization ?? "")?.[1]

/** @throws Forbidden, Unauthenticated, Unavailable. */
export async function admit(
  { authenticate, localAdmin, publicUrl }: AdmissionParts,
  arrival: Arrival,
  signal: () => AbortSignal,
): Promise<Authenticated> {
  checkOrigin(arrival, publicUrl())
  const { listener, authorization } = arrival
  if (listener === "socket" && authorization === undefined && localAdmin) return { who: localAdmin }
  const bearer = readBearer(authorization)
  const found = bearer === undefined ? undefined : await authenticate(bearer, signal())
  if (found && !(found.localOnly && listener === "public")) return found
  throw new Fault(
    "Unauthenticated",
    authorization === undefined
      ? "The request does not say who sent it."
      : "This control plane does not know that token.",
    listener === "public"
      ? "Send `Authorization: Bearer <token>` with a token from `blackbox5 create-token` or from the fleet's issuer."
      : "Send `Authorization: Bearer <token>` with the token in the file `token` of the state directory.",
  )
}
