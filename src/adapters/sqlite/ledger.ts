import { defaultsSchema, type Uid, uidSchema } from "../../core/instance.ts"
import type { Account, Birth, Clock, Ledger } from "../../core/ports.ts"
import { soleReplica } from "../../core/replica.ts"
import { addUsage, lessUsage, maxUsage, noUsage, type Usage } from "../../core/usage.ts"
import type { Database } from "./open.ts"
import { numberOf, type Row, stringOf } from "./row.ts"

const hourMs = 3_600_000
/**
 * What each hour added is kept this long; the sums of the uids are kept for good, since budgets
 * count them.
 */
export const hoursKept = 400 * 24

const usageOf = (row: Row): Usage => ({
  usd: numberOf(row, "usd"),
  tokens: numberOf(row, "tokens"),
  iterations: numberOf(row, "iterations"),
  ms: numberOf(row, "ms"),
})
const sums =
  "total(usd) AS usd, coalesce(sum(tokens), 0) AS tokens, coalesce(sum(iterations), 0) AS iterations, coalesce(sum(ms), 0) AS ms"

const values = ({ usd, tokens, iterations, ms }: Usage): [number, number, number, number] => [
  usd,
  tokens,
  iterations,
  ms,
]

const births = "SELECT uid, name, lineage, at_ms, rank, defaults FROM birth"
const birthOf = (row: Row): Birth => ({
  name: stringOf(row, "name"),
  lineage: uidSchema.array().parse(JSON.parse(stringOf(row, "lineage"))),
  bornAtMs: numberOf(row, "at_ms"),
  rank: numberOf(row, "rank"),
  defaults: defaultsSchema.parse(JSON.parse(stringOf(row, "defaults"))),
})

export function sqliteLedger(database: Database, clock: Clock): Ledger {
  const read = new Map<Uid, Account>()
  database.read(() => {
    const change = (uid: Uid, part: Partial<Account>): void =>
      void read.set(uid, { used: noUsage, ...read.get(uid), ...part })
    for (const row of database.prepare(births).all())
      change(uidSchema.parse(stringOf(row, "uid")), { birth: birthOf(row) })
    for (const row of database.prepare(`SELECT uid, ${sums} FROM usage GROUP BY uid`).all())
      change(uidSchema.parse(stringOf(row, "uid")), { used: usageOf(row) })
  })
  const accounts = soleReplica(read)
  const change = (uid: Uid, part: Partial<Account>): void =>
    accounts.put(uid, { used: noUsage, ...accounts.get(uid), ...part })
  const known = database.prepare(
    "SELECT usd, tokens, iterations, ms FROM usage WHERE uid = ? AND place = ?",
  )
  const upsert = database.prepare(
    "INSERT OR REPLACE INTO usage (uid, place, usd, tokens, iterations, ms) VALUES (?, ?, ?, ?, ?, ?)",
  )
  const addHour = database.prepare(
    `INSERT INTO hour (hour, usd, tokens, iterations, ms) VALUES (?, ?, ?, ?, ?)
     ON CONFLICT (hour) DO UPDATE SET usd = usd + excluded.usd, tokens = tokens + excluded.tokens,
     iterations = iterations + excluded.iterations, ms = ms + excluded.ms`,
  )
  const dropHours = database.prepare("DELETE FROM hour WHERE hour <= ?")
  const since = database.prepare(`SELECT ${sums} FROM hour WHERE hour >= ?`)
  const insertBirth = database.prepare(
    `INSERT INTO birth (uid, name, lineage, at_ms, rank, defaults)
     SELECT ?, ?, ?, ?, coalesce(max(rank), 0) + 1, ? FROM birth WHERE true
     ON CONFLICT (uid) DO NOTHING`,
  )
  const readBirth = database.prepare(`${births} WHERE uid = ?`)

  return {
    async record(uid, place, used) {
      const added = database.read(() => {
        const row = known.get(uid, place)
        const before = row ? usageOf(row) : noUsage
        const now = maxUsage(before, used)
        const more = lessUsage(now, before)
        if (values(more).every((value) => value === 0)) return undefined
        const hour = Math.floor(clock.nowMs() / hourMs)
        database.write(() => {
          upsert.run(uid, place, ...values(now))
          addHour.run(hour, ...values(more))
          dropHours.run(hour - hoursKept)
        })
        return more
      })
      if (added) change(uid, { used: addUsage(accounts.get(uid)?.used ?? noUsage, added) })
    },
    async open(uid, { name, lineage, bornAtMs, defaults }) {
      if (accounts.get(uid)?.birth) return
      const row = database.write(() => {
        const values = [uid, name, JSON.stringify(lineage), bornAtMs, JSON.stringify(defaults)]
        insertBirth.run(...values)
        return readBirth.get(uid)
      })
      if (row) change(uid, { birth: birthOf(row) })
    },
    accounts,
    /** By whole hours (UTC): the hour that the moment falls into counts in full. */
    async spentSince(ms) {
      const row = database.read(() => since.get(Math.floor(ms / hourMs)))
      return row ? usageOf(row) : noUsage
    },
  }
}
