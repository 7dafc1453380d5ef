import type { FetchImplementation, JWTVerifyGetKey } from "jose"

/** The keys that an identity provider publishes (JWKS), found by its OpenID configuration. */

/** The issuer's time to answer: for its configuration, and again for its keys. */
export const issuerAnswerMs = 5000
const answerBytesMax = 1_048_576
/** Keys are fetched again after this; for an unknown key at most every 30 s. */
const keysMs = 600_000
const unknownKeyMs = 30_000

/** Refuses what is too large to be an answer. Redirects are not followed: jose asks for that. */
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

/** @throws when the issuer does not answer as it should. */
export async function fetchIssuerKeys(issuer: string): Promise<JWTVerifyGetKey> {
  const { createRemoteJWKSet, customFetch } = await import("jose")
  const url = `${issuer.replace(/\/$/, "")}/.well-known/openid-configuration`
  const response = await fetchBounded(url, {
    redirect: "manual",
    signal: AbortSignal.timeout(issuerAnswerMs),
  })
  if (response.status !== 200) throw new Error(`${url} answered ${response.status}`)
  const body: unknown = await response.json()
  const fields =
    typeof body === "object" && body !== null ? new Map(Object.entries(body)) : new Map()
  const keys: unknown = fields.get("jwks_uri")
  if (fields.get("issuer") !== issuer || typeof keys !== "string")
    throw new Error(`${url} is not the configuration of ${issuer}`)
  // The keys of an issuer with TLS are fetched with TLS.
  if (issuer.startsWith("https:") && !keys.startsWith("https:"))
    throw new Error(`${keys} does not use TLS`)
  return createRemoteJWKSet(new URL(keys), {
    timeoutDuration: issuerAnswerMs,
    cooldownDuration: unknownKeyMs,
    cacheMaxAge: keysMs,
    [customFetch]: fetchBounded satisfies FetchImplementation,
  })
}
