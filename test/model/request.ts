/** What a scripted model is asked. */
import type { IncomingHttpHeaders } from "node:http"

/** One content block of a message, with the fields that any of its types may carry. */
export interface Block {
  readonly type: string
  readonly text?: string
  readonly name?: string
  readonly input?: unknown
  readonly tool_use_id?: string
  readonly content?: string | readonly Block[]
  readonly is_error?: boolean
}

/** The body of `POST /v1/messages`, as far as scripts look at it. */
export interface Body {
  readonly model: string
  readonly stream?: boolean
  readonly system?: string | readonly Block[]
  readonly messages: readonly {
    readonly role: string
    readonly content: string | readonly Block[]
  }[]
  readonly tools?: readonly {
    readonly name: string
    readonly description?: string
    readonly input_schema?: unknown
  }[]
}

/** A request for a turn. */
export interface ModelRequest {
  /**
   * Counts from 1. The answer carries `request-id: req_<number>`, which telemetry repeats as
   * `request_id`.
   */
  readonly number: number
  /** Arrival, in milliseconds since the epoch. */
  readonly atMs: number
  /**
   * True for the main agent's conversation. Neither `main` nor an `agent`: a side request, which no
   * script sees.
   */
  readonly main: boolean
  /** The sub-agent whose conversation it is. */
  readonly agent?: string
  /** The process of `claude` that asks; its sub-agents share it. */
  readonly session?: string
  readonly headers: Readonly<Record<string, string>>
  /** False where claude asks in plain form for what a broken stream did not deliver. */
  readonly stream: boolean
  readonly body: Body
  /** All text of the messages, tool results included. */
  readonly text: string
  /** The text that is new: everything after the model's last turn. */
  readonly last: string
  /** Names of the tools offered. */
  readonly tools: readonly string[]
  /** What the tools called by the model's last turn returned. */
  readonly toolResults: readonly {
    readonly id: string
    readonly text: string
    readonly isError: boolean
  }[]
}

/** The body, or undefined if it asks for no turn. */
export function parse(raw: string): Body | undefined {
  try {
    const body: Body | null = JSON.parse(raw)
    return typeof body?.model === "string" && Array.isArray(body.messages) ? body : undefined
  } catch {
    return undefined
  }
}

/** What scripts and tests want to know of a request. */
export function describe(number: number, incoming: IncomingHttpHeaders, body: Body): ModelRequest {
  const headers = Object.fromEntries(
    Object.entries(incoming).map(([name, value]) => [name, String(value)]),
  )
  const agent = headers["x-claude-code-agent-id"]
  const session = headers["x-claude-code-session-id"]
  // Side requests offer no tools, or one that the API itself runs and that has no schema (web
  // search).
  const conversation = body.tools?.some((tool) => tool.input_schema !== undefined) ?? false
  const fresh = body.messages.slice(
    body.messages.findLastIndex(({ role }) => role === "assistant") + 1,
  )
  const blocks = fresh.flatMap(({ content }) => (typeof content === "string" ? [] : content))
  const results = blocks.filter(({ type }) => type === "tool_result")
  return {
    number,
    atMs: Date.now(),
    main: conversation && agent === undefined,
    ...(conversation && agent !== undefined && { agent }),
    ...(session !== undefined && { session }),
    headers,
    stream: body.stream === true,
    body,
    text: textOf(body.messages),
    last: textOf(fresh),
    tools: body.tools?.map(({ name }) => name) ?? [],
    toolResults: results.map((block) => ({
      id: block.tool_use_id ?? "",
      text: textOf([block]),
      isError: block.is_error === true,
    })),
  }
}

/** The text of messages or of blocks: both are lists of things with a text or a content. */
function textOf(parts: readonly Pick<Block, "text" | "content">[]): string {
  const texts = parts.map(
    ({ text, content }) => text ?? (typeof content === "string" ? content : textOf(content ?? [])),
  )
  return texts.filter((text) => text !== "").join("\n")
}
