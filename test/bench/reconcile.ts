import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { cronWindows } from "../../src/adapters/cron/windows.ts"
import { sqliteLedger } from "../../src/adapters/sqlite/ledger.ts"
import { openDatabase } from "../../src/adapters/sqlite/open.ts"
import { sqliteStore } from "../../src/adapters/sqlite/store.ts"
import { operate } from "../../src/control/operator.ts"
import { schedule } from "../../src/control/scheduler.ts"
import type { Uid } from "../../src/core/instance.ts"
import type { Observed, Runtime } from "../../src/core/ports.ts"
import { topic } from "../../src/core/source.ts"
import { systemClock } from "../../src/host/clock.ts"
import { sqlitePorts } from "../contract/sqlite-ports.ts"
import { aSpec, fillWith } from "./crowd.ts"
import { type Part, row } from "./measure.ts"

const started = 500

/** Starts and ends at once what it is told to: nothing but the control plane takes time. */
function instantRuntime(): Runtime {
  const runs = new Map<string, Observed>()
  const { source, changed } = topic(async () => runs.keys())
  const put = (name: string, run: Observed): Observed => {
    runs.set(name, run)
    changed(name)
    return run
  }
  return {
    watch: source,
    get: async (name) => runs.get(name),
    lives: (name) => runs.get(name)?.phase === "Running",
    start: async ({ name, uid, revision, number }) =>
      put(name, {
        uid,
        number,
        revision,
        place: `p-${uid}`,
        phase: "Running",
        startedAtMs: Date.now(),
      }),
    async stop(name) {
      const run = runs.get(name)
      if (run) put(name, { ...run, phase: "Exited", exit: { code: 143, atMs: Date.now() } })
    },
    async clean(name) {
      runs.delete(name)
    },
  }
}

/**
 * Until `count` instances that are declared at once are admitted and run, in a store of `others`
 * that ended long ago: how many a second.
 */
async function perSecond(count: number, others: number): Promise<number> {
  const directory = mkdtempSync(join(tmpdir(), "bb5-reconcile-"))
  const stop = new AbortController()
  let running: Promise<unknown> = Promise.resolve()
  try {
    await fillWith(others, directory)
    const database = await openDatabase(join(directory, "blackbox5.db"))
    const store = sqliteStore(database, systemClock)
    const ledger = sqliteLedger(database, systemClock)
    const ports = { store, ...sqlitePorts(database, systemClock), ledger, clock: systemClock }
    const failed = Promise.withResolvers<never>()
    const report = (_key: string, error: unknown): void => failed.reject(error)
    let ids = 0
    running = Promise.all([
      operate(
        { ...ports, runtime: instantRuntime(), newId: () => `e-${++ids}` },
        1,
        report,
        stop.signal,
      ),
      schedule(
        {
          ...ports,
          windows: cronWindows(),
          policy: () => ({ instancesMax: count, turnsMax: 4 }),
          defaults: () => ({}),
          async *policyChanged() {},
        },
        1,
        report,
        stop.signal,
      ),
    ])
    const arrived = new Set<Uid>()
    const beganMs = performance.now()
    const settled = (async () => {
      for await (const name of store.replica.watch(stop.signal)) {
        const found = store.replica.get(name)
        if (found?.spec.state === "Running" && found.status.run?.phase === "Running")
          arrived.add(found.uid)
        if (arrived.size === count) return
      }
    })()
    // One may run before its creation has been told.
    for (let made = 0; made < count; made++)
      await store.create(`new-${made}`, { ...aSpec(0), state: "Running" })
    await Promise.race([settled, failed.promise])
    const seconds = (performance.now() - beganMs) / 1000
    stop.abort()
    await running
    database.close()
    return count / seconds
  } finally {
    stop.abort()
    await running.catch(() => {})
    rmSync(directory, { recursive: true, force: true })
  }
}

/** The baseline is the same in a store of none. */
export const reconcilePart: Part = {
  ids: ["fleet.reconcile"],
  async measure() {
    const baseline = await perSecond(started, 0)
    return [row("fleet.reconcile", "/s", await perSecond(started, 10_000), { baseline })]
  },
}
