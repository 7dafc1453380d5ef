import { join } from "node:path"
import { sqliteLedger } from "../../src/adapters/sqlite/ledger.ts"
import { openDatabase } from "../../src/adapters/sqlite/open.ts"
import { sqliteStore } from "../../src/adapters/sqlite/store.ts"
import type { Instance, Spec } from "../../src/core/instance.ts"
import { revisionOf } from "../../src/core/revision.ts"
import { systemClock } from "../../src/host/clock.ts"
import { sqlitePorts } from "../contract/sqlite-ports.ts"

/**
 * A fleet that has been used for months: most of it ended long ago, some are paused, one in fifty
 * has a parent.
 */

export const aSpec = (index: number): Spec => ({
  project: `project-${index % 20}`,
  state: index % 100 === 0 ? "Paused" : "Stopped",
  attempt: 1,
  goal: "Keep the shop open, and the shelves filled. ".repeat(10),
  orders: [],
  mode: "until-complete",
  loop: "ralf",
  workspace: "auto",
  priority: 0,
  labels: { team: index % 2 === 0 ? "web" : "shop" },
  budget: { usd: 10 },
  children: { depth: 0, total: 0, running: 0 },
  lineage: [],
})

/**
 * Fills the database of a state directory whose control plane does not run. The first ones are
 * paused, with a place, as if they lived.
 */
export async function fillWith(
  count: number,
  stateDirectory: string,
  living = 0,
): Promise<readonly Instance[]> {
  const database = await openDatabase(join(stateDirectory, "blackbox5.db"))
  try {
    const store = sqliteStore(database, systemClock)
    const ledger = sqliteLedger(database, systemClock)
    const { timeline } = sqlitePorts(database, systemClock)
    const nowMs = Date.now()
    const made: Instance[] = []
    let parent: Instance | undefined
    for (let index = 0; index < count; index++) {
      const lives = index < living
      const lineage = index % 50 === 49 && parent ? [parent.uid] : []
      const spec: Spec = { ...aSpec(index), lineage, ...(lives && { state: "Paused" as const }) }
      const place = `${(nowMs - 1_000_000 + index).toString(36).padStart(9, "0")}-abcd1234`
      const created = await store.create(`agent-${index}`, spec)
      const admitted = await store.updateStatus(created, "admission", {
        ...{
          verdict: "Queued" as const,
          reason: "NotWanted" as const,
          message: "It is not to run now.",
          term: 1,
        },
      })
      const instance = await store.updateStatus(admitted, "run", {
        ...{
          phase: lives ? ("Running" as const) : ("Exited" as const),
          revision: revisionOf(spec),
          place,
          restarts: 0,
          term: 1,
        },
        ...{ startedAtMs: nowMs - 1_000_000 },
        ...(!lives && { lastExit: { code: 143, atMs: nowMs - 500_000 } }),
      })
      const { uid, name } = instance
      await ledger.open(uid, { name, lineage, bornAtMs: nowMs, defaults: {} })
      await ledger.record(instance.uid, place, {
        usd: 0.5,
        tokens: 100_000,
        iterations: 12,
        ms: 600_000,
      })
      for (const [kind, message] of [
        ["Spawned", "Spawned by operator root."],
        ["IterationEnded", "Iteration 12 ended after 60 s: PARTIAL, exit code 0. Status: PARTIAL"],
        ["Exited", "The loop exited with code 143."],
      ] as const)
        await timeline.append({
          id: `${kind}-${index}`,
          uid: instance.uid,
          kind,
          message,
          atMs: nowMs,
        })
      if (index % 50 === 0) parent = instance
      made.push(instance)
    }
    return made
  } finally {
    database.close()
  }
}
