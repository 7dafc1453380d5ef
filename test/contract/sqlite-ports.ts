import { sqliteMailboxes } from "../../src/adapters/sqlite/mailboxes.ts"
import type { Database } from "../../src/adapters/sqlite/open.ts"
import { sqliteReports } from "../../src/adapters/sqlite/reports.ts"
import { sqliteTimeline } from "../../src/adapters/sqlite/timeline.ts"
import { sqliteTurns } from "../../src/adapters/sqlite/turns.ts"
import type { Clock } from "../../src/core/ports.ts"

/** What a gateway uses of one database, besides instances and ledger. */
export const sqlitePorts = (database: Database, clock: Clock) => ({
  mailboxes: sqliteMailboxes(database),
  timeline: sqliteTimeline(database, clock),
  reports: sqliteReports(database, clock),
  turns: sqliteTurns(database),
})
