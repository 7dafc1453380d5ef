import { z } from "zod"
import { calledSchema, type Event } from "../src/core/link.ts"
import { defineTool, type ToolContext } from "../src/core/tool.ts"
import { bounded, counted, countWithin } from "../src/core/view.ts"
import { isoOf, momentSchema, sinceOf } from "./moments.ts"

const pageSize = 1000
/** How many calls one search looks through: all that the timeline keeps. */
const searchedMax = 100_000
const messageCharactersMax = 500
/** A call may be on a hundred instances. */
const bytesMax = 1_048_576

/** Calls newest first, until enough fit. */
async function found(
  { bus }: ToolContext,
  fits: (event: Event) => boolean,
  sinceMs: number | undefined,
  limit: number,
): Promise<readonly Event[]> {
  const kept: Event[] = []
  let before: string | undefined
  for (let searched = 0; searched < searchedMax && kept.length < limit; searched += pageSize) {
    const query = { kinds: ["Audit" as const], limit: pageSize, ...(sinceMs !== undefined && { sinceMs }) }
    const { events } = await bus.lastEvents({ ...query, ...(before !== undefined && { before }) })
    kept.push(...events.filter(fits))
    before = events.at(-1)?.cursor
    if (events.length < pageSize) break
  }
  return kept.slice(0, limit)
}

export default defineTool({
  name: "audit",
  title: "Read the audit",
  description:
    "Which calls changed something, or were refused when they wanted to: when, who, which tool, on which instances, and the verdict. Newest first.",
  toolset: "admin",
  route: "GET /v1/audit",
  verb: "administer",
  input: z.strictObject({
    since: momentSchema.optional().describe("12h, or an ISO time"),
    who: z.string().max(200).optional().describe("a part of the caller's name"),
    tool: z.string().max(80).optional(),
    refused: z.boolean().default(false).describe("only what was not done"),
    limit: z.int().min(1).max(1000).default(100),
  }),
  output: z.strictObject({
    calls: z.array(
      z.strictObject({
        at: z.string(),
        who: z.string(),
        tool: z.string(),
        on: z.array(z.string()),
        flags: z.array(z.string()).optional(),
        made: z.array(z.string()).optional(),
        verdict: calledSchema.shape.verdict,
        message: z.string(),
      }),
    ),
    next: z.string(),
  }),
  hints: { readOnlyHint: true, destructiveHint: false, idempotentHint: true, openWorldHint: false },
  async handler(ctx, { since, who, tool, refused, limit }) {
    const sinceMs = since === undefined ? undefined : sinceOf(since, ctx.clock.nowMs())
    // From the command line a tool is called with hyphens.
    const named = tool?.replaceAll("-", "_")
    const events = await found(
      ctx,
      ({ called }) =>
        called !== undefined &&
        (who === undefined || called.who.includes(who)) &&
        (named === undefined || called.tool === named) &&
        (!refused || called.verdict !== "done"),
      sinceMs,
      limit,
    )
    const rows = events.flatMap(({ atMs, called, message }) =>
      called ? [{ at: isoOf(atMs), ...called, message: bounded(message, messageCharactersMax) }] : [],
    )
    const calls = rows.slice(0, countWithin(rows, bytesMax))
    return {
      calls,
      next:
        events.length === limit || calls.length < rows.length
          ? "There may be more: narrow it by since, who or tool, or give a higher limit."
          : "These are all that the timeline keeps.",
    }
  },
  show: ({ calls, next }) => ({
    text: `${counted(calls.length, "call")}. ${next}`,
    rows: calls.map(({ at, who, tool, on, flags = [], made = [], verdict, message }) => ({
      ...{ at, who, tool: [tool, ...flags].join(" "), on: on.join(", "), made: made.join(", "), verdict },
      why: verdict === "done" ? "" : message,
    })),
  }),
})
