/** True for a response that continues after its head. */
export const streams = (response: Response): boolean =>
  response.headers.get("content-type")?.startsWith("text/event-stream") === true

/** A complete response, which the listener can write to the socket without a stream in between. */
export class WholeResponse {
  readonly status: number
  readonly headers: Headers
  readonly body: Uint8Array
  constructor(status: number, headers: Headers, body: Uint8Array) {
    this.status = status
    this.headers = headers
    this.body = body
  }
}

/** A response that is complete by then is sent in one piece, at half the cost. */
const quickMs = 5
const wholeBytesMax = 262_144

/**
 * A response that buffers at most `bytesMax` for its reader. Beyond that the connection is cut and
 * the source is cancelled. `ended` is called once, with how the response ended.
 */
export function boundedResponse(
  response: Response,
  bytesMax: number,
  ended: (how: "whole" | "cut") => void,
): Promise<Response | WholeResponse> {
  const source = response.body?.getReader()
  const head = { status: response.status, headers: response.headers }
  if (!source) {
    ended("whole")
    return Promise.resolve(response)
  }
  const early: Uint8Array[] = []
  let earlyBytes = 0
  let out: ReadableStreamDefaultController<Uint8Array> | undefined
  let hasEnded = false
  const finish = (how: "whole" | "cut"): void => {
    if (hasEnded) return
    hasEnded = true
    ended(how)
  }
  return new Promise((resolve, reject) => {
    const open = (): void => {
      const body = new ReadableStream<Uint8Array>(
        {
          start(controller) {
            out = controller
            for (const chunk of early.splice(0)) controller.enqueue(chunk)
          },
          cancel(reason) {
            finish("cut")
            return source.cancel(reason)
          },
        },
        new ByteLengthQueuingStrategy({ highWaterMark: bytesMax }),
      )
      resolve(new Response(body, head))
    }
    const late = setTimeout(open, quickMs)
    // Read at once, or the source would buffer it without a bound.
    const pump = async (): Promise<void> => {
      for (;;) {
        const { value, done } = await source.read()
        if (hasEnded) return
        if (done) break
        if (!out) {
          early.push(value)
          earlyBytes += value.byteLength
          if (earlyBytes > Math.min(wholeBytesMax, bytesMax)) {
            clearTimeout(late)
            open()
          }
        }
        // One chunk may exceed the bound, so that a large one can be sent at all.
        else if ((out.desiredSize ?? 0) <= 0)
          throw new Error(`the client does not read: more than ${bytesMax} bytes are waiting`)
        else out.enqueue(value)
      }
      finish("whole")
      clearTimeout(late)
      if (out) out.close()
      else resolve(new WholeResponse(head.status, head.headers, Buffer.concat(early)))
    }
    pump().catch((error: unknown) => {
      if (hasEnded) return
      finish("cut")
      clearTimeout(late)
      if (out) out.error(error)
      else reject(error)
      source.cancel().catch(() => {})
    })
  })
}
