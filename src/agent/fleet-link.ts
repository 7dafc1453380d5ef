import { randomUUID } from "node:crypto"
import type { Beat } from "../core/beat.ts"
import type { Directive } from "../core/directive.ts"
import type { Endpoint } from "../core/endpoint.ts"
import type { Reported } from "../core/event.ts"
import type { Sequenced } from "../core/frames.ts"
import type { Mail, Receipt } from "../core/mail.ts"
import { counted, cut } from "../core/view.ts"
import { createBeats } from "./beats.ts"
import { connectLink } from "./connection.ts"
import { createReports } from "./reports.ts"
import { createSpool } from "./spool.ts"

/** Everything that a supervisor and the fleet say to one another. */
export interface FleetLink {
  /** Something that a beat says has changed. */
  changed(): void
  /** Sends a beat now. */
  beat(): void
  emit(kind: Reported["kind"], message: string): void
  warn(message: string): void
  receipt(receipt: Receipt): void
  /** Receipts of a predecessor that the gateway may not know yet. */
  inheritedReceipts(): readonly Receipt[]
  /** Resolves when all is acknowledged, or with the signal. */
  flushed(signal: AbortSignal): Promise<void>
  close(): void
}

export interface FleetLinkOptions {
  /** The control plane, as the instance of this run. */
  readonly endpoint: Endpoint
  /** What a predecessor could not say any more. */
  readonly spooled: readonly Sequenced[]
  /** Keeps what is not acknowledged, for a successor. */
  keepSpool(frames: readonly Sequenced[]): void
  nowMs(): number
  composeBeat(): Beat
  directive(directive: Directive): void
  mail(mail: Mail): void
  replaced(): void
  /** Nobody answers at the gateway's socket: called after some failed attempts. */
  away(): void
}

export function createFleetLink(options: FleetLinkOptions): FleetLink {
  const { endpoint, nowMs } = options
  let dropped = 0
  const spool = createSpool({
    left: options.spooled,
    keep: options.keepSpool,
    dropped(count) {
      dropped += count
    },
  })
  const beats = createBeats(options.composeBeat, (beat) => connection.beat(beat))
  const emit = createReports((kind, message) =>
    connection.send({
      type: "event",
      event: { id: randomUUID(), kind, message: cut(message, 4000), atMs: nowMs() },
    }),
  )
  const warn = (message: string): void => emit("Warning", message)
  const connection = connectLink({
    endpoint,
    spool,
    directive: options.directive,
    mail: options.mail,
    replaced: options.replaced,
    away: options.away,
    connected() {
      if (dropped > 0)
        warn(`The gateway was away: ${counted(dropped, "event was", "events were")} dropped.`)
      dropped = 0
    },
  })
  return {
    changed: beats.changed,
    beat: beats.now,
    emit,
    warn,
    receipt: (receipt) => connection.send({ type: "receipt", receipt }),
    inheritedReceipts: spool.receipts,
    flushed: connection.flushed,
    close() {
      beats.close()
      connection.close()
    },
  }
}
