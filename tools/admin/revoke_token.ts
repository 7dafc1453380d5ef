import { z } from "zod"
import { shownToken, tokenNameSchema, tokenRow, tokenSchema } from "../../src/core/token-view.ts"
import { defineTool } from "../../src/core/tool.ts"

export default defineTool({
  name: "revoke_token",
  title: "Revoke a person's token",
  description:
    "Ends the valid token of that name at once, with the calls and streams that it opened. This cannot be undone.",
  toolset: "admin",
  route: "POST /v1/tokens:revoke",
  verb: "administer",
  input: z.strictObject({ name: tokenNameSchema }),
  output: z.strictObject({ token: tokenSchema, next: z.string() }),
  hints: {
    readOnlyHint: false,
    destructiveHint: true,
    idempotentHint: false,
    openWorldHint: false,
  },
  subject: ({ name }) => [name],
  async handler({ tokens, clock }, { name }) {
    const token = await tokens.revoke(name)
    return {
      token: shownToken(token, clock.nowMs()),
      next: "Nothing more to do; create_token makes a new one for that name.",
    }
  },
  show: ({ token, next }) => ({
    text: `The token of ${token.name} was revoked. ${next}`,
    rows: [tokenRow(token)],
  }),
})
