import type { Readable, Writable } from "node:stream"

/** A client on a pair of streams, and the server that is loaded when it is needed. */

export type RpcMessage = Record<string, unknown>

/** The client, as the loaded server sees it. The server gets the conversation from its start. */
export interface StdioLine {
  send(message: RpcMessage): void
}
/** The loaded server. */
export interface StdioSession {
  receive(message: RpcMessage): void
  close(): Promise<void>
}

/** Messages that wait while the server loads; more of them stay in the pipe. */
const backlogMax = 1000
const internalError = -32603

export const isMessage = (value: unknown): value is RpcMessage =>
  typeof value === "object" && value !== null && !Array.isArray(value)
export const isRequest = ({ method, id }: RpcMessage): boolean =>
  typeof method === "string" && (typeof id === "string" || typeof id === "number")

export interface StdioClient {
  write(message: RpcMessage): void
  fail(id: unknown, code: number, message: string): void
}
export function openClient(output: Writable): StdioClient {
  const write = (message: RpcMessage): void => {
    // When nobody reads any more, the end of the input follows.
    if (output.writable) output.write(`${JSON.stringify({ jsonrpc: "2.0", ...message })}\n`)
  }
  return { write, fail: (id, code, message) => write({ id, error: { code, message } }) }
}

export interface LazyServer {
  readonly isLoading: boolean
  readonly isLoaded: boolean
  /** True from `greeted` until the server's own answer to it was dropped. */
  readonly hasGreeted: boolean
  /** The client has its answer to this `initialize`, so the server's own is dropped. */
  greeted(id: unknown): void
  /** Gives the message to the server, now or when it is loaded. */
  hand(message: RpcMessage): void
  /** Loads the server, once. */
  need(): void
  /** Aborts, with the error, when the server cannot be loaded. */
  readonly broken: AbortSignal
  /** Waits until the signal for outstanding answers, then closes the server. */
  close(grace: AbortSignal): Promise<void>
}

export function createLazyServer(
  client: StdioClient,
  input: Readable,
  load: (line: StdioLine) => Promise<StdioSession>,
): LazyServer {
  const backlog: RpcMessage[] = []
  /** Unanswered requests that were handed to the server. */
  const pending = new Set<unknown>()
  const broken = new AbortController()
  let session: StdioSession | undefined
  let loading: Promise<void> | undefined
  let greeting: { readonly id: unknown } | undefined
  let onSettled = (): void => {}
  const settle = (id: unknown): void => {
    if (pending.delete(id) && pending.size === 0) onSettled()
  }
  const line: StdioLine = {
    send(message) {
      const isAnswer = !("method" in message)
      if (isAnswer && greeting && message.id === greeting.id) {
        greeting = undefined
        return
      }
      client.write(message)
      if (isAnswer) settle(message.id)
    },
  }
  const start = async (): Promise<void> => {
    const fresh = await load(line)
    for (const message of backlog.splice(0)) fresh.receive(message)
    session = fresh
    input.resume()
  }
  const need = (): void => {
    // In a later task, so that the last answer leaves before loading keeps the process busy.
    loading ??= new Promise<void>((resolve) => setImmediate(resolve))
      .then(start)
      .catch((error: unknown) => {
        const message = "The server could not be loaded; its standard error says why."
        for (const id of pending) client.fail(id, internalError, message)
        pending.clear()
        broken.abort(error)
      })
  }
  return {
    get isLoading() {
      return loading !== undefined
    },
    get isLoaded() {
      return session !== undefined
    },
    get hasGreeted() {
      return greeting !== undefined
    },
    greeted(id) {
      greeting = { id }
    },
    hand(message) {
      if (isRequest(message) && !(greeting && message.id === greeting.id)) pending.add(message.id)
      if (message.method === "notifications/cancelled" && isMessage(message.params))
        settle(message.params.requestId)
      if (session) session.receive(message)
      else if (backlog.push(message) >= backlogMax) {
        input.pause()
        need()
      }
    },
    need,
    broken: broken.signal,
    async close(grace) {
      if (pending.size > 0)
        await new Promise<void>((resolve) => {
          onSettled = resolve
          grace.addEventListener("abort", () => resolve())
        })
      await session?.close()
    },
  }
}
