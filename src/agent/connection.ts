import ReconnectingWebSocket from "partysocket/ws"
import WebSocket from "ws"
import type { Beat } from "../core/beat.ts"
import type { Directive } from "../core/directive.ts"
import type { Endpoint, EndpointAddress } from "../core/endpoint.ts"
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
import { credentialInTime, webSocketRoute } from "../host/endpoint.ts"
import type { Spool } from "./spool.ts"

export interface LinkOptions {
  /** Its credential says which instance this is, at which place. */
  readonly endpoint: Endpoint
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

const linkPath = "/v1/link"
const handshakeMs = 10_000

/** Begins one connection to the gateway of an endpoint. @throws when its CA file cannot be read. */
export function openLinkSocket(address: EndpointAddress, bearer: string | undefined): WebSocket {
  const { url, options } = webSocketRoute(address, linkPath)
  return new WebSocket(url, [], {
    headers: bearer === undefined ? {} : { authorization: `Bearer ${bearer}` },
    maxPayload: frameBytesMax,
    handshakeTimeout: handshakeMs,
    ...options,
  })
}

/**
 * The supervisor's end of the link. Reconnects for ever; what is not acknowledged is sent again.
 */
export function connectLink(options: LinkOptions): Link {
  const { endpoint, spool } = options
  let latest: Beat | undefined
  let emptied: () => void = () => {}
  let failures = 0
  let shutDown = false
  let bearer: string | undefined

  // partysocket asks for the URL before every connect, and awaits it: so is the credential. It
  // passes no headers on, so its WebSocket is made here.
  const nextUrl = async (): Promise<string> => {
    bearer = await credentialInTime(endpoint)
    return endpoint.url
  }
  const socket = new ReconnectingWebSocket(nextUrl, [], {
    WebSocket: function LinkSocket() {
      return openLinkSocket(endpoint, bearer)
    },
    // Spread out, so that a fleet does not reconnect in step; and short enough that a control plane
    // that is back has everybody within 2 s.
    minReconnectionDelay: 30 + Math.random() * 70,
    maxReconnectionDelay: 1000,
    reconnectionDelayGrowFactor: 1.5,
    connectionTimeout: 10_000,
    maxEnqueuedMessages: 0, // the spool keeps what matters; an old beat is worth nothing
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
