import { createHash, randomBytes, timingSafeEqual } from "node:crypto"
import { chmodSync, linkSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { Fault } from "../core/faults.ts"
import type { Principal } from "../core/principal.ts"

/**
 * The listener a connection came through. It is told by whoever listens: a connection's own address is no proof, for that of a
 * TCP connection vanishes when its peer resets it, and then looks like a Unix socket's.
 */
export type Door = "socket" | "tcp"

/** What is known of a request before its body is read; the same for a call and for a WebSocket's upgrade. */
export interface Arrival {
  readonly door: Door
  readonly host: string | undefined
  readonly origin: string | undefined
  readonly authorization: string | undefined
}
export type Authenticate = (arrival: Arrival) => Promise<Principal | undefined>

/** Host names that only this machine answers to; DNS rebinding makes a browser send others. */
const loopbackHost = /^(?:localhost|127\.0\.0\.1|\[::1\])(?::\d{1,5})?$/i
const loopbackOrigin = /^https?:\/\/(?:localhost|127\.0\.0\.1|\[::1\])(?::\d{1,5})?$/i

/** @throws Forbidden when the request was made for another host, or by a page of another origin. */
export function checkOrigin({ door, host, origin }: Arrival): void {
  if (door !== "socket" && !loopbackHost.test(host ?? ""))
    throw new Fault("Forbidden", "The Host header is not this machine's.", "Call http://127.0.0.1 or http://localhost.")
  if (origin !== undefined && !loopbackOrigin.test(origin))
    throw new Fault("Forbidden", "Pages of other origins may not call.", "Call from a page of localhost, or without an Origin.")
}

/** Who is calling. Calls and WebSocket upgrades both come through here. @throws Forbidden, Unauthenticated. */
export async function admit(authenticate: Authenticate, arrival: Arrival): Promise<Principal> {
  checkOrigin(arrival)
  const who = await authenticate(arrival)
  if (who) return who
  throw new Fault(
    "Unauthenticated",
    arrival.authorization === undefined ? "No bearer token came with the call." : "The bearer token is not valid here.",
    "Send `Authorization: Bearer <token>`; the token is in the file `token` of the state directory.",
  )
}

/** The bearer of an Authorization header. */
export const bearerOf = (authorization: string | undefined): string | undefined =>
  /^Bearer +([^\s]+) *$/i.exec(authorization ?? "")?.[1]

const digest = (text: string): Buffer => createHash("sha256").update(text).digest()

/** One machine: whoever reaches the socket in the 0700 directory, or knows the token, is this machine's admin. */
export function localAuthenticate({ token, userName }: { token: string; userName: string }): Authenticate {
  const admin: Principal = { kind: "human", id: userName, role: "admin" }
  const expected = digest(token)
  return async ({ door, authorization }) => {
    if (door === "socket") return admin
    const bearer = bearerOf(authorization)
    // Digests have one length, so that the comparison takes the same time for every guess.
    return bearer !== undefined && timingSafeEqual(digest(bearer), expected) ? admin : undefined
  }
}

const tokenShape = /^[\w-]{43,}$/

/** The machine's token for calls over TCP: 256 random bits in `<stateDirectory>/token`, made at the first reading. */
export function readToken(stateDirectory: string): string {
  const path = join(stateDirectory, "token")
  mkdirSync(stateDirectory, { recursive: true, mode: 0o700 })
  const draft = `${path}.${process.pid}.${randomBytes(4).toString("hex")}`
  try {
    writeFileSync(draft, `${randomBytes(32).toString("base64url")}\n`, { mode: 0o600, flag: "wx" })
    // A link appears with its contents, so that nobody reads half a token; it fails when another process was first.
    linkSync(draft, path)
  } catch (error) {
    if (!(error instanceof Error && "code" in error && error.code === "EEXIST")) throw error
  } finally {
    rmSync(draft, { force: true })
  }
  chmodSync(path, 0o600)
  const token = readFileSync(path, "utf8").trim()
  if (tokenShape.test(token)) return token
  throw new Fault("Invalid", `${path} holds no token of at least 256 bits.`, "Remove the file: a new token is made.")
}
