import { z } from "zod"
import { isoOf, momentTextSchema, untilOf } from "../../src/core/moment.ts"
import { roleSchema, tokenNameSchema } from "../../src/core/token-view.ts"
import { defineTool } from "../../src/core/tool.ts"

const daysMax = 366

export default defineTool({
  name: "create_token",
  title: "Create a person's token",
  description:
    "Makes a bearer token with which a person, or a program of theirs, calls this fleet over HTTP. A viewer looks, an operator also steers agents, an admin also makes tokens and reads the audit. It is shown once.",
  toolset: "admin",
  route: "POST /v1/tokens",
  verb: "administer",
  input: z.strictObject({
    name: tokenNameSchema.describe("who it stands for"),
    role: roleSchema,
    expires: momentTextSchema.optional().describe("90d, or an ISO time; never if left out"),
  }),
  output: z.strictObject({
    name: z.string(),
    role: z.string(),
    expires: z.string().optional(),
    token: z.string(),
    next: z.string(),
  }),
  hints: {
    readOnlyHint: false,
    destructiveHint: false,
    idempotentHint: false,
    openWorldHint: false,
  },
  reveals: "token",
  subject: ({ name }) => [name],
  async handler({ tokens, clock }, { name, role, expires }) {
    const expiresAtMs = expires === undefined ? undefined : untilOf(expires, clock.nowMs(), daysMax)
    const { token, bearer } = await tokens.create({
      name,
      role,
      ...(expiresAtMs !== undefined && { expiresAtMs }),
    })
    return {
      name: token.name,
      role: token.role,
      expires: expiresAtMs === undefined ? undefined : isoOf(expiresAtMs),
      token: bearer,
      next: `Give it to ${name} now: it is not stored. Send it as \`Authorization: Bearer <token>\`, or in BLACKBOX5_TOKEN beside BLACKBOX5_URL.`,
    }
  },
  show: ({ name, role, expires, token, next }) => ({
    text: `${token}\n${name}, ${role}, ${expires === undefined ? "never expires" : `until ${expires}`}. ${next}`,
  }),
})
