import { Fault } from "./faults.ts"
import type { Token } from "./ports.ts"

/**
 * What every store of tokens decides about a write, given its tokens by the digest of their bearer,
 * the oldest first.
 */

type TokensByDigest = ReadonlyMap<string, Token>

export const isValidToken = ({ expiresAtMs, revokedAtMs }: Token, nowMs: number): boolean =>
  revokedAtMs === undefined && (expiresAtMs === undefined || nowMs < expiresAtMs)

const validTokenOf = (
  tokens: TokensByDigest,
  name: string,
  nowMs: number,
): readonly [string, Token] | undefined =>
  [...tokens].find(([, token]) => token.name === name && isValidToken(token, nowMs))

/**
 * The token as it is kept, and the digests of those that are forgotten for it: of the tokens that
 * ended, as many are still listed as may be valid. @throws Conflict when the name has a valid one,
 * TooLarge when `validMax` are valid.
 */
export function newToken(
  tokens: TokensByDigest,
  { name, role, expiresAtMs }: Pick<Token, "name" | "role" | "expiresAtMs">,
  { nowMs, validMax }: { readonly nowMs: number; readonly validMax: number },
): { readonly token: Token; readonly forgotten: readonly string[] } {
  if (validTokenOf(tokens, name, nowMs))
    throw new Fault(
      "Conflict",
      `${name} has a valid token already.`,
      "Revoke it first, or give the second one a name of its own, like ann-laptop.",
    )
  const ended = [...tokens]
    .filter(([, token]) => !isValidToken(token, nowMs))
    .map(([digest]) => digest)
  if (tokens.size - ended.length >= validMax)
    throw new Fault(
      "TooLarge",
      `There are ${validMax} valid tokens, and no more can be.`,
      "Revoke those that nobody uses.",
    )
  const token = {
    name,
    role,
    createdAtMs: nowMs,
    ...(expiresAtMs !== undefined && { expiresAtMs }),
  }
  return { token, forgotten: ended.slice(0, Math.max(0, ended.length - validMax)) }
}

/** The valid token of that name with its digest, revoked. @throws NotFound when there is none. */
export function revokedToken(
  tokens: TokensByDigest,
  name: string,
  nowMs: number,
): { readonly digest: string; readonly token: Token & { readonly revokedAtMs: number } } {
  const found = validTokenOf(tokens, name, nowMs)
  if (!found)
    throw new Fault(
      "NotFound",
      `${JSON.stringify(name)} has no valid token.`,
      "list_tokens shows who has one.",
    )
  const [digest, token] = found
  return { digest, token: { ...token, revokedAtMs: nowMs } }
}
