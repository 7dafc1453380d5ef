/** True for one that goes on after its head. */
export const streams = (response: Response): boolean =>
  response.headers.get("content-type")?.startsWith("text/event-stream") === true

/** What is whole by then goes out in one piece, which costs the system half; nobody notices the wait. */
const quickMs = 5

/**
 * A response whose body waits for its reader only up to `bytesMax`: beyond, the connection is cut, and the source is told that nobody reads. `ended`
 * is called once, with how it ended.
 */
export function bounded(response: Response, bytesMax: number, ended: (how: "whole" | "cut") => void): Promise<Response> {
  const source = response.body?.getReader()
  const head = { status: response.status, headers: response.headers }
  if (!source) {
    ended("whole")
    return Promise.resolve(response)
  }
  const early: Uint8Array[] = []
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
        if (!out) early.push(value)
        // Below zero more than the bound waits already; one chunk may always be added, so that a large one passes.
        else if ((out.desiredSize ?? 0) <= 0) throw new Error(`the client does not read: more than ${bytesMax} bytes wait`)
        else out.enqueue(value)
      }
      finish("whole")
      clearTimeout(late)
      if (out) out.close()
      else resolve(new Response(Buffer.concat(early), head))
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
