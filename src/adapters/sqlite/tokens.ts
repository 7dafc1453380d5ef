import { createHash, randomBytes } from "node:crypto"
import type { Clock, Token, Tokens } from "../../core/ports.ts"
import { type Role, roles } from "../../core/role.ts"
import { tokenPrefix } from "../../core/secrets.ts"
import { topic } from "../../core/source.ts"
import { isValidToken, newToken, revokedToken } from "../../core/token-writes.ts"
import type { Database } from "./open.ts"
import { maybeNumberOf, numberOf, stringOf } from "./row.ts"

/** Tokens that are valid at once; and how many of those that ended are still listed. */
export const sqliteTokensMax = 1000

// One pass of SHA-256 is enough: it keeps a reader of the file from the bearers, and 256 random
// bits cannot be guessed, however fast guesses are.
const digestOf = (bearer: string): string => createHash("sha256").update(bearer).digest("base64url")
const roleOf = (text: string): Role => {
  const role = roles.find((one) => one === text)
  if (role) return role
  throw new TypeError(`Column role holds ${JSON.stringify(text)}.`)
}

export function sqliteTokens(database: Database, clock: Clock): Tokens {
  const byDigest = new Map<string, Token>()
  for (const row of database.read(() =>
    database.prepare("SELECT * FROM token ORDER BY created_at_ms").all(),
  )) {
    const [expiresAtMs, revokedAtMs] = [
      maybeNumberOf(row, "expires_at_ms"),
      maybeNumberOf(row, "revoked_at_ms"),
    ]
    byDigest.set(stringOf(row, "digest"), {
      name: stringOf(row, "name"),
      role: roleOf(stringOf(row, "role")),
      createdAtMs: numberOf(row, "created_at_ms"),
      ...(expiresAtMs !== undefined && { expiresAtMs }),
      ...(revokedAtMs !== undefined && { revokedAtMs }),
    })
  }
  const insert = database.prepare(
    "INSERT INTO token (digest, name, role, created_at_ms, expires_at_ms) VALUES (?, ?, ?, ?, ?)",
  )
  const mark = database.prepare("UPDATE token SET revoked_at_ms = ? WHERE digest = ?")
  const remove = database.prepare("DELETE FROM token WHERE digest = ?")
  const revoked = topic<string>(async () => [])

  return {
    watch: revoked.source,
    async create(request) {
      const limits = { nowMs: clock.nowMs(), validMax: sqliteTokensMax }
      const { token, forgotten } = newToken(byDigest, request, limits)
      const { name, role, createdAtMs, expiresAtMs = null } = token
      const bearer = `${tokenPrefix}${randomBytes(32).toString("base64url")}`
      const digest = digestOf(bearer)
      database.write(() => {
        for (const one of forgotten) remove.run(one)
        insert.run(digest, name, role, createdAtMs, expiresAtMs)
      })
      for (const one of forgotten) byDigest.delete(one)
      byDigest.set(digest, token)
      return { token, bearer }
    },
    list: async () => [...byDigest.values()].reverse(),
    async revoke(name) {
      const { digest, token } = revokedToken(byDigest, name, clock.nowMs())
      database.write(() => mark.run(token.revokedAtMs, digest))
      byDigest.set(digest, token)
      revoked.changed(name)
      return token
    },
    async find(bearer) {
      const token = byDigest.get(digestOf(bearer))
      return token && isValidToken(token, clock.nowMs()) ? token : undefined
    },
  }
}
