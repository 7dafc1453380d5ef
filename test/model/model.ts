/**
 * A scripted language model on loopback that speaks Anthropic's Messages API well enough for the
 * real `claude -p`.
 *
 * A script is a function from a request to a reply, so that a test says in one place what the model
 * "thinks":
 *
 *     const model = await startModel(({ toolResults }) =>
 *       toolResults.length === 0 ? use([{ name: 'Bash', input: { command: 'echo hi' } }]) :
 * say('done'))
 *     spawn('claude', ['-p', 'go'], { env: { PATH, ...model.environment(home) } })
 */
import { EventEmitter, on, once } from "node:events"
import { createServer, type IncomingMessage, type ServerResponse } from "node:http"
import { setTimeout as sleep } from "node:timers/promises"
import {
  events,
  fail,
  message,
  openingUsage,
  type Reply,
  say,
  type Turn,
  type Usage,
} from "./reply.ts"
import { describe, type ModelRequest, parse } from "./request.ts"

export {
  type Call,
  drop,
  fail,
  hold,
  type Reply,
  say,
  slow,
  type Turn,
  type Usage,
  use,
} from "./reply.ts"
export type { Block, Body, ModelRequest } from "./request.ts"

/**
 * Decides what the model answers. If it throws, claude gets a 400 with the error's text, which it
 * does not retry.
 */
export type Script = (request: ModelRequest) => Reply | Promise<Reply>

/** A running model. */
export interface Model {
  readonly url: string
  /** What answers from now on. */
  script: Script
  /** The latest requests, side requests too: at most 10,000, and 256 MiB of bodies. */
  readonly requests: readonly ModelRequest[]
  /** The tokens of all turns as claude counts them, and the number of those turns. */
  readonly billed: Readonly<Usage & { requests: number }>
  /**
   * The first recorded or coming request that the predicate accepts. Rejects when the signal aborts
   * or the model closes.
   */
  until(predicate: (request: ModelRequest) => boolean, signal?: AbortSignal): Promise<ModelRequest>
  /**
   * The variables that send claude here, with a home of its own and nothing that leaves the
   * machine.
   */
  environment(home: string): Record<string, string>
  close(): Promise<void>
}

const maxRequests = 10_000
const maxRecordBytes = 256 * 1024 * 1024
const maxBodyBytes = 32 * 1024 * 1024

/** Starts a model on a free port of 127.0.0.1. */
export async function startModel(script: Script): Promise<Model> {
  const requests: ModelRequest[] = []
  const sizes: number[] = []
  const billed = { input: 0, output: 0, cacheRead: 0, cacheWrite: 0, requests: 0 }
  const arrivals = new EventEmitter().setMaxListeners(0)
  const closing = new AbortController()
  let count = 0
  let recorded = 0

  const record = (request: ModelRequest, bytes: number) => {
    requests.push(request)
    sizes.push(bytes)
    recorded += bytes
    while (requests.length > maxRequests || recorded > maxRecordBytes) {
      requests.shift()
      recorded -= sizes.shift() ?? 0
    }
    arrivals.emit("request", request)
  }

  const bill = (usage: Usage) => {
    billed.input += usage.input
    billed.output += usage.output
    billed.cacheRead += usage.cacheRead
    billed.cacheWrite += usage.cacheWrite
    billed.requests += 1
  }

  const decide = async (request: ModelRequest): Promise<Reply> => {
    if (!request.main && request.agent === undefined) return say("(answer to a side request)")
    try {
      return await model.script(request)
    } catch (error) {
      return fail(400, { message: `the script failed: ${String(error)}` })
    }
  }

  const answer = async (incoming: IncomingMessage, response: ServerResponse) => {
    const raw = await read(incoming)
    if (raw === undefined) return send(response, fail(413, { type: "request_too_large" }))
    const body = parse(raw)
    if (body === undefined)
      return send(response, fail(400, { message: "not a request for a turn" }))
    const request = describe(++count, incoming.headers, body)
    response.setHeader("request-id", `req_${request.number}`)
    record(request, raw.length)
    const reply = await decide(request)
    // Claude may have been killed while the script thought about it, or while a turn was held: it
    // then counts nothing.
    if (response.destroyed) return
    if (reply.kind === "failure") return send(response, reply)
    if (request.stream) return stream(response, reply, request, bill)
    await reply.until
    if (response.destroyed) return
    bill(reply.usage)
    send(response, { status: 200, body: message(reply, request.number, body.model) })
  }

  const server = createServer((incoming, response) => {
    const path = incoming.url?.split("?")[0]
    if (incoming.method === "POST" && path === "/v1/messages") {
      // Only the connection can fail here, when claude goes away in the middle: nothing is left to
      // tell anyone.
      answer(incoming, response).catch(() => response.destroy())
      return
    }
    incoming.resume()
    if (incoming.method === "HEAD") response.end()
    else if (path === "/v1/messages/count_tokens")
      send(response, { status: 200, body: { input_tokens: 1000 } })
    else send(response, fail(404, { type: "not_found_error" }))
  })
  // Node's 5 s would end connections at just the moment when claude uses them again after a tool.
  server.keepAliveTimeout = 300_000
  server.listen(0, "127.0.0.1")
  await once(server, "listening")
  const address = server.address()
  const url = `http://127.0.0.1:${typeof address === "object" ? address?.port : ""}`

  const model: Model = {
    url,
    script,
    requests,
    billed,
    async until(predicate, signal) {
      const past = requests.find(predicate)
      if (past !== undefined) return past
      const stop = AbortSignal.any(
        signal === undefined ? [closing.signal] : [closing.signal, signal],
      )
      for await (const [request] of on(arrivals, "request", { signal: stop }))
        if (predicate(request)) return request
      throw new Error("unreachable: the iteration has no end but the signal")
    },
    environment: (home) => ({
      HOME: home,
      ANTHROPIC_BASE_URL: url,
      ANTHROPIC_API_KEY: "scripted",
      CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC: "1",
      DISABLE_AUTOUPDATER: "1",
      NO_PROXY: "127.0.0.1",
      // Lets root use --dangerously-skip-permissions.
      IS_SANDBOX: "1",
    }),
    async close() {
      if (closing.signal.aborted) return
      closing.abort(new Error("the model is closed"))
      server.close()
      server.closeAllConnections()
      await once(server, "close")
    },
  }
  return model
}

/**
 * Sends a turn as events. What it costs is what claude counts, however the stream ends: nothing
 * before the first whole block (claude then asks again, in plain form), what the stream opened with
 * after it, and the whole after `message_delta`.
 */
async function stream(
  response: ServerResponse,
  turn: Turn,
  request: ModelRequest,
  bill: (usage: Usage) => void,
) {
  const gone = new AbortController()
  response.once("close", () => gone.abort())
  response.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-cache" })
  let sent = 0
  let cost: Usage | undefined
  try {
    for (const event of events(turn, request.number, request.body.model)) {
      if (sent === turn.heldAfter && turn.until !== undefined)
        await Promise.race([turn.until, once(gone.signal, "abort")])
      if (turn.chunkMs !== undefined) await sleep(turn.chunkMs, undefined, { signal: gone.signal })
      if (gone.signal.aborted) return
      // What was written still reaches claude.
      if (sent === turn.afterEvents) return response.socket?.destroySoon()
      if (event.type === "content_block_stop") cost ??= openingUsage(turn.usage)
      if (event.type === "message_delta") cost = turn.usage
      response.write(`event: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`)
      sent += 1
    }
    response.end()
  } finally {
    if (cost !== undefined) bill(cost)
  }
}

/** The text of a body, or undefined if it is larger than any request of claude's. */
async function read(incoming: IncomingMessage): Promise<string | undefined> {
  const chunks: Uint8Array[] = []
  let bytes = 0
  incoming.on("data", (chunk: Buffer) => {
    bytes += chunk.length
    if (bytes <= maxBodyBytes) chunks.push(chunk)
  })
  await once(incoming, "end")
  return bytes > maxBodyBytes ? undefined : Buffer.concat(chunks).toString()
}

function send(
  response: ServerResponse,
  answer: { status: number; headers?: Readonly<Record<string, string>>; body: object },
) {
  response
    .writeHead(answer.status, { "content-type": "application/json", ...answer.headers })
    .end(JSON.stringify(answer.body))
}
