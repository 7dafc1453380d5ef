import type { Database } from "./open.ts"
import { numberOf } from "./row.ts"

/**
 * A persisted number that only grows: the newest leadership, or the newest that wrote the turns. 0
 * before the first.
 */
export function termOf(
  database: Database,
  of: "lead" | "turns",
): { value(): number; store(value: number): void } {
  const select = database.prepare("SELECT value FROM term WHERE of = ?")
  const upsert = database.prepare(
    "INSERT INTO term (of, value) VALUES (?, ?) ON CONFLICT (of) DO UPDATE SET value = excluded.value",
  )
  return {
    value() {
      const row = select.get(of)
      return row ? numberOf(row, "value") : 0
    },
    store(value) {
      upsert.run(of, value)
    },
  }
}
