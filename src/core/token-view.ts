import { z } from "zod"
import { isoOf } from "./moment.ts"
import type { Token } from "./ports.ts"
import { roles } from "./role.ts"
import type { TextRow } from "./tool.ts"

/** What the three operations on people's tokens have in common. */

/**
 * No blank and no colon: it stands in mail and audit lines, and those whom an identity provider
 * names have a colon.
 */
export const tokenNameSchema = z
  .string()
  .regex(
    /^[a-z0-9]([-a-z0-9._]{0,61}[a-z0-9])?$/,
    "1 to 63 of a-z 0-9 - . _, like ann or ann-laptop",
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

export const shownToken = (
  { name, role, createdAtMs, expiresAtMs, revokedAtMs }: Token,
  nowMs: number,
): z.output<typeof tokenSchema> => ({
  ...{ name, role },
  state:
    revokedAtMs !== undefined
      ? "revoked"
      : expiresAtMs !== undefined && expiresAtMs <= nowMs
        ? "expired"
        : "valid",
  created: isoOf(createdAtMs),
  ...(expiresAtMs !== undefined && { expires: isoOf(expiresAtMs) }),
  ...(revokedAtMs !== undefined && { revoked: isoOf(revokedAtMs) }),
})

export const tokenRow = ({
  name,
  role,
  state,
  created,
  expires,
  revoked,
}: z.output<typeof tokenSchema>): TextRow => ({
  ...{ name, role, state, created },
  expires: expires ?? "never",
  revoked: revoked ?? "",
})
