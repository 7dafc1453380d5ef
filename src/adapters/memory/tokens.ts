import { createHash, randomBytes } from "node:crypto"
import type { Tokens } from "../../core/ports.ts"
import { tokenPrefix } from "../../core/secrets.ts"
import { topic } from "../../core/source.ts"
import { isValidToken, newToken, revokedToken } from "../../core/token-writes.ts"
import type { Connection } from "./connection.ts"

/** Tokens that are valid at once; and how many of those that ended are still listed. */
export const memoryTokensMax = 100

const digestOf = (bearer: string): string => createHash("sha256").update(bearer).digest("base64url")

export function memoryTokens({ backend, reach, signal }: Connection): Tokens {
  const { tokens, clock } = backend
  const revoked = topic<string>(async () => [])
  const told = new Set<string>()
  const end = backend.listen("tokens", () => {
    for (const [digest, { name, revokedAtMs }] of tokens) {
      if (revokedAtMs === undefined || told.has(digest)) continue
      told.add(digest)
      revoked.changed(name)
    }
  })
  signal.addEventListener("abort", end)

  return {
    watch: revoked.source,
    create: (request) =>
      reach("tokens.create", () => {
        const limits = { nowMs: clock.nowMs(), validMax: memoryTokensMax }
        const { token, forgotten } = newToken(tokens, request, limits)
        for (const digest of forgotten) {
          tokens.delete(digest)
          told.delete(digest)
        }
        const bearer = `${tokenPrefix}${randomBytes(32).toString("base64url")}`
        tokens.set(digestOf(bearer), token)
        return { token, bearer }
      }),
    list: () => reach("tokens.list", () => [...tokens.values()].reverse()),
    revoke: (name) =>
      reach("tokens.revoke", () => {
        const { digest, token } = revokedToken(tokens, name, clock.nowMs())
        tokens.set(digest, token)
        backend.changed("tokens")
        return token
      }),
    find: (bearer) =>
      reach("tokens.find", () => {
        const token = tokens.get(digestOf(bearer))
        return token && isValidToken(token, clock.nowMs()) ? token : undefined
      }),
  }
}
