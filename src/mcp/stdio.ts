import type { Readable, Writable } from "node:stream"
import { capabilities, methods, negotiated, serverInfo } from "./about.ts"
import {
  createLazyServer,
  isMessage,
  isRequest,
  type LazyServer,
  openClient,
  type RpcMessage,
  type StdioClient,
  type StdioLine,
  type StdioSession,
} from "./lazy-server.ts"
import { messageBytesMax, readLines } from "./read-lines.ts"

export interface Stdio {
  readonly input: Readable
  readonly output: Writable
  /** Ends the conversation, as the end of the input does. */
  readonly signal: AbortSignal
  readonly instructions: string
  /** What `tools/list` shows, where that is known without the server. */
  listTools(): readonly unknown[] | undefined
  /**
   * Whether to load the server soon after `initialize`, before anything needs it, so that the first
   * call is answered sooner. Without it, a conversation without calls costs neither memory nor
   * time.
   */
  readonly warm: boolean
  /** Loads the server. Called once, when a message needs it. */
  load(line: StdioLine): Promise<StdioSession>
}

const graceMs = 2000
/** By then, a client has sent what it sends at its start. */
const warmMs = 300

const parseError = -32700
const invalidRequest = -32600
const methodNotFound = -32601

/** What a client sends at its start, which needs nothing of the server. */
const isBeginning = ({ method }: RpcMessage): boolean =>
  method === "initialize" || method === "notifications/initialized"

/**
 * Speaks MCP over a pair of streams until the input ends. `initialize` and `tools/list` are
 * answered at once, from what is known at build time, so that a client never waits for libraries at
 * its start. Anything else loads the server, which gets the whole conversation. @throws what `load`
 * throws.
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
  const client = openClient(output)
  const server = createLazyServer(client, input, load)
  let warming: NodeJS.Timeout | undefined

  const receive = (message: RpcMessage): void => {
    if (!server.isLoaded && isRequest(message)) {
      if (answerEarly(client, message, listTools)) return
      const greeting = server.isLoading ? undefined : greetingFor(message, instructions)
      if (greeting) {
        server.greeted(message.id)
        client.write({ id: message.id, result: greeting })
        if (warm) warming = setTimeout(server.need, warmMs)
      }
    }
    server.hand(message)
    if (!isBeginning(message) || !server.hasGreeted) server.need()
  }
  const takeLine = (text: string): void => {
    if (text.trim() === "") return
    let message: unknown
    try {
      message = JSON.parse(text)
    } catch {
      client.fail(null, parseError, "Parse error: the line is not JSON")
      return
    }
    if (isMessage(message) && message.jsonrpc === "2.0") receive(message)
    else client.fail(null, invalidRequest, "Invalid Request: not a JSON-RPC 2.0 message")
  }
  const tooLong = (): void =>
    client.fail(null, parseError, `Parse error: the line is longer than ${messageBytesMax} bytes`)

  await readLines(input, AbortSignal.any([signal, server.broken]), takeLine, tooLong)
  clearTimeout(warming)
  await finish(server, output)
  // An open input would keep the process alive.
  input.destroy()
  server.broken.throwIfAborted()
}

/** Lets the server answer and the client read, for a while. */
async function finish(server: LazyServer, output: Writable): Promise<void> {
  const grace = AbortSignal.timeout(graceMs)
  await server.close(grace)
  if (output.writable && output.writableLength > 0)
    await new Promise<void>((resolve) => {
      output.write("", () => resolve())
      grace.addEventListener("abort", () => resolve())
    })
}

/** Answers a request that needs no server. False when it does need one. */
function answerEarly(
  client: StdioClient,
  { method, id, params = {} }: RpcMessage,
  listTools: Stdio["listTools"],
): boolean {
  if (method === "ping") {
    client.write({ id, result: {} })
    return true
  }
  if (!isMessage(params)) {
    client.fail(id, invalidRequest, "Invalid Request")
    return true
  }
  // The list has one page, so no cursor is valid; the server says so.
  const tools = method === "tools/list" && params.cursor === undefined ? listTools() : undefined
  if (tools) {
    client.write({ id, result: { tools } })
    return true
  }
  if (methods.has(String(method))) return false
  // Claude Code probes for newer protocols first, and initializes when it has this answer.
  client.fail(id, methodNotFound, "Method not found")
  return true
}

/** The answer to a valid `initialize`; undefined for any other message. */
function greetingFor(
  { method, params }: RpcMessage,
  instructions: string,
): Record<string, unknown> | undefined {
  if (method !== "initialize" || !isMessage(params)) return undefined
  const { protocolVersion, clientInfo, capabilities: offered } = params
  if (!isMessage(clientInfo) || !isMessage(offered) || typeof protocolVersion !== "string")
    return undefined
  return { protocolVersion: negotiated(protocolVersion), capabilities, serverInfo, instructions }
}
