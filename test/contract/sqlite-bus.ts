import { sqliteMailboxes } from "../../src/adapters/sqlite/mailboxes.ts"
import type { Database } from "../../src/adapters/sqlite/open.ts"
import { sqliteReports } from "../../src/adapters/sqlite/reports.ts"
import { sqliteTimeline } from "../../src/adapters/sqlite/timeline.ts"
import { sqliteTurns } from "../../src/adapters/sqlite/turns.ts"
import type { Uid } from "../../src/core/instance.ts"
import type { Clock, Mailboxes, Reports, Timeline, Turns } from "../../src/core/ports.ts"
import { topic } from "../../src/core/source.ts"

/** The ports that a control plane is made of. */
export const portsOf = (bus: Bus) => ({
  mailboxes: bus,
  timeline: bus,
  reports: bus,
  turns: { replica: bus.turnsReplica, list: bus.turns, set: bus.setTurns, watch: bus.watch },
})

/** The four ports that fill one database, for suites that look at them together. */
export type Bus = Mailboxes &
  Timeline &
  Reports & { turns: Turns["list"]; setTurns: Turns["set"]; turnsReplica: Turns["replica"] }

export const sqliteBus = (database: Database, clock: Clock): Bus =>
  busOf({
    mailboxes: sqliteMailboxes(database),
    timeline: sqliteTimeline(database, clock),
    reports: sqliteReports(database, clock),
    turns: sqliteTurns(database),
  })

export function busOf({
  mailboxes,
  timeline,
  reports,
  turns,
}: {
  mailboxes: Mailboxes
  timeline: Timeline
  reports: Reports
  turns: Turns
}): Bus {
  return {
    ...mailboxes,
    ...timeline,
    ...reports,
    turns: turns.list,
    setTurns: turns.set,
    turnsReplica: turns.replica,
    async *watch(signal) {
      const both = topic<Uid>(async () => [])
      const follow = async (source: Turns["watch"]): Promise<void> => {
        for await (const uid of source(signal)) both.changed(uid)
      }
      const changes = both.source(signal)[Symbol.asyncIterator]()
      const first = changes.next()
      void follow(turns.watch)
      void follow(reports.watch)
      const { value, done } = await first
      if (!done) yield value
      for (let next = await changes.next(); !next.done; next = await changes.next())
        yield next.value
    },
  }
}
