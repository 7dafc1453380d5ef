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

Prints what an instance's loop printed, or what claude said and did.
  -f, --follow     print what comes, too, until Ctrl-C
  --tail N         begin with the last N lines (100; at most 2000)
  --source SOURCE  loop: what the loop printed (the default); transcript: what claude said and did
`
const pollMs = 500
const retryMs = 1000
const linesMax = 2000

// Looser than the tool says: a newer serve may say more.
const pageSchema = z.object({
  lines: z.int(),
  untrusted: z.string(),
  cursor: z.string(),
  cut: z.string().optional(),
})
type Page = z.output<typeof pageSchema>

/** Waits where whoever reads is slow. */
async function print({ lines, untrusted }: Page, signal: AbortSignal): Promise<void> {
  if (lines === 0) return
  const stream = process.stdout
  // styleText leaves it plain where there is no terminal, and where NO_COLOR asks for that.
  const text = unfenced(untrusted).replace(/^\S+Z(?= )/gm, (moment) =>
    styleText("dim", moment, { stream }),
  )
  if (!stream.write(`${text}\n`)) await once(stream, "drain", { signal }).catch(() => {})
}

const tell = (message: string): void => void process.stderr.write(`${clean(message)}\n`)

/**
 * Prints what comes after the cursor, in order and once, until the signal. @throws a Fault that
 * trying again cannot mend.
 */
async function follow(
  read: (more: object) => Promise<Page>,
  from: string,
  signal: AbortSignal,
): Promise<void> {
  let after = from
  let away = false
  while (!signal.aborted) {
    try {
      const page = await read({ after, tail: linesMax })
      away = false
      if (page.cut?.includes("gone")) tell(`[${page.cut}]`)
      await print(page, signal)
      // A page that was cut short has moved on, too.
      const idle = page.lines === 0 && page.cursor === after
      after = page.cursor
      if (idle) await sleep(pollMs, undefined, { signal }).catch(() => {})
    } catch (error) {
      const fault = asFault(error)
      if (signal.aborted) return
      if (fault.terminal) throw fault
      if (!away) tell(`[${fault.message} Trying again.]`)
      away = true
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

/**
 * `blackbox5 logs <name> [-f] [--tail N]`. Exit code 0: printed; 1: a fault; 2: called wrongly;
 * 130: Ctrl-C.
 */
export async function logs(
  argv: readonly string[],
  invoke: Invoke = invokeServe(readConfig(), tools),
): Promise<number> {
  const words = parseArguments(argv, options)
  const wrong = (message: string): number => usageError(message, usage)
  if (typeof words === "string") return wrong(words)
  const { values, positionals } = words
  if (values.help) return showUsage(usage)
  const [name, ...rest] = positionals
  const tail = Number(values.tail)
  if (name === undefined || rest.length > 0) return wrong("Give the name of one instance.")
  if (!Number.isInteger(tail) || tail < 1 || tail > linesMax)
    return wrong(`--tail takes a number from 1 to ${linesMax}.`)
  if (values.source !== "loop" && values.source !== "transcript")
    return wrong("--source takes loop or transcript.")
  const { source } = values

  const ended = new AbortController()
  const { signal } = ended
  for (const event of ["SIGINT", "SIGTERM"] as const) process.once(event, () => ended.abort(130))
  // Whoever read it has gone, as `head` does.
  process.stdout.on("error", () => ended.abort(0))
  const read = async (more: object): Promise<Page> =>
    pageSchema.parse(
      await invoke("read_logs", { name, source, ...more }, { signal, progress: noProgress }),
    )
  try {
    const page = await read({ tail })
    if (page.cut !== undefined && page.lines < tail) tell(`[${page.cut}]`)
    await print(page, signal)
    if (values.follow) await follow(read, page.cursor, signal)
  } catch (error) {
    if (!signal.aborted) throw error
  }
  return signal.aborted ? Number(signal.reason) : 0
}
