import type { Readable, Writable } from "node:stream"
import { capabilities, methods, negotiated, serverInfo } from "./about.ts"

/** One JSON-RPC message. */
export type Message = Record<string, unknown>

/** What the loaded server is given: the whole conversation from its first line. */
export interface StdioLine {
  send(message: Message): void
}
/** The loaded server's side. */
export interface Session {
  receive(message: Message): void
  close(): Promise<void>
}

export interface Stdio {
  readonly input: Readable
  readonly output: Writable
  /** Ends the conversation as the end of the input does. */
  readonly signal: AbortSignal
  readonly instructions: string
  /** What `tools/list` shows, where that is known without the server. */
  listTools(): readonly unknown[] | undefined
  /**
   * Whether the server is loaded soon after `initialize`, also when nothing needs it: the first
   * call is then answered sooner. Without it, a conversation that calls nothing costs neither the
   * memory nor the time.
   */
  readonly warm: boolean
  /** Loads the server; called once, when a message needs it. */
  load(line: StdioLine): Promise<Session>
}

const lineBytesMax = 4_194_304
/** Messages that wait for the server to be loaded; more of them stay in the pipe. */
const backlogMax = 1000
const graceMs = 2000
/** By then a client has asked for what it asks for at its start. */
const warmMs = 300

const isObject = (value: unknown): value is Message =>
  typeof value === "object" && value !== null && !Array.isArray(value)
const isRequest = ({ method, id }: Message): boolean =>
  typeof method === "string" && (typeof id === "string" || typeof id === "number")

/** Needs nothing of the server: what a client says when it begins. */
const isBeginning = ({ method }: Message): boolean =>
  method === "initialize" || method === "notifications/initialized"

/**
 * Speaks MCP over a pair of streams until the input ends: answers `initialize` and `tools/list` at
 * once, from what is known when the program is built, and loads the server for anything else, to
 * which the whole conversation is handed: a client never waits for libraries at its start.
 * @throws what `load` throws.
 */
export async function speak({
  input,
  output,
  signal,
  instructions,
  listTools,
  warm,
  load,
}: Stdio): Promise<void> {
  const backlog: Message[] = []
  /** Requests that were handed on and not answered yet. */
  const pending = new Set<unknown>()
  let session: Session | undefined
  let loading: Promise<void> | undefined
  let greeted: { readonly id: unknown } | undefined
  let settled = (): void => {}
  let warming: NodeJS.Timeout | undefined
  const broken = new AbortController()

  const write = (message: Message): void => {
    // Where nobody reads any more, the end of the input follows.
    if (output.writable) output.write(`${JSON.stringify({ jsonrpc: "2.0", ...message })}\n`)
  }
  const fail = (id: unknown, code: number, message: string): void =>
    write({ id, error: { code, message } })

  const line: StdioLine = {
    send(message) {
      const answer = !("method" in message)
      if (answer && greeted && message.id === greeted.id) {
        // The client has this answer already.
        greeted = undefined
        return
      }
      write(message)
      if (answer && pending.delete(message.id) && pending.size === 0) settled()
    },
  }
  const hand = (message: Message): void => {
    if (isRequest(message) && !(greeted && message.id === greeted.id)) pending.add(message.id)
    if (
      message.method === "notifications/cancelled" &&
      isObject(message.params) &&
      pending.delete(message.params.requestId)
    )
      if (pending.size === 0) settled()
    if (session) session.receive(message)
    else if (backlog.push(message) >= backlogMax) {
      input.pause()
      need()
    }
  }
  const loaded = async (): Promise<void> => {
    const fresh = await load(line)
    for (const message of backlog.splice(0)) fresh.receive(message)
    session = fresh
    input.resume()
  }
  const need = (): void => {
    // In a later task: what was just answered leaves before loading keeps the process busy.
    loading ??= new Promise<void>((resolve) => setImmediate(resolve))
      .then(loaded)
      .catch((error: unknown) => {
        for (const id of pending)
          fail(id, -32603, "The server could not be loaded; its standard error says why")
        pending.clear()
        broken.abort(error)
      })
  }

  const receive = (message: Message): void => {
    const { method, id, params } = message
    const early = !session && isRequest(message)
    if (early && method === "ping") {
      write({ id, result: {} })
      return
    }
    const given = params === undefined ? {} : params
    if (early && !isObject(given)) {
      fail(id, -32600, "Invalid Request")
      return
    }
    // The list is one page: a cursor is none of ours, and the server says so.
    const tools =
      early && method === "tools/list" && isObject(given) && given.cursor === undefined
        ? listTools()
        : undefined
    if (tools) {
      write({ id, result: { tools } })
      return
    }
    if (early && !methods.has(String(method))) {
      // Claude Code probes newer protocols first, and initializes when this answer is there.
      fail(id, -32601, "Method not found")
      return
    }
    const whole = isObject(params) && isObject(params.clientInfo) && isObject(params.capabilities)
    if (
      early &&
      !loading &&
      method === "initialize" &&
      whole &&
      typeof params.protocolVersion === "string"
    ) {
      const protocolVersion = negotiated(params.protocolVersion)
      greeted = { id }
      write({ id, result: { protocolVersion, capabilities, serverInfo, instructions } })
      if (warm) warming = setTimeout(need, warmMs)
    }
    hand(message)
    if (!isBeginning(message) || !greeted) need()
  }
  const takeLine = (text: string): void => {
    if (text.trim() === "") return
    let message: unknown
    try {
      message = JSON.parse(text)
    } catch {
      fail(null, -32700, "Parse error: the line is not JSON")
      return
    }
    if (isObject(message) && message.jsonrpc === "2.0") receive(message)
    else fail(null, -32600, "Invalid Request: not a JSON-RPC 2.0 message")
  }

  await readLines(input, AbortSignal.any([signal, broken.signal]), takeLine, () =>
    fail(null, -32700, `Parse error: a line has more than ${lineBytesMax} bytes`),
  )
  clearTimeout(warming)
  const grace = AbortSignal.timeout(graceMs)
  if (pending.size > 0)
    await new Promise<void>((resolve) => {
      settled = resolve
      grace.addEventListener("abort", () => resolve())
    })
  await session?.close()
  if (output.writable && output.writableLength > 0)
    await new Promise<void>((resolve) => {
      output.write("", () => resolve())
      grace.addEventListener("abort", () => resolve())
    })
  // An open input would keep the process.
  input.destroy()
  broken.signal.throwIfAborted()
}

/**
 * Gives each line of the stream, without more than one line in memory; resolves when it ends or
 * breaks, or is aborted.
 */
function readLines(
  input: Readable,
  signal: AbortSignal,
  take: (line: string) => void,
  tooLong: () => void,
): Promise<void> {
  const parts: Buffer[] = []
  let bytes = 0
  let skipping = false
  const add = (part: Buffer): void => {
    if (skipping) return
    bytes += part.length
    if (bytes > lineBytesMax) {
      skipping = true
      parts.length = 0
      tooLong()
    } else parts.push(part)
  }
  const finish = (): void => {
    const line = Buffer.concat(parts).toString("utf8")
    parts.length = 0
    bytes = 0
    if (!skipping) take(line)
    skipping = false
  }
  return new Promise((resolve) => {
    input.on("data", (chunk: Buffer) => {
      let from = 0
      for (let at = chunk.indexOf(10); at >= 0; at = chunk.indexOf(10, from)) {
        add(chunk.subarray(from, at))
        finish()
        from = at + 1
      }
      if (from < chunk.length) add(chunk.subarray(from))
    })
    input.once("end", () => {
      finish()
      resolve()
    })
    input.once("close", resolve)
    input.once("error", () => resolve())
    if (signal.aborted) resolve()
    signal.addEventListener("abort", () => resolve(), { once: true })
  })
}
