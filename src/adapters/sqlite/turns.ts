import { Fault } from "../../core/faults.ts"
import { type Uid, uidSchema } from "../../core/instance.ts"
import type { Turn, Turns } from "../../core/ports.ts"
import { soleReplica } from "../../core/replica.ts"
import type { Database } from "./open.ts"
import { numberOf, stringOf } from "./row.ts"
import { termOf } from "./term.ts"

export function sqliteTurns(database: Database): Turns {
  const stored = new Map<Uid, Turn>()
  for (const row of database.read(() => database.prepare("SELECT * FROM turn").all())) {
    const uid = uidSchema.parse(stringOf(row, "uid"))
    stored.set(uid, {
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
  const replica = soleReplica(stored)

  return {
    replica,
    async set(byTerm, grant, end) {
      // A turn granted again since is another turn: only the very one that is named ends.
      const ended = end.filter(
        ({ uid, id, place }) => replica.get(uid)?.id === id && replica.get(uid)?.place === place,
      )
      if (byTerm < newest)
        throw new Fault(
          "Conflict",
          `Leader ${newest} has set turns since; this is leader ${byTerm}.`,
          "Stop leading.",
        )
      const steps = new Map<string, () => void>()
      if (byTerm > newest) steps.set("turns", () => term.store(byTerm))
      for (const { uid } of ended) steps.set(`turn ${uid}`, () => remove.run(uid))
      for (const { uid, id, place, grantedAtMs } of grant)
        steps.set(`turn ${uid}`, () => insert.run(uid, id, place, grantedAtMs))
      database.insist(steps, "memory")
      newest = byTerm
      for (const { uid } of ended) replica.gone(uid)
      for (const turn of grant) replica.put(turn.uid, turn)
    },
  }
}
