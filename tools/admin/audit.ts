import { z } from "zod"
import { type AuditRecord, auditedSchema, plainNamesOf } from "../../src/core/audit.ts"
import { Fault } from "../../src/core/faults.ts"
import { isoOf, momentTextSchema, sinceOf } from "../../src/core/moment.ts"
import { defineTool } from "../../src/core/tool.ts"
import { bounded, counted, countWithin } from "../../src/core/view.ts"

const whyCharactersMax = 500
/** A call may be on a hundred instances. */
const bytesMax = 1_048_576

const callSchema = z.strictObject({
  id: z.string(),
  cursor: z.string(),
  at: z.string(),
  who: z.string(),
  tool: z.string(),
  on: z.array(z.string()),
  flags: z.array(z.string()).optional(),
  made: z.array(z.string()).optional(),
  verdict: auditedSchema.shape.verdict,
  count: z.int().optional(),
  lastAt: z.string().optional(),
  note: z.string().optional(),
  untrusted: z.string().optional(),
})

const beyondShare = "Beyond the calls of one caller that are recorded each day: only counted."

/**
 * What a caller may have written, such as the reason of a refusal, is kept apart from our words.
 */
function callOf({
  id,
  cursor,
  atMs,
  lastAtMs,
  count,
  isSum,
  on,
  why,
  who,
  tool,
  flags,
  made,
  verdict,
}: AuditRecord): z.output<typeof callSchema> {
  const { plain, other } = plainNamesOf(on)
  const quotes = [
    ...(why === undefined ? [] : [bounded(why, whyCharactersMax)]),
    ...(other.length > 0 ? [`on: ${other.join(", ")}`] : []),
  ]
  return {
    id,
    cursor,
    at: isoOf(atMs),
    who,
    tool,
    on: [...plain],
    flags: flags && [...flags],
    made: made && [...made],
    verdict,
    ...(count > 1 && { count, lastAt: isoOf(lastAtMs) }),
    note: isSum ? beyondShare : undefined,
    untrusted: quotes.length > 0 ? quotes.join("\n") : undefined,
  }
}

export default defineTool({
  name: "audit",
  title: "Read the audit",
  description:
    "Which calls changed something, or tried to and were refused: when, who, which tool, on which instances, and the verdict. Newest first; with after oldest first, for an export.",
  toolset: "admin",
  route: "GET /v1/audit",
  verb: "administer",
  input: z.strictObject({
    since: momentTextSchema.optional().describe("12h, or an ISO time"),
    who: z.string().max(200).optional().describe("a part of the caller's name"),
    tool: z.string().max(80).optional(),
    refused: z.boolean().default(false).describe("only what was not done"),
    before: z.string().max(20).optional().describe("a cursor: what is older"),
    after: z
      .string()
      .max(20)
      .optional()
      .describe('a cursor: what is newer, oldest first; "" begins with the oldest'),
    limit: z.int().min(1).max(1000).default(100),
  }),
  output: z.strictObject({
    calls: z.array(callSchema),
    cursor: z.string(),
    more: z.boolean(),
    next: z.string(),
  }),
  hints: { readOnlyHint: true, destructiveHint: false, idempotentHint: true, openWorldHint: false },
  lines: "calls",
  async handler({ auditTrail, clock }, { since, who, tool, refused, before, after, limit }) {
    if (before !== undefined && after !== undefined)
      throw new Fault("Invalid", "before and after go in opposite directions.", "Give one of them.")
    const sinceMs = since === undefined ? undefined : sinceOf(since, clock.nowMs())
    const query = {
      limit,
      refused,
      ...(who !== undefined && { who }),
      // From the command line a tool is called with hyphens.
      ...(tool !== undefined && { tool: tool.replaceAll("-", "_") }),
      ...(sinceMs !== undefined && { sinceMs }),
    }
    const page =
      after === undefined
        ? await auditTrail.last({ ...query, ...(before !== undefined && { before }) })
        : await auditTrail.following({ ...query, after })
    const rows = page.records.map(callOf)
    const calls = rows.slice(0, countWithin(rows, bytesMax))
    const isWhole = calls.length === rows.length
    const cursor = isWhole ? page.cursor : (page.records[calls.length - 1]?.cursor ?? page.cursor)
    const more = page.more || !isWhole
    const continuation = JSON.stringify({
      since,
      who,
      tool,
      ...(refused && { refused }),
      [after === undefined ? "before" : "after"]: cursor,
    })
    const rest =
      after === undefined
        ? "That is all that is kept."
        : `That is all. audit ${continuation} continues from here.`
    return {
      calls,
      cursor,
      more,
      next: more ? `There are more: audit ${continuation} continues.` : rest,
    }
  },
  show: ({ calls, next }) => ({
    text: `${counted(calls.length, "record")}. ${next}`,
    rows: calls.map(
      ({ at, lastAt, who, tool, on, flags = [], made = [], verdict, count, note, untrusted }) => ({
        at: lastAt ?? at,
        who,
        tool: [tool, ...flags].join(" "),
        on: on.join(", "),
        made: made.join(", "),
        verdict,
        times: count === undefined ? "" : `×${count}`,
        why: [note, untrusted].filter((text) => text !== undefined).join(" "),
      }),
    ),
  }),
})
