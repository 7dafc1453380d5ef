import type { Posted } from "./ports.ts"
import { stopwatch } from "./stopwatch.ts"
import type { ToolContext } from "./tool.ts"

const pageMax = 100

/**
 * A supervisor answers each mail with a beat at once: one that has not by now is not waited for.
 */
const firstBeatMs = 2000

export interface AwaitedReader {
  /** Who it went to, by the caller's name for it. */
  readonly name: string
  /** True once its supervisor has sent a beat since the mail was sent. */
  hasBeaten(): Promise<boolean>
}
export interface DeliveryWatch {
  /**
   * Until every one of these mails has left its queue, the time is over, or the caller is gone;
   * those of supervisors that send no beat are given up early.
   */
  settled(mails: ReadonlyMap<string, AwaitedReader>): Promise<void>
  end(): void
}

/**
 * Opened before anything is sent, so that no delivery can come between the sending and the waiting.
 */
export function watchDeliveries(
  { mailboxes, timeline, clock, signal, progress }: ToolContext,
  waitMs: number,
): DeliveryWatch {
  const stop = new AbortController()
  const both = AbortSignal.any([signal, stop.signal])
  // Where events fail, the receipts themselves are looked at when the time is over.
  const listen = (after: string, ms: number) =>
    timeline.events({ after, limit: pageMax, waitMs: ms }, both).catch(() => undefined)
  let nextEvents = listen("$", Math.min(firstBeatMs, waitMs))
  /** Ids of mails that have left their queue. */
  const settledMails = new Set<string>()
  /** True when none of them waits any more. */
  const settle = async (
    mails: ReadonlyMap<string, AwaitedReader>,
    ms: number,
  ): Promise<boolean> => {
    const waitedMs = stopwatch(clock)
    for (;;) {
      const posted: readonly Posted[] = await mailboxes.posted({
        mails: [...mails.keys()],
        limit: mails.size,
      })
      for (const { mail, receipt } of posted) {
        if (receipt.state === "Queued" || settledMails.has(mail.id)) continue
        settledMails.add(mail.id)
        const where = receipt.iteration === undefined ? "" : ` in iteration ${receipt.iteration}`
        progress(
          settledMails.size,
          `${mails.get(mail.id)?.name}: ${receipt.state.toLowerCase()}${where}`,
        )
      }
      if ([...mails.keys()].every((mail) => settledMails.has(mail)) || both.aborted) return true
      for (;;) {
        const events = await nextEvents
        const leftMs = ms - waitedMs()
        if (!events || leftMs <= 0 || both.aborted) return false
        nextEvents = listen(events.cursor, leftMs)
        if (events.events.some(({ kind }) => kind === "MailDelivered" || kind === "Exited")) break
      }
    }
  }
  return {
    async settled(mails) {
      const firstMs = Math.min(firstBeatMs, waitMs)
      if ((await settle(mails, firstMs)) || firstMs === waitMs) return
      const left: [string, AwaitedReader][] = []
      for (const [mail, one] of mails)
        if (!settledMails.has(mail) && (await one.hasBeaten())) left.push([mail, one])
      if (left.length > 0) await settle(new Map(left), waitMs - firstMs)
    },
    end: () => stop.abort(),
  }
}
