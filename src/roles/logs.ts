import { once } from "node:events"
import { setTimeout as sleep } from "node:timers/promises"
import { styleText } from "node:util"
import { z } from "zod"
import { tools } from "../../tools/index.ts"
import { invokeServe } from "../client/invoke-serve.ts"
import { asFault } from "../core/faults.ts"
import type { Invoke } from "../core/invoke.ts"
import { noProgress } from "../core/tool.ts"
import { clean } from "../core/view.ts"
import { readConfig } from "../settings/config.ts"
import { unfenced } from "./fence.ts"
import { helpFlag, parseArguments, showUsage, usageError } from "./parse-args.ts"

const usage = `usage: blackbox5 logs <name> [-f] [--tail N] [--source loop|transcript]

Prints the output of an agent's loop, or what claude said and did.
  -f, --follow     keep printing new lines until Ctrl-C
  --tail N         start with the last N lines (default 100, at most 2000)
  --source SOURCE  loop: the output of the loop (default); transcript: what claude said and did
`
const pollMs = 500
const retryMs = 1000
const linesMax = 2000

// Looser than the tool's own schema, because a newer serve may add fields.
const pageSchema = z.object({
  lines: z.int(),
  untrusted: z.string(),
  cursor: z.string(),
  cut: z.string().optional(),
  lost: z.boolean().optional(),
})
type Page = z.output<typeof pageSchema>

/** Waits for a slow reader. */
async function print({ lines, untrusted }: Page, signal: AbortSignal): Promise<void> {
  if (lines === 0) return
  const stream = process.stdout
  // styleText adds no style without a terminal, or with NO_COLOR.
  const text = unfenced(untrusted).replace(/^\S+Z(?= )/gm, (moment) =>
    styleText("dim", moment, { stream }),
  )
  if (!stream.write(`${text}\n`)) await once(stream, "drain", { signal }).catch(() => {})
}

const note = (message: string): void => void process.stderr.write(`${clean(message)}\n`)

/**
 * Prints what follows the cursor, in order and once, until the signal. @throws a Fault that
 * retrying cannot fix.
 */
async function follow(
  read: (more: object) => Promise<Page>,
  from: string,
  signal: AbortSignal,
): Promise<void> {
  let after = from
  let isDisconnected = false
  while (!signal.aborted) {
    try {
      const page = await read({ after, tail: linesMax })
      isDisconnected = false
      if (page.lost) note(`[${page.cut}]`)
      await print(page, signal)
      // A page may have no lines and still move the cursor.
      const idle = page.lines === 0 && page.cursor === after
      after = page.cursor
      if (idle) await sleep(pollMs, undefined, { signal }).catch(() => {})
    } catch (error) {
      const fault = asFault(error)
      if (signal.aborted) return
      if (fault.terminal) throw fault
      if (!isDisconnected) note(`[${fault.message} Trying again.]`)
      isDisconnected = true
      await sleep(retryMs, undefined, { signal }).catch(() => {})
    }
  }
}

const options = {
  follow: { type: "boolean", short: "f", default: false },
  tail: { type: "string", default: "100" },
  source: { type: "string", default: "loop" },
  ...helpFlag,
} as const

/** `blackbox5 logs <name> [-f]`. Exit code 0: printed; 1: failed; 2: a usage error; 130: Ctrl-C. */
export async function logs(
  argv: readonly string[],
  invoke: Invoke = invokeServe(readConfig(), tools),
): Promise<number> {
  const parsed = parseArguments(argv, options)
  const misused = (message: string): number => usageError(message, usage)
  if (typeof parsed === "string") return misused(parsed)
  const { values, positionals } = parsed
  if (values.help) return showUsage(usage)
  const [name, ...rest] = positionals
  const tail = Number(values.tail)
  if (name === undefined || rest.length > 0) return misused("Give the name of one agent.")
  if (!Number.isInteger(tail) || tail < 1 || tail > linesMax)
    return misused(`--tail must be a number from 1 to ${linesMax}.`)
  if (values.source !== "loop" && values.source !== "transcript")
    return misused("--source must be loop or transcript.")
  const { source } = values

  const ended = new AbortController()
  const { signal } = ended
  for (const event of ["SIGINT", "SIGTERM"] as const) process.once(event, () => ended.abort(130))
  // The reader closed the pipe, as `head` does.
  process.stdout.on("error", () => ended.abort(0))
  const read = async (more: object): Promise<Page> =>
    pageSchema.parse(
      await invoke("read_logs", { name, source, ...more }, { signal, progress: noProgress }),
    )
  try {
    const page = await read({ tail })
    if (page.cut !== undefined && page.lines < tail) note(`[${page.cut}]`)
    await print(page, signal)
    if (values.follow) await follow(read, page.cursor, signal)
  } catch (error) {
    if (!signal.aborted) throw error
  }
  return signal.aborted ? Number(signal.reason) : 0
}
