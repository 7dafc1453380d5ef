import { createHash, randomBytes } from "node:crypto"
import { Fault } from "../../core/faults.ts"
import type { Token, Tokens } from "../../core/ports.ts"
import { tokenPrefix } from "../../core/secrets.ts"
import { topic } from "../../core/source.ts"
import type { Connection } from "./connection.ts"

/** Tokens that are valid at once; and how many of those that ended are still listed. */
export const memoryTokensMax = 100

const digestOf = (bearer: string): string => createHash("sha256").update(bearer).digest("base64url")

export function memoryTokens({ backend, reach, signal }: Connection): Tokens {
  const { tokens, clock } = backend
  const isValid = ({ expiresAtMs, revokedAtMs }: Token): boolean =>
    revokedAtMs === undefined && (expiresAtMs === undefined || clock.nowMs() < expiresAtMs)
  const validOf = (name: string): readonly [string, Token] | undefined =>
    [...tokens].find(([, token]) => token.name === name && isValid(token))
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
    create: ({ name, role, expiresAtMs }) =>
      reach("tokens.create", () => {
        if (validOf(name))
          throw new Fault(
            "Conflict",
            `${name} already has a valid token.`,
            "Revoke it first, or give the second one a name of its own, like ann-laptop.",
          )
        const ended = [...tokens].filter(([, token]) => !isValid(token)).map(([digest]) => digest)
        if (tokens.size - ended.length >= memoryTokensMax)
          throw new Fault(
            "TooLarge",
            `There are ${memoryTokensMax} valid tokens already, which is the most.`,
            "Revoke those that nobody uses.",
          )
        for (const digest of ended.slice(0, Math.max(0, ended.length - memoryTokensMax))) {
          tokens.delete(digest)
          told.delete(digest)
        }
        const bearer = `${tokenPrefix}${randomBytes(32).toString("base64url")}`
        const token: Token = {
          name,
          role,
          createdAtMs: clock.nowMs(),
          ...(expiresAtMs !== undefined && { expiresAtMs }),
        }
        tokens.set(digestOf(bearer), token)
        return { token, bearer }
      }),
    list: () => reach("tokens.list", () => [...tokens.values()].reverse()),
    revoke: (name) =>
      reach("tokens.revoke", () => {
        const found = validOf(name)
        if (!found)
          throw new Fault(
            "NotFound",
            `${JSON.stringify(name)} has no valid token.`,
            "list_tokens shows who has one.",
          )
        const after: Token = { ...found[1], revokedAtMs: clock.nowMs() }
        tokens.set(found[0], after)
        backend.changed("tokens")
        return after
      }),
    find: (bearer) =>
      reach("tokens.find", () => {
        const token = tokens.get(digestOf(bearer))
        return token && isValid(token) ? token : undefined
      }),
  }
}
