import type { HttpBindings } from "@hono/node-server"
import type { MiddlewareHandler } from "hono"
import { type Bucket, type BucketRate, refilled } from "../core/bucket.ts"
import { Fault, RateLimited } from "../core/faults.ts"

/**
 * What may be asked of a supervisor's port, and how often. An agent that floods it, on purpose or
 * by a loop of its own making, hurts nobody else: the supervisor goes on to pause, count and end
 * it, and its memory stays bounded.
 */

type Bindings = { Bindings: HttpBindings }

/**
 * Sockets at once. A claude keeps some dozens open; each claude that waits for its turn keeps one.
 */
export const connectionsMax = 512
/** From a connection to the end of a request's headers, and to the end of its body. */
export const headersMs = 10_000
export const requestMs = 60_000
/** PostToolUse carries a tool's whole answer. */
export const bodyBytesMax = 32 * 1024 * 1024
/** Of all bodies that are under way at one moment. */
export const bodiesBytesMax = 48 * 1024 * 1024

/**
 * Hooks: a sub-agent makes some three a second, and claude runs ten of them. Telemetry: each claude
 * exports twice a second. Turns: a loop may start 64 claudes side by side, and one that waits asks
 * every 50 s. Calls: more than the control plane takes from an agent, which refuses in its own
 * words.
 */
export const portRates = {
  hooks: { perSecond: 100, max: 500 },
  telemetry: { perSecond: 50, max: 250 },
  turns: { perSecond: 4, max: 200 },
  calls: { perSecond: 100, max: 500 },
} as const satisfies Record<string, BucketRate>
/**
 * Calls that wait for an answer of the control plane or of an MCP server at once; streams count,
 * too.
 */
export const callsMax = 64

/** True while there is something left to take. */
export function createTap(rate: BucketRate, nowMs: () => number): () => boolean {
  let bucket: Bucket | undefined
  return () => {
    bucket = refilled(bucket, rate, nowMs())
    if (bucket.tokens < 1) return false
    bucket = { tokens: bucket.tokens - 1, atMs: bucket.atMs }
    return true
  }
}

/** Refuses what comes more often than that. */
export function limitPortRate(
  what: string,
  rate: BucketRate,
  nowMs: () => number,
): MiddlewareHandler<Bindings> {
  const take = createTap(rate, nowMs)
  return async (_, next) => {
    if (!take())
      throw new RateLimited(`This instance sends more than ${rate.perSecond} ${what} a second.`, 1)
    return next()
  }
}

/** Refuses more than so many at once: each counts until its answer is out, or its asker is gone. */
export function limitAtOnce(what: string, max: number): MiddlewareHandler<Bindings> {
  let open = 0
  return async ({ env }, next) => {
    if (open >= max) throw new RateLimited(`This instance has ${max} ${what} under way.`, 1)
    open += 1
    env.outgoing.once("close", () => {
      open -= 1
    })
    return next()
  }
}

export interface BodyLimit {
  /** Bounds one body and the sum of all. One of a known length takes its room before it is read. */
  readonly bounded: MiddlewareHandler<Bindings>
  /** As `bounded`, where the body is handed on as a stream: it must say how long it is. */
  readonly measured: MiddlewareHandler<Bindings>
}
export function limitBodies(bytesMax = bodyBytesMax, sumMax = bodiesBytesMax): BodyLimit {
  let sum = 0
  const reserve = (bytes: number, before: number): void => {
    if (before + bytes > bytesMax)
      throw new Fault(
        "TooLarge",
        `The body is larger than ${bytesMax} bytes.`,
        "Send less in one call.",
      )
    if (sum + bytes > sumMax)
      throw new RateLimited(
        `This instance has bodies of ${sumMax} bytes under way, and no more are taken.`,
        1,
      )
    sum += bytes
  }
  const limit =
    (isMeasured: boolean): MiddlewareHandler<Bindings> =>
    async (context, next) => {
      const { env, req } = context
      let held = 0
      const hold = (bytes: number): void => {
        reserve(bytes, held)
        held += bytes
      }
      env.outgoing.once("close", () => {
        sum -= held
        held = 0
      })
      if (req.header("transfer-encoding") === undefined) {
        hold(Number(req.header("content-length") ?? 0))
        return next()
      }
      if (isMeasured)
        throw new Fault(
          "Invalid",
          "The body does not say how long it is.",
          "Send a Content-Length.",
        )
      const { body } = req.raw
      if (body) {
        const counted = body.pipeThrough(
          new TransformStream<Uint8Array, Uint8Array>({
            transform(chunk, controller) {
              hold(chunk.byteLength)
              controller.enqueue(chunk)
            },
          }),
        )
        // `duplex` is what the Fetch standard wants with a stream, and TypeScript does not know.
        const init: RequestInit & { duplex: "half" } = { body: counted, duplex: "half" }
        req.raw = new Request(req.raw, init)
      }
      return next()
    }
  return { bounded: limit(false), measured: limit(true) }
}
