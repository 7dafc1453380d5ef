import { createHash, randomBytes } from "node:crypto"
import { Fault } from "../../core/faults.ts"
import type { Clock, Token, Tokens } from "../../core/ports.ts"
import { type Role, roles } from "../../core/role.ts"
import { tokenPrefix } from "../../core/secrets.ts"
import { topic } from "../../core/source.ts"
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

  const valid = ({ expiresAtMs, revokedAtMs }: Token): boolean =>
    revokedAtMs === undefined && (expiresAtMs === undefined || clock.nowMs() < expiresAtMs)
  const validOf = (name: string): readonly [string, Token] | undefined =>
    [...byDigest].find(([, token]) => token.name === name && valid(token))

  return {
    watch: revoked.source,
    async create({ name, role, expiresAtMs }) {
      if (validOf(name))
        throw new Fault(
          "Conflict",
          `${name} has a valid token already.`,
          "Revoke it first, or give the second one a name of its own, like ann-laptop.",
        )
      const ended = [...byDigest].filter(([, token]) => !valid(token)).map(([digest]) => digest)
      if (byDigest.size - ended.length >= sqliteTokensMax)
        throw new Fault(
          "TooLarge",
          `There are ${sqliteTokensMax} valid tokens, and no more can be.`,
          "Revoke those that nobody uses.",
        )
      const bearer = `${tokenPrefix}${randomBytes(32).toString("base64url")}`
      const digest = digestOf(bearer)
      const token: Token = {
        name,
        role,
        createdAtMs: clock.nowMs(),
        ...(expiresAtMs !== undefined && { expiresAtMs }),
      }
      const forgotten = ended.slice(0, Math.max(0, ended.length - sqliteTokensMax))
      database.write(() => {
        for (const one of forgotten) remove.run(one)
        insert.run(digest, name, role, token.createdAtMs, expiresAtMs ?? null)
      })
      for (const one of forgotten) byDigest.delete(one)
      byDigest.set(digest, token)
      return { token, bearer }
    },
    list: async () => [...byDigest.values()].reverse(),
    async revoke(name) {
      const found = validOf(name)
      if (!found)
        throw new Fault(
          "NotFound",
          `${JSON.stringify(name)} has no valid token.`,
          "list_tokens shows who has one.",
        )
      const [digest, token] = found
      const after: Token = { ...token, revokedAtMs: clock.nowMs() }
      database.write(() => mark.run(after.revokedAtMs ?? null, digest))
      byDigest.set(digest, after)
      revoked.changed(name)
      return after
    },
    async find(bearer) {
      const token = byDigest.get(digestOf(bearer))
      return token && valid(token) ? token : undefined
    },
  }
}
