import { randomBytes } from "node:crypto"
import type { Context } from "hono"
import { streamSSE } from "hono/streaming"
import type { ContentfulStatusCode } from "hono/utils/http-status"
import { asFault, type Fault, httpStatus } from "../core/faults.ts"
import type { Invoke } from "../core/invoke.ts"
import { type Call, noProgress } from "../core/tool.ts"
import { clean, presented } from "../core/view.ts"
import type { Log } from "../settings/log.ts"

/** How REST answers: a result or a fault as JSON, or a stream of events that ends with either. */

const heartbeatMs = 15_000

const presentFault = ({ code, message, next, untrusted }: Fault): object =>
  presented(
    untrusted === undefined ? { code, message, next } : { code, message, next, untrusted },
    randomBytes(6).toString("hex"),
  )

export const answerFault = (
  c: Context,
  fault: Fault,
  status: ContentfulStatusCode = httpStatus[fault.code],
): Response => c.json({ error: presentFault(fault) }, status)

export interface ToolCall {
  readonly tool: string
  readonly input: Record<string, unknown> | Fault
  /** The code root that a person's client found where it runs. */
  readonly codeRoot: string | undefined
}

export async function answerCall(
  c: Context,
  invoke: Invoke,
  { tool, input, codeRoot }: ToolCall,
  log: Log,
): Promise<Response> {
  // The signal fires when the client goes away before its answer is complete.
  const { signal } = c.req.raw
  const callWith = (progress: Call["progress"]) =>
    codeRoot === undefined ? { signal, progress } : { signal, progress, codeRoot }
  const logged = (error: unknown): Fault => {
    const fault = asFault(error)
    if (fault.code === "Internal") log.error({ err: fault.cause ?? fault, tool }, "call failed")
    return fault
  }
  if (!c.req.header("accept")?.includes("text/event-stream")) {
    try {
      return c.json(await invoke(tool, input, callWith(noProgress)))
    } catch (error) {
      throw logged(error)
    }
  }
  return streamSSE(c, async (stream) => {
    let latest: { done: number; message: string } | undefined
    let writing = Promise.resolve()
    // A slow reader gets the latest progress only: nothing piles up.
    const progress = (done: number, message: string): void => {
      const isIdle = latest === undefined
      latest = { done, message: clean(message) }
      if (!isIdle) return
      writing = writing.then(async () => {
        const data = JSON.stringify(latest)
        latest = undefined
        await stream.writeSSE({ event: "progress", data })
      })
    }
    const heartbeat = setInterval(() => void stream.write(": alive\n\n"), heartbeatMs)
    const last = await invoke(tool, input, callWith(progress)).then(
      (result) => ({ event: "result", data: JSON.stringify(result) }),
      (error: unknown) => ({
        event: "fault",
        data: JSON.stringify({ error: presentFault(logged(error)) }),
      }),
    )
    clearInterval(heartbeat)
    await writing
    await stream.writeSSE(last)
  })
}
