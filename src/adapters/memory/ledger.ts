import type { Uid } from "../../core/instance.ts"
import type { Account, Ledger } from "../../core/ports.ts"
import { addUsage, lessUsage, maxUsage, noUsage } from "../../core/usage.ts"
import type { Connection } from "./connection.ts"

const hourMs = 3_600_000
/** Hours that are kept: 400 days, as in a file. */
const hoursKept = 400 * 24

export function memoryLedger({ backend, replicaOf, reach }: Connection): Ledger {
  const { accounts: truth, usage, hours, clock } = backend
  const accounts = replicaOf(truth)
  const change = (uid: Uid, part: Partial<Account>): readonly [Account, number] => {
    const account = { used: noUsage, ...truth.get(uid), ...part }
    return [account, truth.put(uid, account)]
  }
  return {
    accounts,
    async record(uid, place, used) {
      const put = await reach("ledger.record", () => {
        const key = JSON.stringify([uid, place])
        const before = usage.get(key) ?? noUsage
        const now = maxUsage(before, used)
        const more = lessUsage(now, before)
        if (Object.values(more).every((value) => value === 0)) return undefined
        usage.set(key, now)
        const hour = Math.floor(clock.nowMs() / hourMs)
        hours.set(hour, addUsage(hours.get(hour) ?? noUsage, more))
        for (const old of hours.keys()) if (old <= hour - hoursKept) hours.delete(old)
        return change(uid, { used: addUsage(truth.get(uid)?.used ?? noUsage, more) })
      })
      if (put) accounts.put(uid, ...put)
    },
    async open(uid, { name, lineage, bornAtMs, defaults }) {
      const put = await reach("ledger.open", () => {
        if (truth.get(uid)?.birth) return undefined
        const birth = { name, lineage: [...lineage], bornAtMs, rank: ++backend.births, defaults }
        return change(uid, { birth })
      })
      if (put) accounts.put(uid, ...put)
    },
    spentSince: (ms) =>
      reach("ledger.spentSince", () =>
        [...hours]
          .filter(([hour]) => hour >= Math.floor(ms / hourMs))
          .reduce((sum, [, used]) => addUsage(sum, used), noUsage),
      ),
  }
}
