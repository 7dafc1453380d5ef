import ReconnectingWebSocket from "partysocket/ws"
import WebSocket from "ws"
import type { Beat } from "../core/beat.ts"
import type { Directive } from "../core/directive.ts"
import {
  closeGoingAway,
  closeReplaced,
  type DownFrame,
  downFrameSchema,
  frameBytesMax,
  type Spooled,
  type UpFrame,
} from "../core/frames.ts"
import type { Mail } from "../core/mail.ts"
import { connectTo } from "../host/local-socket.ts"
import type { Spool } from "./spool.ts"

export interface LinkOptions {
  readonly socketPath: string
  /** Says itself which instance this is, at which place. */
  readonly credential: string
  readonly spool: Spool
  directive(directive: Directive): void
  mail(mail: Mail): void
  /** The fleet has another place for this instance: what runs here must end. */
  replaced(): void
  /**
   * Nobody listens there, and nobody ended it on purpose: called after each failed attempt but the
   * first.
   */
  away(): void
  /** The gateway is there again. */
  connected(): void
}
export interface Link {
  /** A level: the last one is sent at every connect. */
  beat(beat: Beat): void
  send(frame: Spooled): void
  /** Resolves when all is acknowledged, or with the signal. */
  flushed(signal: AbortSignal): Promise<void>
  close(): void
}

export const linkUrl = "ws://localhost/v1/link"

/**
 * ws takes headers and the way there as a third argument, which a browser's WebSocket, and so
 * partysocket, has not.
 */
export const websocketTo = (
  socketPath: string,
  credential: string,
): (new (
  url: string | URL,
  protocols?: string | string[],
) => WebSocket) =>
  class extends WebSocket {
    constructor(url: string | URL, protocols?: string | string[]) {
      super(url, protocols ?? [], {
        headers: { authorization: `Bearer ${credential}` },
        maxPayload: frameBytesMax,
        handshakeTimeout: 10_000,
        // Not as part of the URL, in which `:`, `?`, `#` and `%` would mean something else.
        createConnection: () => connectTo(socketPath),
      })
    }
  }

/**
 * The supervisor's end of the link. Reconnects for ever; what is not acknowledged is sent again.
 */
export function connectLink(options: LinkOptions): Link {
  const { socketPath, credential, spool } = options
  let latest: Beat | undefined
  let emptied: () => void = () => {}
  let failures = 0
  let shutDown = false

  const socket = new ReconnectingWebSocket(linkUrl, [], {
    WebSocket: websocketTo(socketPath, credential),
    // Not all of a fleet at the same moments; and so that 2 s after its end a control plane that is
    // there again has everybody.
    minReconnectionDelay: 30 + Math.random() * 70,
    maxReconnectionDelay: 1000,
    reconnectionDelayGrowFactor: 1.5,
    connectionTimeout: 10_000,
    maxEnqueuedMessages: 0, // the spool keeps what matters; a beat of before is worth nothing
  })
  const write = (frame: UpFrame): void => {
    if (socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify(frame))
  }
  const take = (frame: DownFrame): void => {
    switch (frame.type) {
      case "directive":
        options.directive(frame.directive)
        break
      case "mail":
        options.mail(frame.mail)
        break
      default:
        spool.acknowledge(frame.seq)
        if (spool.all().length === 0) emptied()
    }
  }
  socket.addEventListener("open", () => {
    failures = 0
    shutDown = false
    if (latest) write({ type: "beat", beat: latest })
    for (const frame of spool.all()) write(frame)
    options.connected()
  })
  socket.addEventListener("message", ({ data }) => {
    const parsed = downFrameSchema.safeParse(JSON.parse(String(data)))
    if (parsed.success) take(parsed.data) // a newer gateway may say more than this supervisor knows
  })
  socket.addEventListener("close", ({ code }) => {
    if (code === closeReplaced) options.replaced()
    else if (code === closeGoingAway) shutDown = true
    else if (++failures > 1 && !shutDown) options.away()
  })
  socket.addEventListener("error", () => {}) // a close follows, and decides

  return {
    beat(beat) {
      latest = beat
      write({ type: "beat", beat })
    },
    send(frame) {
      write(spool.add(frame))
    },
    flushed: (signal) =>
      new Promise((resolve) => {
        emptied = resolve
        if (spool.all().length === 0 || signal.aborted) resolve()
        signal.addEventListener("abort", () => resolve(), { once: true })
      }),
    close: () => socket.close(),
  }
}
