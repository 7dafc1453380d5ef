import type { Beat } from "../../core/beat.ts"
import { type Uid, uidSchema } from "../../core/instance.ts"
import { Overlay } from "../../core/overlay.ts"
import { silentMs } from "../../core/phase.ts"
import type { Clock, Reports } from "../../core/ports.ts"
import { topic } from "../../core/source.ts"
import { type Wait, waitSchema } from "../../core/waits.ts"
import type { Database } from "./open.ts"
import { stringOf } from "./row.ts"

/** Instances whose latest beat is kept; the one that is silent longest goes first. */
export const beatsMax = 20_000

/**
 * What a scheduler acts on. Time alone (`used.ms`, `atMs`) and the activity change with each beat
 * and concern only who looks.
 */
const telling = ({
  place,
  turn,
  frozen,
  hold,
  last,
  news,
  used: { usd, tokens, iterations },
}: Beat): string =>
  JSON.stringify([place, turn, frozen, hold, last?.turn, news, usd, tokens, iterations])

export function sqliteReports(database: Database, clock: Clock): Reports {
  // Not in the file: a beat is a level that every supervisor sends at each connect, so after a
  // restart an old one would only be wrong.
  const beats = new Map<Uid, { readonly beat: Beat; readonly heardAtMs: number }>()
  /** What was given to readers; made when somebody asks. */
  let given: Overlay<Uid, Beat> | undefined
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
  const { changed, source } = topic<Uid>(async () => beats.keys())

  return {
    watch: source,
    async beat(uid, beat) {
      const before = beats.get(uid)
      const heardAtMs = clock.nowMs()
      beats.delete(uid) // set again below at the end: the first of the map is the one silent longest
      beats.set(uid, { beat, heardAtMs })
      given = given?.with(uid, beat)
      const [longestSilent] = beats.keys()
      if (beats.size > beatsMax && longestSilent !== undefined) {
        beats.delete(longestSilent)
        given = undefined
      }
      if (
        !before ||
        telling(before.beat) !== telling(beat) ||
        Math.abs(heardAtMs - before.heardAtMs) > silentMs
      )
        changed(uid)
    },
    async beats() {
      given ??= Overlay.of([...beats].map(([uid, { beat }]) => [uid, beat]))
      return given
    },
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
