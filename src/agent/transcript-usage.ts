import { constants } from "node:fs"
import { type FileHandle, open, opendir } from "node:fs/promises"
import { join } from "node:path"
import { z } from "zod"
import type { TokenCounts } from "../run/usage-file.ts"
import { requestDigest, requestTokensMax, tokenSum } from "./meter.ts"

/**
 * What Claude Code's own record of a session says that was used. Seen with 2.1.197: each block of
 * an answer is a record of its own, which repeats the usage of the whole answer; `requestId` is
 * telemetry's `request_id`; sub-agents write into `<session>/subagents/`. Side requests
 * (compaction, hooks of type prompt) are in no transcript. An agent can write these files, so
 * nothing here is believed beyond its bounds.
 */

const transcriptBytesMax = 64 * 1024 * 1024
const lineBytesMax = 4 * 1024 * 1024
const chunkBytes = 256 * 1024
const subagentFilesMax = 200
const entriesMax = 2000
const requestsMax = 10_000

const count = z.int().min(0).max(requestTokensMax)
const recordSchema = z.looseObject({
  type: z.literal("assistant"),
  timestamp: z.iso.datetime(),
  requestId: z.string().min(1).max(200).optional(),
  message: z.looseObject({
    id: z.string().min(1).max(200),
    model: z.string().max(200),
    usage: z.looseObject({
      input_tokens: count,
      output_tokens: count,
      cache_read_input_tokens: count.optional(),
      cache_creation_input_tokens: count.optional(),
    }),
  }),
})
const mark = Buffer.from('"type":"assistant"')

export interface TranscriptRequest {
  /** As in telemetry; empty where claude got none. */
  readonly id: string
  readonly model: string
  readonly tokens: TokenCounts
}
export interface TranscriptUsage {
  readonly requests: readonly TranscriptRequest[]
  /**
   * False when a file could not be read, or not to its end, or has records that no request can
   * have.
   */
  readonly whole: boolean
}

/** When an iteration ran: a session that is continued has records of others too. */
export interface Span {
  readonly sinceMs: number
  readonly endedAtMs: number
}

/**
 * The requests of one session in that time, its sub-agents' too. `offset` is where the session's
 * file ended before.
 */
export async function readTranscriptUsage(
  path: string,
  offset: number,
  span: Span,
): Promise<TranscriptUsage> {
  const requests = new Map<string, TranscriptRequest>()
  let bytesLeft = transcriptBytesMax
  const read = async (file: string, start: number): Promise<boolean> => {
    const handle = await openRegular(file)
    if (!handle) return false
    try {
      let whole = true
      for await (const { line, bytes } of linesFrom(handle, start)) {
        bytesLeft -= bytes
        if (bytesLeft < 0 || requests.size >= requestsMax) return false
        if (line === undefined) whole = false
        else if (line.includes(mark) && !take(requests, line.toString("utf8"), span)) whole = false
      }
      return whole
    } catch {
      return false // the disk failed
    } finally {
      await handle.close()
    }
  }
  let whole = path.endsWith(".jsonl") && (await read(path, offset))
  const { files, complete } = await subagentFiles(path.replace(/\.jsonl$/, ""))
  for (const file of files) whole = (await read(file, 0)) && whole
  return { requests: [...requests.values()], whole: whole && complete }
}

/**
 * Takes one record in; false when it is none that claude would write. Of the records of one answer
 * the largest counts.
 */
function take(requests: Map<string, TranscriptRequest>, line: string, span: Span): boolean {
  let json: unknown
  try {
    json = JSON.parse(line)
  } catch {
    return false
  }
  const record = recordSchema.safeParse(json).data
  if (!record) return !z.looseObject({ type: z.literal("assistant") }).safeParse(json).success
  const atMs = Date.parse(record.timestamp)
  if (atMs < span.sinceMs || atMs > span.endedAtMs) return true
  const { id, model, usage } = record.message
  const tokens: TokenCounts = [
    usage.input_tokens,
    usage.output_tokens,
    usage.cache_read_input_tokens ?? 0,
    usage.cache_creation_input_tokens ?? 0,
  ]
  if (tokenSum(tokens) > requestTokensMax) return false
  if (tokenSum(tokens) === 0) return true // what claude says itself, for instance about an error
  const key = record.requestId ?? id
  const before = requests.get(key)
  if (before && tokenSum(before.tokens) >= tokenSum(tokens)) return true
  requests.set(key, { id: requestDigest(record.requestId ?? ""), model, tokens })
  return true
}

/**
 * Undefined where there is no regular file of that very name: a symbolic link is not followed, a
 * FIFO not waited for.
 */
async function openRegular(path: string): Promise<FileHandle | undefined> {
  try {
    const handle = await open(
      path,
      constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK,
    )
    if ((await handle.stat()).isFile()) return handle
    await handle.close()
  } catch {
    // It is not there, or not ours to read.
  }
  return undefined
}

/** Whole lines with the bytes that were read for them; no line where one was too long. */
async function* linesFrom(
  handle: FileHandle,
  start: number,
): AsyncIterable<{ line: Buffer | undefined; bytes: number }> {
  let parts: Buffer[] = []
  let length = 0
  for (let at = start; ; ) {
    const buffer = Buffer.allocUnsafe(chunkBytes)
    const { bytesRead } = await handle.read(buffer, 0, chunkBytes, at)
    if (bytesRead === 0) return // a last line without an end is not whole: its writer was killed
    at += bytesRead
    let from = 0
    const chunk = buffer.subarray(0, bytesRead)
    for (let to = chunk.indexOf(10); to >= 0; to = chunk.indexOf(10, from)) {
      length += to - from
      yield {
        line:
          length > lineBytesMax ? undefined : Buffer.concat([...parts, chunk.subarray(from, to)]),
        bytes: length + 1,
      }
      parts = []
      length = 0
      from = to + 1
    }
    length += bytesRead - from
    if (length <= lineBytesMax) parts.push(chunk.subarray(from))
    else parts = []
    if (length > transcriptBytesMax) {
      yield { line: undefined, bytes: length }
      return
    }
  }
}

/** Sub-agents have files in `subagents`, and in directories below it when a workflow runs them. */
async function subagentFiles(
  session: string,
): Promise<{ files: readonly string[]; complete: boolean }> {
  const files: string[] = []
  try {
    let entries = 0
    for await (const entry of await opendir(join(session, "subagents"), { recursive: true })) {
      if (++entries > entriesMax || files.length === subagentFilesMax)
        return { files, complete: false }
      if (entry.isFile() && entry.name.endsWith(".jsonl"))
        files.push(join(entry.parentPath, entry.name))
    }
  } catch {
    // Most sessions have none.
  }
  return { files, complete: true }
}
