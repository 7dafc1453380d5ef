import { z } from "zod"
import { nameSchema } from "../../src/core/instance.ts"
import { type LogExcerpt, readExcerpt } from "../../src/core/log-excerpt.ts"
import { momentTextSchema, sinceOf } from "../../src/core/moment.ts"
import { defineTool } from "../../src/core/tool.ts"

const bytesMax = 65_536

/** Why there is nothing, or how to see more; ends with a blank. */
function hintFor(
  { count, cut }: LogExcerpt,
  { isSearch, isTranscript }: { isSearch: boolean; isTranscript: boolean },
): string {
  if (count > 0)
    return cut === undefined ? "" : "Give grep, or a larger tail (at most 2000), to see more. "
  if (isSearch) return "No line matches: leave out grep or since. "
  return isTranscript ? "It has no transcript yet. " : ""
}

export default defineTool({
  name: "read_logs",
  title: "Read an instance's log",
  description:
    "The last lines that an instance's loop printed, to find out why it fails, or its transcript: what claude has said and done so far (a loop prints nothing before an iteration ends).",
  toolset: "fleet",
  route: "GET /v1/instances/{name}/logs",
  verb: "see",
  input: z.strictObject({
    name: nameSchema,
    source: z.enum(["loop", "transcript"]).default("loop"),
    tail: z.int().min(1).max(2000).default(100),
    after: z.string().max(200).optional().describe("a cursor: the lines since"),
    since: momentTextSchema.optional().describe("30m, 8h, or an ISO time"),
    grep: z.string().min(1).max(200).optional().describe("literal text, case-sensitive"),
  }),
  output: z.strictObject({
    lines: z.int(),
    untrusted: z.string(),
    cursor: z.string(),
    cut: z.string().optional(),
    lost: z.literal(true).optional(),
    next: z.string(),
  }),
  hints: { readOnlyHint: true, destructiveHint: false, idempotentHint: true, openWorldHint: false },
  targets: ({ name }) => ({ names: [name] }),
  async handler(ctx, { name, source, tail, after, since, grep }) {
    const [instance] = ctx.targets
    if (!instance) throw new Error(`invoke gave no target for ${name}`)
    const excerpt = await readExcerpt(ctx, instance, {
      source,
      count: tail,
      bytesMax,
      ...(after !== undefined && { after }),
      ...(since !== undefined && { sinceMs: sinceOf(since, ctx.clock.nowMs()) }),
      ...(grep !== undefined && { grep }),
    })
    const { count, text, cursor, cut, lost } = excerpt
    const hint = hintFor(excerpt, {
      isSearch: grep !== undefined || since !== undefined,
      isTranscript: source === "transcript",
    })
    const next =
      after === undefined
        ? `${hint}inspect_instance {"name":"${name}"} says what it is doing now.`
        : "Call again with cursor as after for newer lines."
    return { lines: count, untrusted: text, cursor, cut, lost, next }
  },
  show: ({ lines, untrusted, cut, next }) => ({
    text: lines === 0 ? next : [untrusted, cut].filter(Boolean).join("\n"),
  }),
})
