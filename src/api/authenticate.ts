import { createHash, timingSafeEqual } from "node:crypto"
import type { Authenticate } from "../core/authenticate-port.ts"
import { Fault } from "../core/faults.ts"
import type { Tokens } from "../core/ports.ts"
import type { Principal } from "../core/principal.ts"
import { tokenPrefix } from "../core/secrets.ts"

/** Ways to authenticate a bearer that ask nobody outside this process. */

/** node's servers take heads of 16 KiB, so no bearer that came over HTTP is longer. */
export const bearerCharactersMax = 16_384

const digest = (text: string): Buffer => createHash("sha256").update(text).digest()

/** Asks one after another: each knows bearers of its own form. */
export const authenticateByFirst =
  (...ways: readonly Authenticate[]): Authenticate =>
  async (bearer, signal) => {
    if (bearer.length > bearerCharactersMax) return undefined
    for (const authenticate of ways) {
      if (signal.aborted)
        throw new Fault("Unavailable", "The caller has gone away.", "Call again and wait.")
      const found = await authenticate(bearer, signal)
      if (found) return found
    }
    return undefined
  }

/** Whoever knows the machine's token is its admin, but only on the machine itself. */
export function authenticateByMachineToken(token: string, admin: Principal): Authenticate {
  const expected = digest(token)
  const found = { who: admin, localOnly: true }
  // Digests have one length, so that the comparison takes the same time for every guess.
  return async (bearer) => (timingSafeEqual(digest(bearer), expected) ? found : undefined)
}

/** The person whom a token was made for. */
export const authenticateByToken =
  (tokens: Pick<Tokens, "find">): Authenticate =>
  async (bearer) => {
    if (!bearer.startsWith(tokenPrefix)) return undefined
    const token = await tokens.find(bearer)
    if (!token)
      throw new Fault(
        "Unauthenticated",
        "The token is not valid: it may have expired or been revoked.",
        "Ask an admin of this fleet for a new one: `blackbox5 create-token`.",
      )
    const who: Principal = { kind: "human", id: token.name, role: token.role }
    return token.expiresAtMs === undefined ? { who } : { who, untilMs: token.expiresAtMs }
  }
