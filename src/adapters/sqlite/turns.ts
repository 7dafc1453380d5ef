import { Fault } from "../../core/faults.ts"
import { type Uid, uidSchema } from "../../core/instance.ts"
import type { Beat } from "../../core/link.ts"
import { Overlay } from "../../core/overlay.ts"
import { silentMs } from "../../core/phase.ts"
import type { Bus, Clock, Turn } from "../../core/ports.ts"
import { topic } from "../../core/source.ts"
import { type Wait, waitSchema } from "../../core/waits.ts"
import type { Database } from "./open.ts"
import { numberOf, stringOf } from "./row.ts"
import { termOf } from "./term.ts"

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

type TurnsBus = Pick<Bus, "beat" | "beats" | "turns" | "setTurns" | "wait" | "waits" | "watch">

export function sqliteTurns(database: Database, clock: Clock): TurnsBus {
  // Not in the file: a beat is a level that every supervisor sends at each connect, so after a
  // restart an old one would only be wrong.
  const beats = new Map<Uid, { readonly beat: Beat; readonly heardAtMs: number }>()
  /** What was given to readers; made when somebody asks. */
  let given: Overlay<Uid, Beat> | undefined
  const turns = new Map<Uid, Turn>()
  for (const row of database.read(() => database.prepare("SELECT * FROM turn").all())) {
    const uid = uidSchema.parse(stringOf(row, "uid"))
    turns.set(uid, {
      uid,
      id: stringOf(row, "id"),
      place: stringOf(row, "place"),
      grantedAtMs: numberOf(row, "granted_at_ms"),
    })
  }
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
  const term = termOf(database, "turns")
  let newest = database.read(() => term.value())
  const insert = database.prepare(
    "INSERT OR REPLACE INTO turn (uid, id, place, granted_at_ms) VALUES (?, ?, ?, ?)",
  )
  const remove = database.prepare("DELETE FROM turn WHERE uid = ?")
  const { changed, source } = topic<Uid>(async () => new Set([...turns.keys(), ...beats.keys()]))

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
    turns: async () => new Map(turns),
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
    async setTurns(byTerm, grant, end) {
      // A turn granted again since is another turn: only the very one that is named ends.
      const ended = end.filter(
        ({ uid, id, place }) => turns.get(uid)?.id === id && turns.get(uid)?.place === place,
      )
      if (byTerm < newest)
        throw new Fault(
          "Conflict",
          `Turns were set by leader ${newest}; this is leader ${byTerm}.`,
          "Stop leading.",
        )
      const steps = new Map<string, () => void>()
      if (byTerm > newest) steps.set("turns", () => term.store(byTerm))
      for (const { uid } of ended) steps.set(`turn ${uid}`, () => remove.run(uid))
      for (const { uid, id, place, grantedAtMs } of grant)
        steps.set(`turn ${uid}`, () => insert.run(uid, id, place, grantedAtMs))
      database.insist(steps, "memory")
      newest = byTerm
      for (const { uid } of ended) turns.delete(uid)
      for (const turn of grant) turns.set(turn.uid, turn)
      for (const uid of new Set([...ended, ...grant].map((turn) => turn.uid))) changed(uid)
    },
  }
}
