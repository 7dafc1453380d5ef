import { createHash } from "node:crypto"
import { type Bucket, refilled, untilFullMs } from "../core/bucket.ts"
import { eventRate, type Reported } from "../core/event.ts"
import type { Uid } from "../core/instance.ts"
import type { Clock, Timeline } from "../core/ports.ts"
import { counted } from "../core/view.ts"

/**
 * What supervisors report to the timeline, without repeats and within what one instance may report:
 * an agent may hold its supervisor's credential.
 */

/** Events are kept again once so much is free: a flood has one beginning and one end. */
const resumeAt = eventRate.max / 2
/** Instances whose last event is remembered; the longest silent is forgotten first. */
const instancesMax = 20_000

const retryMs = 1000
const floodText = `It reports more than ${eventRate.max} events in ${eventRate.max / eventRate.perSecond / 60} minutes: further ones are left out until it reports fewer.`

/** What is known of one instance's events. */
interface Reporter {
  bucket: Bucket
  /** A digest of its last event: a repeat says nothing new. */
  last: string
  /** Since when events are left out, and how many; absent while all are kept. */
  flood?: { readonly sinceMs: number; leftOut: number }
  cancel?: () => void
}
export interface ReportedEvents {
  /**
   * Resolves when the event is stored, or is left out: then it may be acknowledged. @throws
   * DiskFull; the same event may then come again.
   */
  take(from: { readonly uid: Uid; readonly place: string }, event: Reported): Promise<void>
  close(): void
}

export function createReportedEvents(
  { timeline, clock }: { readonly timeline: Pick<Timeline, "append">; readonly clock: Clock },
  report: (error: unknown) => void,
): ReportedEvents {
  const reporters = new Map<Uid, Reporter>()
  const reporterOf = (uid: Uid): Reporter => {
    const reporter = reporters.get(uid) ?? {
      bucket: refilled(undefined, eventRate, clock.nowMs()),
      last: "",
    }
    reporters.delete(uid)
    reporters.set(uid, reporter)
    const [longest] = reporters.keys()
    if (reporters.size > instancesMax && longest !== undefined) {
      reporters.get(longest)?.cancel?.()
      reporters.delete(longest)
    }
    return reporter
  }
  const warn = (uid: Uid, sinceMs: number, edge: string, message: string): Promise<void> =>
    timeline.append({
      id: `flood-${sinceMs}-${edge}`,
      uid,
      kind: "Warning",
      message,
      atMs: clock.nowMs(),
    })

  /** Ends a flood that has passed, and checks again later on one that has not. */
  const checkFlood = async (uid: Uid, reporter: Reporter): Promise<void> => {
    reporter.cancel?.()
    if (!reporter.flood) return
    reporter.bucket = refilled(reporter.bucket, eventRate, clock.nowMs())
    const waitMs = untilFullMs(reporter.bucket, eventRate, resumeAt)
    if (waitMs > 0) {
      checkLater(uid, reporter, waitMs)
      return
    }
    const { sinceMs, leftOut } = reporter.flood
    const since = new Date(sinceMs).toISOString().slice(0, 19)
    await warn(
      uid,
      sinceMs,
      "end",
      `Its events are kept again. Since ${since}Z, ${counted(leftOut, "event")} of it ${leftOut === 1 ? "was" : "were"} left out.`,
    )
    delete reporter.flood
  }
  const checkLater = (uid: Uid, reporter: Reporter, ms: number): void => {
    reporter.cancel = clock.after(Math.max(retryMs, ms), () => {
      checkFlood(uid, reporter).catch((error: unknown) => {
        report(error)
        checkLater(uid, reporter, retryMs)
      })
    })
  }

  return {
    async take({ uid, place }, { id, kind, message, atMs }) {
      const reporter = reporterOf(uid)
      const digest = createHash("sha256")
        .update(JSON.stringify([place, kind, message]))
        .digest("base64")
      if (digest === reporter.last) return
      const nowMs = clock.nowMs()
      const { tokens } = refilled(reporter.bucket, eventRate, nowMs)
      if (reporter.flood && tokens >= resumeAt) await checkFlood(uid, reporter)
      else if (!reporter.flood && tokens < 1) {
        await warn(uid, nowMs, "begin", floodText)
        reporter.flood = { sinceMs: nowMs, leftOut: 0 }
        checkLater(uid, reporter, 0)
      }
      if (reporter.flood) reporter.flood.leftOut++
      else {
        // The prefix keeps its ids apart from those of the control plane's own events about it.
        await timeline.append({ id: `told-${id}`, uid, kind, message, atMs: Math.min(atMs, nowMs) })
        reporter.last = digest
      }
      // What is left out takes a token too: a flood that goes on does not end every few minutes.
      reporter.bucket = { tokens: Math.max(0, tokens - 1), atMs: nowMs }
    },
    close() {
      for (const { cancel } of reporters.values()) cancel?.()
    },
  }
}
