import { createHash, randomBytes, timingSafeEqual } from "node:crypto"
import {
  chmodSync,
  existsSync,
  linkSync,
  mkdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs"
import { join } from "node:path"
import { Fault } from "../core/faults.ts"
import { hasLiveRun, isUpcomingRun } from "../core/instance.ts"
import type { Instances, Tokens } from "../core/ports.ts"
import type { Principal } from "../core/principal.ts"
import { machineTokenPrefix, tokenPrefix } from "../core/secrets.ts"
import type { Credentials } from "./link.ts"

/**
 * The listener a connection came through; `public` is one that other machines reach. It is told by
 * whoever listens: a connection's own address is no proof, for that of a TCP connection vanishes
 * when its peer resets it, and then looks like a Unix socket's.
 */
export type Listener = "socket" | "tcp" | "public"

/**
 * What is known of a request before its body is read; the same for a call and for a WebSocket's
 * upgrade.
 */
export interface Arrival {
  readonly door: Listener
  readonly host: string | undefined
  readonly origin: string | undefined
  readonly authorization: string | undefined
}
export type Authenticate = (arrival: Arrival) => Promise<Principal | undefined>

/** Host names that only this machine answers to; DNS rebinding makes a browser send others. */
const loopbackHost = /^(?:localhost|127\.0\.0\.1|\[::1\])(?::\d{1,5})?$/i
const loopbackOrigin = /^https?:\/\/(?:localhost|127\.0\.0\.1|\[::1\])(?::\d{1,5})?$/i

/**
 * An address, with or without a port: a page that was brought here by a name that lies (DNS
 * rebinding) sends that name.
 */
const addressHost = /^(?:\d{1,3}(?:\.\d{1,3}){3}|\[[0-9a-f:]+\])(?::\d{1,5})?$/i

/**
 * @throws Forbidden when the request was made for another host, or by a page of another origin,
 * than loopback's or the public one's.
 */
export function checkOrigin({ door, host = "", origin }: Arrival, publicUrl?: string): void {
  const known = publicUrl === undefined ? undefined : new URL(publicUrl)
  // By URL, which drops the port that the protocol has anyhow.
  const byName = known !== undefined && URL.parse(`${known.protocol}//${host}`)?.host === known.host
  if (
    door !== "socket" &&
    !byName &&
    !loopbackHost.test(host) &&
    !(door === "public" && addressHost.test(host))
  )
    throw new Fault(
      "Forbidden",
      "The Host header is not this machine's.",
      `Call ${known?.origin ?? "http://127.0.0.1 or http://localhost"}; other names are given by publicUrl in policy.yaml.`,
    )
  if (origin !== undefined && origin !== known?.origin && !loopbackOrigin.test(origin))
    throw new Fault(
      "Forbidden",
      "Pages of other origins may not call.",
      "Call from a page of localhost, or without an Origin.",
    )
}

/**
 * Who is calling. Calls and WebSocket upgrades both come through here. @throws Forbidden,
 * Unauthenticated.
 */
export async function admit(
  authenticate: Authenticate,
  arrival: Arrival,
  publicUrl?: string,
): Promise<Principal> {
  checkOrigin(arrival, publicUrl)
  const who = await authenticate(arrival)
  if (who) return who
  throw new Fault(
    "Unauthenticated",
    arrival.authorization === undefined
      ? "No bearer token came with the call."
      : "The bearer token is not valid here.",
    arrival.door === "public"
      ? "Send `Authorization: Bearer <token>`, with one of `blackbox5 create-token` or of the fleet's issuer."
      : "Send `Authorization: Bearer <token>`; the machine's is in the file `token` of the state directory.",
  )
}

/** The bearer of an Authorization header. */
export const bearerOf = (authorization: string | undefined): string | undefined =>
  /^Bearer +([^\s]+) *$/i.exec(authorization ?? "")?.[1]

const digest = (text: string): Buffer => createHash("sha256").update(text).digest()

/**
 * Who has a bearer; undefined when it is none that this one knows. @throws Unauthenticated when it
 * is known to be worth nothing any more.
 */
export type BearerOwner = (bearer: string) => Promise<Principal | undefined>

/**
 * One machine: whoever reaches the socket in the 0700 directory and says no more, or knows the
 * token, is this machine's admin. A bearer says who is calling through any door: an instance that
 * comes through the socket is an instance. From other machines nobody is this one's admin.
 */
export function localAuthenticate({
  token,
  admin,
  owner,
}: {
  token: string
  admin: Principal
  owner: BearerOwner
}): Authenticate {
  const expected = digest(token)
  return async ({ door, authorization }) => {
    if (door === "socket" && authorization === undefined) return admin
    const bearer = bearerOf(authorization)
    if (bearer === undefined) return undefined
    // Digests have one length, so that the comparison takes the same time for every guess.
    return door !== "public" && timingSafeEqual(digest(bearer), expected) ? admin : owner(bearer)
  }
}

/** Each knows bearers of its own form. */
export const firstOf =
  (...owners: readonly BearerOwner[]): BearerOwner =>
  async (bearer) => {
    for (const owner of owners) {
      const who = await owner(bearer)
      if (who) return who
    }
    return undefined
  }

/** The person whom a token was made for. */
export const ownerByToken =
  (tokens: Pick<Tokens, "find">): BearerOwner =>
  async (bearer) => {
    if (!bearer.startsWith(tokenPrefix)) return undefined
    const token = await tokens.find(bearer)
    if (token) return { kind: "human", id: token.name, role: token.role }
    throw new Fault(
      "Unauthenticated",
      "The token is not valid here, or not any more: it may have expired, or been revoked.",
      "Ask an admin of this fleet for another: `blackbox5 create-token`.",
    )
  }

/** The instance that a supervisor's credential speaks for, while its run lives. */
export const ownerByCredential =
  (credentials: Pick<Credentials, "verify">, store: Pick<Instances, "get">): BearerOwner =>
  async (bearer) => {
    const holder = credentials.verify(bearer)
    if (!holder) return undefined
    const { name, uid, place } = holder
    const instance = await store.get(name)
    const run = instance?.uid === uid ? instance.status.run : undefined
    if (instance && run?.place === place && hasLiveRun(instance))
      return { kind: "instance", id: name, uid, lineage: instance.spec.lineage }
    // A start is written to the store a moment after it began.
    if (instance?.uid === uid && isUpcomingRun(holder, run))
      throw new Fault("Unavailable", "This run is only beginning.", "Try again in a second.")
    throw new Fault(
      "Unauthenticated",
      "The credential is of a run that is over.",
      "Nothing: what still runs of it will be ended. A new run has a credential of its own.",
    )
  }

const tokenShape = /^[\w-]{43,}$/

/**
 * The machine's token for calls over TCP: 256 random bits in `<stateDirectory>/token`, made at the
 * first reading. One of before it had a prefix stays valid: it stands in the headers of people's
 * clients.
 */
export function readToken(stateDirectory: string): string {
  const path = join(stateDirectory, "token")
  mkdirSync(stateDirectory, { recursive: true, mode: 0o700 })
  const draft = `${path}.${process.pid}.${randomBytes(4).toString("hex")}`
  // On a full disk the one that is there must do.
  if (!existsSync(path)) makeToken(path, draft)
  chmodSync(path, 0o600)
  const token = readFileSync(path, "utf8").trim()
  if (tokenShape.test(token)) return token
  throw new Fault(
    "Invalid",
    `${path} holds no token of at least 256 bits.`,
    "Remove the file: a new token is made.",
  )
}
function makeToken(path: string, draft: string): void {
  try {
    writeFileSync(draft, `${machineTokenPrefix}${randomBytes(32).toString("base64url")}\n`, {
      mode: 0o600,
      flag: "wx",
    })
    // A link appears with its contents, so that nobody reads half a token; it fails when another
    // process was first.
    linkSync(draft, path)
  } catch (error) {
    if (!(error instanceof Error && "code" in error && error.code === "EEXIST")) throw error
  } finally {
    rmSync(draft, { force: true })
  }
}
