/** What a scripted model can answer, and how an answer looks on the wire. */

/** Tokens as they stand in an answer's `usage`. */
export interface Usage {
  readonly input: number
  readonly output: number
  readonly cacheRead: number
  readonly cacheWrite: number
}

/** A call of a tool. */
export interface Call {
  readonly name: string
  readonly input: object
}

/** A turn of the model. Made by `say` and `use`, changed by `slow`, `drop` and `hold`. */
export interface Turn {
  readonly kind: "turn"
  readonly text: string
  readonly calls: readonly Call[]
  readonly usage: Usage
  readonly chunkMs?: number
  readonly afterEvents?: number
  readonly until?: Promise<unknown>
  readonly heldAfter?: number
}

/** An error of the API. Made by `fail`. */
export interface Failure {
  readonly kind: "failure"
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  readonly body: object
}

export type Reply = Turn | Failure

/** A turn of text alone: it ends the agent's work. */
export function say(text: string, options: { usage?: Partial<Usage> } = {}): Turn {
  const usage = { input: 1000, output: 50, cacheRead: 0, cacheWrite: 0, ...options.usage }
  return { kind: "turn", text, calls: [], usage }
}

/** A turn that calls tools, in parallel if several are given. */
export function use(
  calls: readonly Call[],
  options: { text?: string; usage?: Partial<Usage> } = {},
): Turn {
  return { ...say(options.text ?? "", options), calls }
}

/** An error. Its type follows from the status unless given. */
export function fail(
  status: number,
  options: { retryAfterSeconds?: number; message?: string; type?: string } = {},
): Failure {
  const types: Record<number, string> = {
    400: "invalid_request",
    401: "authentication",
    429: "rate_limit",
    529: "overloaded",
  }
  const type = options.type ?? `${types[status] ?? "api"}_error`
  return {
    kind: "failure",
    status,
    headers:
      options.retryAfterSeconds === undefined
        ? {}
        : { "retry-after": String(options.retryAfterSeconds) },
    body: { type: "error", error: { type, message: options.message ?? `scripted ${type}` } },
  }
}

/** The turn as a stream that waits before each event. A plain answer comes at once. */
export const slow = (turn: Turn, options: { chunkMs: number }): Turn => ({ ...turn, ...options })

/**
 * The turn as a stream that breaks after some events. A plain answer comes whole: claude asks for
 * one to recover.
 */
export const drop = (turn: Turn, options: { afterEvents: number }): Turn => ({
  ...turn,
  ...options,
})

/**
 * The turn begun at once, and finished when the promise settles. A plain answer comes only then. By
 * default it waits after two events: claude knows that the turn has begun, and has no text yet.
 */
export const hold = (turn: Turn, until: Promise<unknown>, { afterEvents = 2 } = {}): Turn => ({
  ...turn,
  until,
  heldAfter: afterEvents,
})

/**
 * The turn as the answer to a request without `stream`. Ids carry the request's number: a
 * conversation may repeat no tool id.
 */
export function message(turn: Turn, number: number, model: string) {
  const text = { type: "text" as const, text: turn.text }
  const calls = turn.calls.map((call, index) => ({
    type: "tool_use" as const,
    id: `toolu_${number}_${index}`,
    ...call,
  }))
  return {
    id: `msg_${number}`,
    type: "message",
    role: "assistant",
    model,
    content: turn.text === "" && calls.length > 0 ? calls : [text, ...calls],
    stop_reason: calls.length > 0 ? "tool_use" : "end_turn",
    stop_sequence: null,
    usage: wire(turn.usage),
  }
}

/** The turn as events. Text comes in pieces, so that a slow stream is slow within a text too. */
export function* events(turn: Turn, number: number, model: string) {
  const { content, stop_reason, stop_sequence, usage, ...head } = message(turn, number, model)
  // Real streams open with one token of output and report the whole at their end.
  const opening = {
    content: [],
    stop_reason: null,
    stop_sequence,
    usage: wire({ ...turn.usage, output: 1 }),
  }
  yield { type: "message_start", message: { ...head, ...opening } }
  for (const [index, block] of content.entries()) {
    const empty = block.type === "text" ? { ...block, text: "" } : { ...block, input: {} }
    yield { type: "content_block_start", index, content_block: empty }
    if (block.type === "text") {
      const pieces = block.text.match(/.{1,80}/gsu) ?? []
      for (const text of pieces)
        yield { type: "content_block_delta", index, delta: { type: "text_delta", text } }
    } else {
      const delta = { type: "input_json_delta", partial_json: JSON.stringify(block.input) }
      yield { type: "content_block_delta", index, delta }
    }
    yield { type: "content_block_stop", index }
  }
  yield { type: "message_delta", delta: { stop_reason, stop_sequence }, usage }
  yield { type: "message_stop" }
}

/**
 * What a stream reports at its beginning: real ones have made one token by then, and report the
 * whole at the end.
 */
export const openingUsage = (usage: Usage): Usage => ({ ...usage, output: 1 })

const wire = (usage: Usage) => ({
  input_tokens: usage.input,
  output_tokens: usage.output,
  cache_read_input_tokens: usage.cacheRead,
  cache_creation_input_tokens: usage.cacheWrite,
})
