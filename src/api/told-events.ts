import { createHash } from "node:crypto"
import { type Bucket, type BucketRate, refilled, untilFullMs } from "../core/bucket.ts"
import type { Reported } from "../core/event.ts"
import type { Uid } from "../core/instance.ts"
import type { Clock, Timeline } from "../core/ports.ts"
import { counted } from "../core/view.ts"

/**
 * What supervisors tell the timeline, kept to what changes and to what one instance may tell: an
 * agent may hold its supervisor's credential.
 */

/**
 * An iteration has two events, and claude takes seconds to start: real work stays far below one a
 * second.
 */
export const toldRate: BucketRate = { max: 600, perSecond: 1 }
/** It is told again once so much is free: a flood has one beginning and one end. */
const againAt = toldRate.max / 2
/** Instances whose last event is remembered; the longest silent is forgotten first. */
const instancesMax = 20_000

const retryMs = 1000
const floodWords = `It reports more than ${toldRate.max} events in ${toldRate.max / toldRate.perSecond / 60} minutes: further ones are left out until it reports fewer.`

interface Told {
  bucket: Bucket
  /** A digest of the event before, of which a repeat tells nothing. */
  last: string
  /** How many were left out since when; absent while all are told. */
  flood?: { readonly sinceMs: number; leftOut: number }
  cancel?: () => void
}
export interface ToldEvents {
  /**
   * Resolves when it is stored, or is not to be: then it may be acknowledged. @throws DiskFull; the
   * same event may then come again.
   */
  tell(from: { readonly uid: Uid; readonly place: string }, event: Reported): Promise<void>
  close(): void
}

export function createToldEvents(
  { timeline, clock }: { readonly timeline: Pick<Timeline, "append">; readonly clock: Clock },
  report: (error: unknown) => void,
): ToldEvents {
  const byUid = new Map<Uid, Told>()
  const toldOf = (uid: Uid): Told => {
    const known = byUid.get(uid) ?? {
      bucket: refilled(undefined, toldRate, clock.nowMs()),
      last: "",
    }
    byUid.delete(uid)
    byUid.set(uid, known)
    const [longest] = byUid.keys()
    if (byUid.size > instancesMax && longest !== undefined) {
      byUid.get(longest)?.cancel?.()
      byUid.delete(longest)
    }
    return known
  }
  const warn = (uid: Uid, sinceMs: number, id: string, message: string): Promise<void> =>
    timeline.append({
      id: `flood-${sinceMs}-${id}`,
      uid,
      kind: "Warning",
      message,
      atMs: clock.nowMs(),
    })

  /** Ends a flood that is over, and looks again later at one that is not. */
  const look = async (uid: Uid, told: Told): Promise<void> => {
    told.cancel?.()
    if (!told.flood) return
    told.bucket = refilled(told.bucket, toldRate, clock.nowMs())
    const againMs = untilFullMs(told.bucket, toldRate, againAt)
    if (againMs > 0) {
      lookLater(uid, told, againMs)
      return
    }
    const { sinceMs, leftOut } = told.flood
    const since = new Date(sinceMs).toISOString().slice(0, 19)
    await warn(
      uid,
      sinceMs,
      "end",
      `Its events are kept again. Since ${since}Z, ${counted(leftOut, "event")} of it ${leftOut === 1 ? "was" : "were"} left out.`,
    )
    delete told.flood
  }
  const lookLater = (uid: Uid, told: Told, ms: number): void => {
    told.cancel = clock.after(Math.max(retryMs, ms), () => {
      look(uid, told).catch((error: unknown) => {
        report(error)
        lookLater(uid, told, retryMs)
      })
    })
  }

  return {
    async tell({ uid, place }, { id, kind, message, atMs }) {
      const told = toldOf(uid)
      const digest = createHash("sha256")
        .update(JSON.stringify([place, kind, message]))
        .digest("base64")
      if (digest === told.last) return
      const nowMs = clock.nowMs()
      const { tokens } = refilled(told.bucket, toldRate, nowMs)
      if (told.flood && tokens >= againAt) await look(uid, told)
      else if (!told.flood && tokens < 1) {
        await warn(uid, nowMs, "begin", floodWords)
        told.flood = { sinceMs: nowMs, leftOut: 0 }
        lookLater(uid, told, 0)
      }
      if (told.flood) told.flood.leftOut++
      else {
        // Ids of its own: it shall not take the place of what the control plane itself has to say
        // about it.
        await timeline.append({ id: `told-${id}`, uid, kind, message, atMs: Math.min(atMs, nowMs) })
        told.last = digest
      }
      // What is left out takes a token too: while the flood lasts, it does not end by itself every
      // few minutes.
      told.bucket = { tokens: Math.max(0, tokens - 1), atMs: nowMs }
    },
    close() {
      for (const { cancel } of byUid.values()) cancel?.()
    },
  }
}
