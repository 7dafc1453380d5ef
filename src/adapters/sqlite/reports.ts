import { type Beat, isBeatNews, isOutdatedBeat } from "../../core/beat.ts"
import { type Uid, uidSchema } from "../../core/instance.ts"
import { isSameLink, type Linked } from "../../core/link.ts"
import type { Clock, Reports } from "../../core/ports.ts"
import { soleReplica } from "../../core/replica.ts"
import { currentWaits, type Wait, waitSchema } from "../../core/waits.ts"
import type { Database } from "./open.ts"
import { stringOf } from "./row.ts"

/** Instances whose latest beat is kept; the one that is silent longest goes first. */
export const beatsMax = 20_000

/** Beats of the latest of each instance, at most so many. */
function createBeats() {
  // Not in the file: a beat is a level that every supervisor sends at each connect, so after a
  // restart an old one would only be wrong. So a beat costs no write, whatever it says.
  const replica = soleReplica<Uid, Beat>([], { isNews: isBeatNews })
  /** In the order of their last beat. */
  const heard = new Set<Uid>()
  return {
    replica,
    put(uid: Uid, beat: Beat): void {
      heard.delete(uid)
      heard.add(uid)
      replica.put(uid, beat)
      const [longestSilent] = heard
      if (heard.size <= beatsMax || longestSilent === undefined) return
      heard.delete(longestSilent)
      replica.gone(longestSilent)
    },
  }
}

/** The waits that an earlier process left in the file. */
function storedWaits(database: Database): Map<Uid, readonly Wait[]> {
  const waits = new Map<Uid, readonly Wait[]>()
  for (const row of database.read(() => database.prepare("SELECT * FROM wait").all())) {
    const uid = uidSchema.parse(stringOf(row, "uid"))
    waits.set(uid, [...(waits.get(uid) ?? []), waitSchema.parse(JSON.parse(stringOf(row, "body")))])
  }
  return waits
}

export function sqliteReports(database: Database, clock: Clock): Reports {
  const beats = createBeats()
  const waits = soleReplica(storedWaits(database))
  // Links end with the process that holds them, so they are not in the file either.
  const links = soleReplica<Uid, Linked>([])
  const putWait = database.prepare(
    "INSERT OR REPLACE INTO wait (uid, kind, until_ms, body) VALUES (?, ?, ?, ?)",
  )
  const dropWaits = database.prepare("DELETE FROM wait WHERE until_ms <= ?")

  return {
    beats: beats.replica,
    waits,
    links,
    async beat(uid, beat) {
      if (isOutdatedBeat(beat, beats.replica.get(uid))) return
      beats.put(uid, beat)
    },
    // The time of each wait is bounded, and so is their number: what is over is dropped when the
    // next one comes.
    async wait(uid, wait) {
      const nowMs = clock.nowMs()
      database.write(() => {
        dropWaits.run(nowMs)
        putWait.run(uid, wait.kind, wait.untilMs, JSON.stringify(wait))
      })
      const current = currentWaits(waits.snapshot(), nowMs)
      for (const [of, list] of current) if (list.length === 0) waits.gone(of)
      const others = (current.get(uid) ?? []).filter(({ kind }) => kind !== wait.kind)
      waits.put(uid, [...others, wait])
    },
    async linked(uid, link) {
      links.put(uid, link)
    },
    async unlinked(uid, link) {
      if (isSameLink(links.get(uid), link)) links.gone(uid)
    },
  }
}
