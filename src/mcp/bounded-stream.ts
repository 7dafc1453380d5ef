/** True for one that goes on after its head. */
export const streams = (response: Response): boolean =>
  response.headers.get("content-type")?.startsWith("text/event-stream") === true

/**
 * A response whose body waits for its reader only up to `bytesMax`: beyond, the connection is cut, and the source is told that nobody reads. `ended`
 * is called once, with how it ended.
 */
export function bounded(response: Response, bytesMax: number, ended: (how: "whole" | "cut") => void): Response {
  const source = response.body?.getReader()
  if (!source) {
    ended("whole")
    return response
  }
  let over = false
  const finish = (how: "whole" | "cut"): void => {
    if (over) return
    over = true
    ended(how)
  }
  const body = new ReadableStream<Uint8Array>(
    {
      start(out) {
        // Read as it comes, or the source would pile it up where nobody counts.
        const pump = async (): Promise<void> => {
          for (;;) {
            const { value, done } = await source.read()
            if (over) return
            if (done) break
            // Below zero more than the bound waits already; one chunk may always be added, so that a large one passes.
            if ((out.desiredSize ?? 0) <= 0) throw new Error(`the client does not read: more than ${bytesMax} bytes wait`)
            out.enqueue(value)
          }
          finish("whole")
          out.close()
        }
        pump().catch((error: unknown) => {
          if (over) return
          finish("cut")
          out.error(error)
          source.cancel().catch(() => {})
        })
      },
      cancel(reason) {
        finish("cut")
        return source.cancel(reason)
      },
    },
    new ByteLengthQueuingStrategy({ highWaterMark: bytesMax }),
  )
  return new Response(body, { status: response.status, headers: response.headers })
}
