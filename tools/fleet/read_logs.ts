import { z } from "zod"
import { nameSchema } from "../../src/core/instance.ts"
import { loggedOf } from "../../src/core/log-excerpt.ts"
import { momentTextSchema, sinceOf } from "../../src/core/moment.ts"
import { defineTool } from "../../src/core/tool.ts"

const bytesMax = 65_536

export default defineTool({
  name: "read_logs",
  title: "Read an instance's log",
  description:
    "The last lines that an instance's loop printed, for finding out why it fails, or its transcript: what claude said and did, as far as it is now (the loop shows nothing of an iteration before its end).",
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
    next: z.string(),
  }),
  hints: { readOnlyHint: true, destructiveHint: false, idempotentHint: true, openWorldHint: false },
  targets: ({ name }) => ({ names: [name] }),
  async handler(ctx, { name, source, tail, after, since, grep }) {
    const [instance] = ctx.targets
    if (!instance) throw new Error(`invoke gave no target for ${name}`)
    const { count, text, cursor, cut } = await loggedOf(ctx, instance, {
      ...{ source, count: tail, bytesMax },
      ...(after !== undefined && { after }),
      ...(since !== undefined && { sinceMs: sinceOf(since, ctx.clock.nowMs()) }),
      ...(grep !== undefined && { grep }),
    })
    const inspect = `inspect_instance {"name":"${name}"} says what it does now`
    const next =
      after !== undefined
        ? "Call again with cursor as after for what comes."
        : count === 0 && (grep !== undefined || since !== undefined)
          ? `No line matches: leave out grep or since. ${inspect}.`
          : count === 0 && source === "transcript"
            ? `No iteration of it has a transcript yet. ${inspect}.`
            : cut === undefined
              ? `${inspect}.`
              : `Give grep, or a larger tail (at most 2000), to see more; ${inspect}.`
    return { lines: count, untrusted: text, cursor, ...(cut !== undefined && { cut }), next }
  },
  show: ({ lines, untrusted, cut, next }) => ({
    text: lines === 0 ? next : [untrusted, cut].filter(Boolean).join("\n"),
  }),
})
