import type { errors as JoseErrors, JWTPayload, JWTVerifyGetKey } from "jose"
import type { Authenticate, Authenticated } from "../core/authenticate-port.ts"
import { Fault } from "../core/faults.ts"
import type { Principal } from "../core/principal.ts"
import { type Role, roles } from "../core/role.ts"
import { cut, oneLine } from "../core/view.ts"
import { fetchIssuerKeys, issuerAnswerMs } from "./issuer-keys.ts"
import { shareQuestions } from "./shared-questions.ts"

/**
 * People whom an identity provider vouches for: JSON Web Tokens, checked against the keys that
 * their issuer publishes.
 */

export interface Oidc {
  readonly issuer: string
  readonly audience: string
  /** From values of a claim to roles. Whoever has none of the values has no role. */
  readonly roles: { readonly claim: string; readonly map: Readonly<Record<string, Role>> }
}

/** Asymmetric ones alone: under the others whoever can check a token can also make one. */
const algorithms = "RS256 RS384 RS512 PS256 PS384 PS512 ES256 ES384 ES512 EdDSA Ed25519".split(" ")
/** How far the issuer's clock may be off. */
const toleranceMs = 30_000
/** After a failure the issuer is left alone for so long, and callers are told at once. */
const failedMs = 5000
const bounds = {
  waitingMax: 100,
  // Its configuration, its keys, and a little for the check itself.
  answerMs: 2 * issuerAnswerMs + 2000,
  // Short, so that a key that the issuer withdraws soon stops counting.
  believedMs: 60_000,
  believedMax: 1000,
}
const subjectPattern = /^[\x21-\x7e]{1,128}$/

const refused = (message: string, cause?: unknown): Fault =>
  new Fault(
    "Unauthenticated",
    message,
    "Sign in again with the fleet's issuer, for the fleet's audience.",
    cause,
  )
const unavailable = (issuer: string, cause?: unknown): Fault =>
  new Fault(
    "Unavailable",
    `Your token cannot be checked now: ${issuer} did not give its keys.`,
    "Try again in 5 seconds.",
    cause,
  )

/** A claim by its whole name, else by a path with dots (`realm_access.roles`). */
function readClaim(payload: JWTPayload, claim: string): readonly string[] {
  const at = (node: unknown, key: string): unknown =>
    typeof node === "object" && node !== null && Object.hasOwn(node, key)
      ? Reflect.get(node, key)
      : undefined
  const found = at(payload, claim) ?? claim.split(".").reduce<unknown>(at, payload)
  return [found].flat().filter((value) => typeof value === "string")
}

/** The highest of several roles counts. @throws Forbidden without any. */
function readPerson(payload: JWTPayload, { issuer, roles: { claim, map } }: Oidc): Principal {
  const { sub = "" } = payload
  if (!subjectPattern.test(sub))
    throw refused("The subject of the token must be 1 to 128 printable ASCII characters.")
  const values = readClaim(payload, claim)
  const role = roles.findLast((one) =>
    values.some((value) => Object.hasOwn(map, value) && map[value] === one),
  )
  if (!role)
    throw new Fault(
      "Forbidden",
      `${issuer} knows you as ${sub}, but no value of your claim ${claim} has a role here.`,
      `Ask whoever runs this fleet to map one under oidc.roles.map in policy.yaml; yours are: ${oneLine(values.slice(0, 20).join(", "), 500) || "none"}.`,
    )
  const id = `oidc:${sub}`
  const name = [payload.preferred_username, payload.email, payload.name].find(
    (one) => typeof one === "string" && one !== "",
  )
  return name === undefined
    ? { kind: "human", id, role }
    : { kind: "human", id, role, name: cut(String(name), 80) }
}

/** What a failed check says of the token; undefined when the issuer is to blame. */
function tokenProblem(error: unknown, errors: typeof JoseErrors): string | undefined {
  if (error instanceof errors.JWTExpired) return "The token has expired."
  if (error instanceof errors.JWTClaimValidationFailed)
    return `The token's claim ${error.claim} is missing or wrong.`
  if (
    error instanceof errors.JWKSNoMatchingKey ||
    error instanceof errors.JWSSignatureVerificationFailed
  )
    return "The token is not signed with a key of the issuer."
  if (
    error instanceof errors.JWSInvalid ||
    error instanceof errors.JWTInvalid ||
    error instanceof errors.JOSEAlgNotAllowed
  )
    return "The bearer is not a valid JSON Web Token."
  return undefined
}

/** Checks the tokens of one issuer, and remembers its keys and its last failure. */
function createChecker(settings: Oidc, nowMs: () => number): Authenticate {
  const { issuer, audience } = settings
  let keys: Promise<JWTVerifyGetKey> | undefined
  let failure: { readonly atMs: number; readonly cause: unknown } | undefined

  return async (bearer): Promise<Authenticated> => {
    const { decodeJwt, decodeProtectedHeader, errors, jwtVerify } = await import("jose")
    let claims: JWTPayload
    let algorithm: string | undefined
    try {
      claims = decodeJwt(bearer)
      algorithm = decodeProtectedHeader(bearer).alg
    } catch (error) {
      throw refused("The bearer is not a valid JSON Web Token.", error)
    }
    // What can be seen without a key is not worth a question to the issuer.
    if (claims.iss !== issuer) throw refused("The token comes from another issuer.")
    if (!algorithms.includes(algorithm ?? ""))
      throw refused("The token is signed with an algorithm that is not accepted here.")
    if (failure && nowMs() - failure.atMs < failedMs) throw unavailable(issuer, failure.cause)
    try {
      keys ??= fetchIssuerKeys(issuer)
      const { payload } = await jwtVerify(bearer, await keys, {
        issuer,
        audience,
        algorithms,
        clockTolerance: toleranceMs / 1000,
        currentDate: new Date(nowMs()),
        requiredClaims: ["exp", "sub"],
      })
      const untilMs = (payload.exp ?? 0) * 1000 + toleranceMs
      return { who: readPerson(payload, settings), untilMs }
    } catch (error) {
      if (error instanceof Fault) throw error
      const problem = tokenProblem(error, errors)
      if (problem !== undefined) throw refused(problem, error)
      keys = undefined
      failure = { atMs: nowMs(), cause: error }
      throw unavailable(issuer, error)
    }
  }
}

/**
 * @param settings as the policy has them now; when they change, everything that was believed under
 * the old ones is forgotten.
 */
export function authenticateByIssuer(
  settings: () => Oidc | undefined,
  nowMs: () => number,
): Authenticate {
  let current: { readonly text: string; readonly authenticate: Authenticate } | undefined
  return async (bearer, signal) => {
    const now = settings()
    if (!now || bearer.split(".").length !== 3) return undefined
    const text = JSON.stringify(now)
    if (current?.text !== text)
      current = { text, authenticate: shareQuestions(createChecker(now, nowMs), bounds, nowMs) }
    return current.authenticate(bearer, signal)
  }
}
