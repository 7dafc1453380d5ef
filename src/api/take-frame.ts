import type { UpFrame } from "../core/frames.ts"
import type { Receipt } from "../core/mail.ts"
import type { Clock, Instances, Ledger, Mailboxes, Reports, Timeline } from "../core/ports.ts"
import type { ReportedEvents } from "./reported-events.ts"
import type { SupervisorLink } from "./supervisor-link.ts"

/** What becomes of the frames that a supervisor sends. */

export interface TakeFrameParts {
  readonly store: Instances
  readonly mailboxes: Mailboxes
  readonly reports: Reports
  readonly timeline: Timeline
  readonly ledger: Ledger
  readonly clock: Clock
  readonly events: ReportedEvents
  report(name: string, error: unknown): void
}

/**
 * A supervisor reports deliveries and nothing else: the control plane knows returns and answers.
 */
async function takeReceipt(
  { mailboxes, timeline, clock }: TakeFrameParts,
  { uid, name }: SupervisorLink,
  receipt: Receipt,
): Promise<void> {
  if (receipt.state !== "Delivered") return
  const now = await mailboxes.receipt(uid, receipt)
  // It is another instance's mail, or went back to its sender.
  if (!now || now.state === "Returned") return
  const { mail, iteration, hook } = now
  const where =
    iteration === undefined || hook === undefined ? "" : ` in iteration ${iteration}, by ${hook}`
  await timeline.append({
    id: `d-${mail}`,
    uid,
    kind: "MailDelivered",
    message: `${mail} was delivered to ${name}${where}.`,
    atMs: clock.nowMs(),
  })
}

/** Stores what a frame says, then acknowledges it. @throws DiskFull; the frame may come again. */
export async function takeFrame(
  parts: TakeFrameParts,
  link: SupervisorLink,
  frame: UpFrame,
): Promise<void> {
  const { store, reports, ledger, clock, events, report } = parts
  const { uid, name, place } = link
  if (frame.type === "beat") {
    if (frame.beat.place !== place) return
    // Usage is a running maximum: what cannot be recorded now is in the next beat. What else the
    // beat says is needed now.
    await ledger.record(uid, place, frame.beat.used).catch((error: unknown) => report(name, error))
    // Dated by its arrival: the other machine's clock may be wrong.
    await reports.beat(uid, { ...frame.beat, atMs: clock.nowMs() })
    return
  }
  if (frame.type === "receipt") await takeReceipt(parts, link, frame.receipt)
  else {
    // Nothing is told of an instance that is gone, whoever still holds its credential. One that is
    // new may not be in the replica yet.
    const isThere = store.replica.get(name)?.uid === uid || (await store.read(name))?.uid === uid
    if (isThere) await events.take(link, frame.event)
  }
  link.send({ type: "ack", seq: frame.seq })
}
