import { Fault } from "../../core/faults.ts"
import { type Uid, uidSchema } from "../../core/instance.ts"
import type { Turn, Turns } from "../../core/ports.ts"
import { topic } from "../../core/source.ts"
import type { Database } from "./open.ts"
import { numberOf, stringOf } from "./row.ts"
import { termOf } from "./term.ts"

export function sqliteTurns(database: Database): Turns {
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
  const term = termOf(database, "turns")
  let newest = database.read(() => term.value())
  const insert = database.prepare(
    "INSERT OR REPLACE INTO turn (uid, id, place, granted_at_ms) VALUES (?, ?, ?, ?)",
  )
  const remove = database.prepare("DELETE FROM turn WHERE uid = ?")
  const { changed, source } = topic<Uid>(async () => turns.keys())

  return {
    watch: source,
    list: async () => new Map(turns),
    async set(byTerm, grant, end) {
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
