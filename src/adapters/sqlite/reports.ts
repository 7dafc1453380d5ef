import { type Beat, isBeatNews } from "../../core/beat.ts"
import { type Uid, uidSchema } from "../../core/instance.ts"
import type { Clock, Reports } from "../../core/ports.ts"
import { soleReplica } from "../../core/replica.ts"
import { topic } from "../../core/source.ts"
import { type Wait, waitSchema } from "../../core/waits.ts"
import type { Database } from "./open.ts"
import { stringOf } from "./row.ts"

/** Instances whose latest beat is kept; the one that is silent longest goes first. */
export const beatsMax = 20_000

export function sqliteReports(database: Database, clock: Clock): Reports {
  // Not in the file: a beat is a level that every supervisor sends at each connect, so after a
  // restart an old one would only be wrong.
  const beats = soleReplica<Uid, Beat>([], { isNews: isBeatNews })
  /** The first of them is silent longest. */
  const heard = new Set<Uid>()
  const waits = new Map<Uid, readonly Wait[]>()
  for (const row of database.read(() => database.prepare("SELECT * FROM wait").all())) {
    const uid = uidSchema.parse(stringOf(row, "uid"))
    waits.set(uid, [...(waits.get(uid) ?? []), waitSchema.parse(JSON.parse(stringOf(row, "body")))])
  }
  const putWait = database.prepare(
    "INSERT OR REPLACE INTO wait (uid, kind, until_ms, body) VALUES (?, ?, ?, ?)",
  )
  const dropWaits = database.prepare("DELETE FROM wait WHERE until_ms <= ?")
  /**
   * Of each wait the time is bounded, and with it their number: what is over is dropped when the
   * next one comes.
   */
  const standing = (list: readonly Wait[], nowMs: number): readonly Wait[] =>
    list.filter(({ untilMs }) => untilMs > nowMs)
  const { changed, source } = topic<Uid>(async () => beats.snapshot().keys())

  return {
    watch: source,
    async beat(uid, beat) {
      const isNews = isBeatNews(beats.get(uid), beat)
      heard.delete(uid)
      heard.add(uid)
      beats.put(uid, beat)
      const [longestSilent] = heard
      if (heard.size > beatsMax && longestSilent !== undefined) {
        heard.delete(longestSilent)
        beats.gone(longestSilent)
      }
      if (isNews) changed(uid)
    },
    beats: async () => beats.snapshot(),
    async wait(uid, wait) {
      const nowMs = clock.nowMs()
      database.write(() => {
        dropWaits.run(nowMs)
        putWait.run(uid, wait.kind, wait.untilMs, JSON.stringify(wait))
      })
      for (const [of, list] of waits) if (standing(list, nowMs).length === 0) waits.delete(of)
      waits.set(uid, [
        ...standing(waits.get(uid) ?? [], nowMs).filter(({ kind }) => kind !== wait.kind),
        wait,
      ])
      changed(uid)
    },
    async waits() {
      const nowMs = clock.nowMs()
      return new Map([...waits].map(([uid, list]) => [uid, standing(list, nowMs)]))
    },
  }
}
