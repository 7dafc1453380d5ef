import { Fault } from "../../core/faults.ts"
import type { Turns } from "../../core/ports.ts"
import type { Connection } from "./connection.ts"

export function memoryTurns({ backend, replicaOf, reach }: Connection): Turns {
  const { turns: truth } = backend
  const replica = replicaOf(truth)
  return {
    replica,
    async set(term, grant, end) {
      const written = await reach("turns.set", () => {
        if (term < backend.turnsTerm)
          throw new Fault(
            "Conflict",
            `Leader ${backend.turnsTerm} has set turns since; this is leader ${term}.`,
            "Stop leading.",
          )
        backend.turnsTerm = term
        // A turn granted again since is another turn: only the very one that is named ends.
        const ended = end.filter(({ uid, id, place }) => {
          const turn = truth.get(uid)
          return turn?.id === id && turn.place === place
        })
        return {
          ended: ended.map(({ uid }) => ({ uid, revision: truth.gone(uid) })),
          granted: grant.map((turn) => ({ turn, revision: truth.put(turn.uid, turn) })),
        }
      })
      for (const { uid, revision } of written.ended) replica.gone(uid, revision)
      for (const { turn, revision } of written.granted) replica.put(turn.uid, turn, revision)
    },
  }
}
