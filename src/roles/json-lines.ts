import { once } from "node:events"
import { z } from "zod"
import type { Invoke } from "../core/invoke.ts"
import type { Call, Tool } from "../core/tool.ts"

/** Exports a whole list as JSON, one item per line, oldest first. It holds one page at a time. */

const pageSize = 1000
const pageSchema = z.looseObject({ cursor: z.string(), more: z.boolean() })

export interface LinesOptions {
  readonly tool: Tool
  readonly invoke: Invoke
  /** Without `limit`, everything. `after`: the cursor to continue from. */
  readonly input: Record<string, unknown>
  readonly call: Call
  /** Prepares a page for its reader: without fences for a person. */
  read(page: Record<string, unknown>): Record<string, unknown>
}

/**
 * Prints page by page, at the reader's pace. Ends quietly when the reader closes the pipe, as
 * `head` does. @throws Fault.
 */
export async function printLines(
  stdout: NodeJS.WritableStream,
  { tool, invoke, input, call, read }: LinesOptions,
): Promise<void> {
  const gone = new AbortController()
  stdout.on("error", () => gone.abort())
  const signal = AbortSignal.any([call.signal, gone.signal])
  const max = typeof input.limit === "number" ? input.limit : Number.POSITIVE_INFINITY
  let after = input.after ?? ""
  for (let printed = 0; printed < max && !signal.aborted; ) {
    const limit = Math.min(pageSize, max - printed)
    const page = read(await invoke(tool.name, { ...input, after, limit }, call))
    const items = z.array(z.unknown()).parse(page[tool.lines ?? ""])
    const text = items.map((item) => `${JSON.stringify(item)}\n`).join("")
    if (text !== "" && !stdout.write(text)) await once(stdout, "drain", { signal }).catch(() => {})
    printed += items.length
    const { cursor, more } = pageSchema.parse(page)
    if (!more) return
    after = cursor
  }
}
