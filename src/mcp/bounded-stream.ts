/** True for one that goes on after its head. */
export const streams = (response: Response): boolean =>
  response.headers.get("content-type")?.startsWith("text/event-stream") === true

/**
 * An answer that is there as a whole, and its head: whoever listens may write it down without
 * making a stream of it again.
 */
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

/**
 * What is whole by then goes out in one piece, which costs the system half; nobody notices the
 * wait.
 */
const quickMs = 5
const wholeBytesMax = 262_144

/**
 * A response whose body waits for its reader only up to `bytesMax`: beyond, the connection is cut,
 * and the source is told that nobody reads. `ended` is called once, with how it ended.
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
  let over = false
  const finish = (how: "whole" | "cut"): void => {
    if (over) return
    over = true
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
    // Read as it comes, or the source would pile it up where nobody counts.
    const pump = async (): Promise<void> => {
      for (;;) {
        const { value, done } = await source.read()
        if (over) return
        if (done) break
        if (!out) {
          early.push(value)
          earlyBytes += value.byteLength
          if (earlyBytes > Math.min(wholeBytesMax, bytesMax)) {
            clearTimeout(late)
            open()
          }
        }
        // Below zero more than the bound waits already; one chunk may always be added, so that a
        // large one passes.
        else if ((out.desiredSize ?? 0) <= 0)
          throw new Error(`the client does not read: more than ${bytesMax} bytes wait`)
        else out.enqueue(value)
      }
      finish("whole")
      clearTimeout(late)
      if (out) out.close()
      else resolve(new WholeResponse(head.status, head.headers, Buffer.concat(early)))
    }
    pump().catch((error: unknown) => {
      if (over) return
      finish("cut")
      clearTimeout(late)
      if (out) out.error(error)
      else reject(error)
      source.cancel().catch(() => {})
    })
  })
}
