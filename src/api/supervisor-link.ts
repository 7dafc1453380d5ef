import type { DownFrame } from "../core/frames.ts"
import type { Uid } from "../core/instance.ts"

/** One connected supervisor, as the WebSocket gives it to the gateway. */
export interface SupervisorLink {
  readonly name: string
  readonly uid: Uid
  /** The current one when the link was authenticated. */
  readonly place: string
  send(frame: DownFrame): void
  /** `code` in the private range of RFC 6455, 4000 to 4999. */
  close(code: number, reason: string): void
}
