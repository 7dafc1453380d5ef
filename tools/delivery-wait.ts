import type { Posted } from "../src/core/ports.ts"
import { stopwatch } from "../src/core/stopwatch.ts"
import type { ToolContext } from "../src/core/tool.ts"

const pageMax = 100

export interface Watch {
  /** Until every one of these mails has left its queue, the time is over, or the caller is gone. */
  settled(mails: ReadonlyMap<string, string>, waitMs: number): Promise<void>
  end(): void
}

/** Opened before anything is sent, so that no delivery can come between the sending and the waiting. */
export function watchDeliveries({ bus, clock, signal, progress }: ToolContext, waitMs: number): Watch {
  const stop = new AbortController()
  const both = AbortSignal.any([signal, stop.signal])
  // A listener whose events fail says nothing: then the receipts themselves are looked at when the time is over.
  const listen = (after: string, ms: number) => bus.events({ after, limit: pageMax, waitMs: ms }, both).catch(() => undefined)
  let heard = listen("$", waitMs)
  return {
    async settled(mails, ms) {
      const waitedMs = stopwatch(clock)
      const told = new Set<string>()
      for (;;) {
        const posted: readonly Posted[] = await bus.posted({ mails: [...mails.keys()], limit: mails.size })
        for (const { mail, receipt } of posted) {
          if (receipt.state === "Queued" || told.has(mail.id)) continue
          told.add(mail.id)
          const where = receipt.iteration === undefined ? "" : ` in iteration ${receipt.iteration}`
          progress(told.size, `${mails.get(mail.id)}: ${receipt.state.toLowerCase()}${where}`)
        }
        if (told.size >= mails.size || both.aborted) return
        for (;;) {
          const events = await heard
          const leftMs = ms - waitedMs()
          if (!events || leftMs <= 0 || both.aborted) return
          heard = listen(events.cursor, leftMs)
          if (events.events.some(({ kind }) => kind === "MailDelivered" || kind === "Exited")) break
        }
      }
    },
    end: () => stop.abort(),
  }
}
