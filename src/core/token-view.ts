import { z } from "zod"
import { isoOf } from "./moment.ts"
import type { Token } from "./ports.ts"
import { roles } from "./role.ts"
import { isValidToken } from "./token-writes.ts"
import type { TextRow } from "./tool.ts"

/** What the three operations on people's tokens have in common. */

/**
 * No blank and no colon: it stands in mail and audit lines, where only names from an identity
 * provider have a colon.
 */
export const tokenNameSchema = z
  .string()
  .regex(
    /^[a-z0-9]([-a-z0-9._]{0,61}[a-z0-9])?$/,
    "must be 1 to 63 characters of a-z 0-9 - . _, like ann or ann-laptop",
  )
export const roleSchema = z.enum(roles)

export const tokenSchema = z.strictObject({
  name: z.string(),
  role: z.string(),
  state: z.enum(["valid", "expired", "revoked"]),
  created: z.string(),
  expires: z.string().optional(),
  revoked: z.string().optional(),
})

const stateOf = (token: Token, nowMs: number): z.output<typeof tokenSchema>["state"] => {
  if (token.revokedAtMs !== undefined) return "revoked"
  return isValidToken(token, nowMs) ? "valid" : "expired"
}

export const shownToken = (token: Token, nowMs: number): z.output<typeof tokenSchema> => ({
  name: token.name,
  role: token.role,
  state: stateOf(token, nowMs),
  created: isoOf(token.createdAtMs),
  expires: token.expiresAtMs === undefined ? undefined : isoOf(token.expiresAtMs),
  revoked: token.revokedAtMs === undefined ? undefined : isoOf(token.revokedAtMs),
})

export const tokenRow = ({
  name,
  role,
  state,
  created,
  expires,
  revoked,
}: z.output<typeof tokenSchema>): TextRow => ({
  name,
  role,
  state,
  created,
  expires: expires ?? "never",
  revoked: revoked ?? "",
})
