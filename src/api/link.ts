import type { IncomingMessage, Server } from "node:http"
import type { Duplex } from "node:stream"
import { type WebSocket, WebSocketServer } from "ws"
import type { Authenticate, Authenticated } from "../core/authenticate-port.ts"
import { createBuckets, untilFullMs } from "../core/bucket.ts"
import { Fault } from "../core/faults.ts"
import {
  closeGoingAway,
  closeReplaced,
  closeUnauthenticated,
  frameBytesMax,
} from "../core/frames.ts"
import type { Uid } from "../core/instance.ts"
import { readBearer } from "./admission.ts"
import type { CredentialWatch } from "./credential-watch.ts"
import { RunEnded } from "./credentials.ts"
import type { Gateway } from "./gateway.ts"

/** The WebSocket `/v1/link`, by which supervisors reach the gateway. */

/**
 * Bytes that may wait to be sent to one supervisor before its link is cut; it connects again and
 * gets the levels anew.
 */
const bufferedBytesMax = 8 * 1024 * 1024
const pingMs = 20_000
/**
 * What one instance may send: a frame costs one, and one more for each 4 KiB. Thousands may wait in
 * a spool when it connects again; at work it sends a few a second. Above that its socket is read
 * more slowly, which costs nobody else anything.
 */
const frameRate = { max: 8000, perSecond: 200 }
const bytesPerToken = 4096
/**
 * How often it may connect: supervisors come back within a second, a few times for one lost link.
 */
const connectRate = { max: 200, perSecond: 5 }
/** Instances that are remembered; the longest silent is forgotten first. */
const instancesMax = 20_000
/**
 * What may wait for its authentication. On one machine that takes no time; where somebody else is
 * asked, a whole fleet may come back at once, and whoever finds no room tries again in a second.
 */
const admissionBounds = { waitingMax: 1000, waitMs: 8000 }

export interface LinkParts {
  readonly gateway: Gateway
  readonly authenticate: Authenticate
  readonly watch: CredentialWatch
  /** Told of what is nobody's fault but ours. */
  report(error: unknown): void
  readonly bounds?: typeof admissionBounds
}

/** A supervisor that may link. */
interface Supervisor {
  readonly name: string
  readonly uid: Uid
  readonly place: string
  readonly bearer: string
  readonly found: Authenticated
}

const statusTexts = {
  401: "401 Unauthorized",
  404: "404 Not Found",
  429: "429 Too Many Requests",
  503: "503 Service Unavailable",
} as const
type Refusal = keyof typeof statusTexts

const refuse = (socket: Duplex, status: Refusal): void => {
  socket.end(`HTTP/1.1 ${statusTexts[status]}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`)
}

/**
 * Who wants to link: a supervisor, a status to refuse with, or one whose run has ended. That one is
 * let in to be told so, for it must end what it runs.
 */
async function identify(
  { authenticate, report }: LinkParts,
  bearer: string,
  signal: AbortSignal,
): Promise<Supervisor | Refusal | "RunEnded"> {
  try {
    const found = await authenticate(bearer, signal)
    if (found?.who.kind !== "instance" || found.place === undefined) return 401
    const { id: name, uid } = found.who
    return { name, uid, place: found.place, bearer, found }
  } catch (error) {
    if (error instanceof RunEnded) return "RunEnded"
    if (!(error instanceof Fault)) report(error)
    else if (error.code !== "Unavailable") return 401
    return 503
  }
}

/** Resolves with the first, also when the other never does. */
const within = <T, L>(work: Promise<T>, signal: AbortSignal, late: L): Promise<T | L> =>
  new Promise((resolve, reject) => {
    signal.addEventListener("abort", () => resolve(late), { once: true })
    work.then(resolve, reject)
  })

/** Takes the upgrades to `/v1/link` of a server; other upgrades are refused. */
export function acceptLinks(server: Server, parts: LinkParts, signal: AbortSignal): void {
  const { waitingMax, waitMs } = parts.bounds ?? admissionBounds
  const sockets = new WebSocketServer({ noServer: true, maxPayload: frameBytesMax })
  const frames = createBuckets<string>(frameRate, instancesMax)
  const connects = createBuckets<string>(connectRate, instancesMax)
  let waiting = 0

  const admit = async (bearer: string, socket: Duplex) => {
    if (waiting >= waitingMax) return 503
    const stop = new AbortController()
    const timer = setTimeout(() => stop.abort(), waitMs)
    const gone = (): void => stop.abort()
    socket.once("close", gone)
    waiting++
    try {
      return await within(identify(parts, bearer, stop.signal), stop.signal, 503 as const)
    } finally {
      waiting--
      clearTimeout(timer)
      socket.off("close", gone)
    }
  }
  const upgrade = async (request: IncomingMessage, socket: Duplex, head: Buffer) => {
    const bearer = readBearer(request.headers.authorization)
    // No supervisor is a web page.
    if (bearer === undefined || request.headers.origin !== undefined) return refuse(socket, 401)
    const admitted = await admit(bearer, socket)
    if (typeof admitted === "number") return refuse(socket, admitted)
    if (signal.aborted) return refuse(socket, 503)
    if (admitted === "RunEnded")
      return sockets.handleUpgrade(request, socket, head, (webSocket) => {
        webSocket.on("error", () => webSocket.terminate())
        webSocket.close(closeReplaced, "this run has ended")
      })
    if (connects.take(admitted.uid, 1, performance.now()).tokens < 0) return refuse(socket, 429)
    sockets.handleUpgrade(request, socket, head, (webSocket) =>
      serveLink(webSocket, admitted, parts, (bytes) =>
        frames.take(admitted.uid, 1 + bytes / bytesPerToken, performance.now()),
      ),
    )
  }
  server.on("upgrade", (request: IncomingMessage, socket: Duplex, head: Buffer) => {
    socket.on("error", () => socket.destroy())
    // Not relative to a base: a path that begins with two slashes would be read as a host, or
    // throw.
    const url = URL.parse(`http://localhost${request.url}`)
    if (url?.pathname !== "/v1/link") return refuse(socket, 404)
    upgrade(request, socket, head).catch((error: unknown) => {
      parts.report(error)
      socket.destroy()
    })
  })
  signal.addEventListener("abort", () => {
    for (const client of sockets.clients) client.close(closeGoingAway, "the gateway is going away")
    sockets.close()
  })
}

/** Carries frames between one supervisor and the gateway until either goes. */
function serveLink(
  webSocket: WebSocket,
  { name, uid, place, bearer, found }: Supervisor,
  { gateway, watch }: LinkParts,
  takeBytes: (bytes: number) => ReturnType<ReturnType<typeof createBuckets>["take"]>,
): void {
  let isClosing = false
  let isAlive = true
  let resume: NodeJS.Timeout | undefined
  const close = (code: number, reason: string): void => {
    isClosing = true
    webSocket.close(code, reason)
  }
  const link = gateway.connect({
    name,
    uid,
    place,
    send(frame) {
      if (webSocket.bufferedAmount > bufferedBytesMax) webSocket.terminate()
      else webSocket.send(JSON.stringify(frame))
    },
    close,
  })
  const stopWatch = watch.untilExpired(bearer, found, () =>
    close(closeUnauthenticated, "the credential has ended"),
  )
  const timer = setInterval(() => {
    if (!isAlive) return webSocket.terminate()
    isAlive = false
    webSocket.ping()
  }, pingMs)
  webSocket.on("pong", () => {
    isAlive = true
  })
  webSocket.on("message", (data) => {
    // A supervisor that was told to go may go on sending until the socket is closed.
    if (isClosing) return
    const text = String(data)
    const left = takeBytes(text.length)
    if (left.tokens < 0) {
      webSocket.pause()
      clearTimeout(resume)
      resume = setTimeout(() => webSocket.resume(), untilFullMs(left, frameRate, 0))
    }
    link.receive(text)
  })
  webSocket.on("error", () => webSocket.terminate())
  webSocket.on("close", () => {
    clearInterval(timer)
    clearTimeout(resume)
    stopWatch()
    link.closed()
  })
}
