import { createHash } from "node:crypto"
import type { FetchImplementation, JWTPayload, JWTVerifyGetKey } from "jose"
import { LRUCache } from "lru-cache"
import { Fault } from "../core/faults.ts"
import type { Principal } from "../core/principal.ts"
import { type Role, roles } from "../core/role.ts"
import { cut, oneLine } from "../core/view.ts"
import type { BearerOwner } from "./auth.ts"

/**
 * People whom an identity provider vouches for: JSON Web Tokens, checked against the keys that
 * their issuer publishes (JWKS).
 */

export interface Oidc {
  readonly issuer: string
  readonly audience: string
  /** Which values of which claim make whom what. Nobody has a role without them. */
  readonly roles: { readonly claim: string; readonly map: Readonly<Record<string, Role>> }
}

/** Asymmetric ones alone: under the others whoever can check a token can also make one. */
const algorithms = "RS256 RS384 RS512 PS256 PS384 PS512 ES256 ES384 ES512 EdDSA Ed25519".split(" ")
/** How far the issuer's clock may be off. */
const toleranceSeconds = 30
/**
 * The issuer's time to answer; for one question about its configuration, and one about its keys.
 */
const answerMs = 5000
const answerBytesMax = 1_048_576
/** After a failure it is left alone this long, and everybody hears so at once. */
const failedMs = 5000
/** Keys are fetched again after this; for a key that is not among them at most every 30 s. */
const keysMs = 600_000
const unknownKeyMs = 30_000
/** A token that was checked is believed this long, so that a key that is withdrawn counts soon. */
const believedMs = 60_000
const believedMax = 1000
const waitingMax = 100
const subjectPattern = /^[\x21-\x7e]{1,128}$/

const refused = (message: string, cause?: unknown): Fault =>
  new Fault(
    "Unauthenticated",
    message,
    "Sign in again with the issuer, for this fleet's audience.",
    cause,
  )

/** Redirects are not followed (jose asks so), and what is too large is no answer. */
const fetchBounded = async (url: string, options: RequestInit): Promise<Response> => {
  const response = await fetch(url, options)
  const chunks: Uint8Array[] = []
  let bytes = 0
  for await (const chunk of response.body ?? []) {
    bytes += chunk.byteLength
    if (bytes > answerBytesMax)
      throw new Error(`${url} answered with more than ${answerBytesMax} bytes`)
    chunks.push(chunk)
  }
  return new Response(Buffer.concat(chunks), { status: response.status })
}

async function keysOf(issuer: string): Promise<JWTVerifyGetKey> {
  const { createRemoteJWKSet, customFetch } = await import("jose")
  const url = `${issuer.replace(/\/$/, "")}/.well-known/openid-configuration`
  const response = await fetchBounded(url, {
    redirect: "manual",
    signal: AbortSignal.timeout(answerMs),
  })
  if (response.status !== 200) throw new Error(`${url} answered ${response.status}`)
  const said: unknown = await response.json()
  const { issuer: its, jwks_uri: keys } =
    typeof said === "object" && said !== null ? { issuer: "", jwks_uri: "", ...said } : {}
  if (its !== issuer || typeof keys !== "string")
    throw new Error(`${url} is not the configuration of ${issuer}`)
  // Keys of an issuer that is reached by TLS are fetched by TLS.
  if (issuer.startsWith("https:") && !keys.startsWith("https:"))
    throw new Error(`${keys} is not reached by TLS`)
  return createRemoteJWKSet(new URL(keys), {
    timeoutDuration: answerMs,
    cooldownDuration: unknownKeyMs,
    cacheMaxAge: keysMs,
    [customFetch]: fetchBounded satisfies FetchImplementation,
  })
}

/** A claim by its whole name, else by a path with dots (`realm_access.roles`). */
function claimOf(payload: JWTPayload, claim: string): readonly string[] {
  const at = (node: unknown, key: string): unknown =>
    typeof node === "object" && node !== null && Object.hasOwn(node, key)
      ? Reflect.get(node, key)
      : undefined
  const found = at(payload, claim) ?? claim.split(".").reduce<unknown>(at, payload)
  return [found].flat().filter((value) => typeof value === "string")
}

/** Of several roles the highest. @throws Forbidden for who has none. */
function personOf(payload: JWTPayload, { issuer, roles: { claim, map } }: Oidc): Principal {
  const { sub = "" } = payload
  if (!subjectPattern.test(sub))
    throw refused("The token names no subject that could stand in an audit.")
  const values = claimOf(payload, claim)
  const role = roles.findLast((one) =>
    values.some((value) => Object.hasOwn(map, value) && map[value] === one),
  )
  const name = [payload.preferred_username, payload.email, payload.name].find(
    (one) => typeof one === "string" && one !== "",
  )
  if (role)
    return {
      kind: "human",
      id: `oidc:${sub}`,
      role,
      ...(name !== undefined && { name: cut(String(name), 80) }),
    }
  throw new Fault(
    "Forbidden",
    `${issuer} knows you as ${sub}, but no value of your claim ${claim} has a role here.`,
    `Whoever runs this fleet gives one under oidc.roles.map in policy.yaml; yours are: ${oneLine(values.slice(0, 20).join(", "), 500) || "none"}.`,
  )
}

interface Checker {
  readonly settings: Oidc
  readonly believed: LRUCache<string, Principal>
  keys: Promise<JWTVerifyGetKey> | undefined
  failed: { readonly atMs: number; readonly why: string } | undefined
}

/**
 * @param settings as the policy says now; other settings begin anew, and believe nothing of before.
 */
export function issuedBy(settings: () => Oidc | undefined, nowMs: () => number): BearerOwner {
  let checker: Checker | undefined
  let waiting = 0
  const current = (now: Oidc): Checker => {
    if (JSON.stringify(checker?.settings) !== JSON.stringify(now))
      checker = {
        settings: now,
        believed: new LRUCache({ max: believedMax }),
        keys: undefined,
        failed: undefined,
      }
    return checker as Checker // just made, where it was none
  }
  const unavailable = (why: string, cause?: unknown): Fault =>
    new Fault(
      "Unavailable",
      `Who you are cannot be checked now: ${why}.`,
      "Try again in 5 seconds.",
      cause,
    )

  const check = async (one: Checker, bearer: string): Promise<Principal> => {
    const { decodeJwt, decodeProtectedHeader, errors, jwtVerify } = await import("jose")
    const { issuer, audience } = one.settings
    let said: JWTPayload
    let algorithm: string | undefined
    try {
      said = decodeJwt(bearer)
      algorithm = decodeProtectedHeader(bearer).alg
    } catch (error) {
      throw refused("The bearer is no token that could be read.", error)
    }
    // What can be seen without a key is not worth a question to the issuer.
    if (said.iss !== issuer) throw refused("The token is of another issuer than this fleet's.")
    if (!algorithms.includes(algorithm ?? ""))
      throw refused("The token is signed in a way that is not taken here.")
    if (one.failed && nowMs() - one.failed.atMs < failedMs) throw unavailable(one.failed.why)
    try {
      one.keys ??= keysOf(issuer)
      const { payload } = await jwtVerify(bearer, await one.keys, {
        ...{
          issuer,
          audience,
          algorithms,
          clockTolerance: toleranceSeconds,
          currentDate: new Date(nowMs()),
        },
        requiredClaims: ["exp", "sub"],
      })
      const who = personOf(payload, one.settings)
      const leftMs = (payload.exp ?? 0) * 1000 + toleranceSeconds * 1000 - nowMs()
      one.believed.set(createHash("sha256").update(bearer).digest("base64url"), who, {
        ttl: Math.max(1, Math.min(believedMs, leftMs)),
      })
      return who
    } catch (error) {
      if (error instanceof Fault) throw error
      if (error instanceof errors.JWTExpired) throw refused("The token has expired.", error)
      if (error instanceof errors.JWTClaimValidationFailed)
        throw refused(`The token's claim ${error.claim} is not what it must be.`, error)
      if (
        error instanceof errors.JWKSNoMatchingKey ||
        error instanceof errors.JWSSignatureVerificationFailed
      )
        throw refused("The token's signature is of no key of the issuer.", error)
      const ofToken =
        error instanceof errors.JWSInvalid ||
        error instanceof errors.JWTInvalid ||
        error instanceof errors.JOSEAlgNotAllowed
      if (ofToken) throw refused("The bearer is no token that could be checked.", error)
      one.keys = undefined
      one.failed = { atMs: nowMs(), why: `${issuer} did not give its keys` }
      throw unavailable(one.failed.why, error)
    }
  }

  return async (bearer) => {
    const now = settings()
    if (!now || bearer.split(".").length !== 3) return undefined
    const one = current(now)
    const known = one.believed.get(createHash("sha256").update(bearer).digest("base64url"))
    if (known) return known
    // Each that waits for the issuer holds a connection.
    if (waiting >= waitingMax) throw unavailable("many wait for it already")
    waiting++
    try {
      return await check(one, bearer)
    } finally {
      waiting--
    }
  }
}
