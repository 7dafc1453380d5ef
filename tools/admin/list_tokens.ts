import { z } from "zod"
import { shownToken, tokenRow, tokenSchema } from "../../src/core/token-view.ts"
import { defineTool } from "../../src/core/tool.ts"
import { counted } from "../../src/core/view.ts"

export default defineTool({
  name: "list_tokens",
  title: "List people's tokens",
  description:
    "Who has a token, with which role and until when, newest first; with all also those that ended. The tokens themselves are not stored.",
  toolset: "admin",
  route: "GET /v1/tokens",
  verb: "administer",
  input: z.strictObject({
    all: z.boolean().default(false).describe("also those that ended"),
    limit: z.int().min(1).max(1000).default(100),
  }),
  output: z.strictObject({ total: z.int(), tokens: z.array(tokenSchema), next: z.string() }),
  hints: { readOnlyHint: true, destructiveHint: false, idempotentHint: true, openWorldHint: false },
  async handler({ tokens, clock }, { all, limit }) {
    const nowMs = clock.nowMs()
    const shown = (await tokens.list())
      .map((token) => shownToken(token, nowMs))
      .filter(({ state }) => all || state === "valid")
    const next =
      shown.length > limit
        ? `${shown.length - limit} more: raise the limit.`
        : 'revoke_token {"name":"…"} ends one; create_token makes one.'
    return { total: shown.length, tokens: shown.slice(0, limit), next }
  },
  show: ({ total, tokens, next }) => ({
    text: `${tokens.length} of ${counted(total, "token")}. ${next}`,
    rows: tokens.map(tokenRow),
  }),
})
