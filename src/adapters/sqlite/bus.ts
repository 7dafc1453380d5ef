import type { Bus, Clock } from "../../core/ports.ts"
import { sqliteMail } from "./mail.ts"
import type { Database } from "./open.ts"
import { sqliteTimeline } from "./timeline.ts"
import { sqliteTurns } from "./turns.ts"

/** Mail, timeline and turns in the one file; beats in memory. */
export const sqliteBus = (database: Database, clock: Clock): Bus => ({
  ...sqliteMail(database),
  ...sqliteTimeline(database, clock),
  ...sqliteTurns(database, clock),
})
