import { Fault } from "./faults.ts"
import { type Address, operators } from "./ports.ts"

/** Why nothing more can be sent to an inbox: it is never trimmed. */
export const inboxFull = (to: Address, inboxMax: number): Fault =>
  new Fault(
    "RateLimited",
    `${inboxMax} messages wait there already, which is the most an inbox holds.`,
    to === operators
      ? "Nobody has read them yet: a person makes room with read_messages. Go on without an answer, and send again later."
      : "Send again when some were delivered: read_messages shows the receipts.",
  )
