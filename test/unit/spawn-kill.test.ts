import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterEach, beforeEach, describe, expect, it } from "vitest"
import { sqliteLedger } from "../../src/adapters/sqlite/ledger.ts"
import { sqliteMailboxes } from "../../src/adapters/sqlite/mailboxes.ts"
import { type Database, openDatabase } from "../../src/adapters/sqlite/open.ts"
import { sqliteReports } from "../../src/adapters/sqlite/reports.ts"
import { sqliteStore } from "../../src/adapters/sqlite/store.ts"
import { sqliteTimeline } from "../../src/adapters/sqlite/timeline.ts"
import { sqliteTurns } from "../../src/adapters/sqlite/turns.ts"
import { Fault } from "../../src/core/faults.ts"
import type { Instance } from "../../src/core/instance.ts"
import type { Principal } from "../../src/core/principal.ts"
import { manualClock } from "../contract/harness.ts"
import { callsOver, instantRuntime, type PlanePorts, settle } from "./control-plane.ts"

/**
 * The way from a spawn to a running loop, cut at every write: the next control plane and a repeat
 * of the call end in the same state as if nothing had happened.
 */

let directory: string
let databases: Database[] = []
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "bb5-spawn-kill-"))
})
afterEach(() => {
  for (const database of databases) database.close()
  databases = []
  rmSync(directory, { recursive: true })
})

const ann: Principal = { kind: "human", id: "ann", role: "operator" }
const agent = ({ name, uid, spec }: Instance): Principal => ({
  kind: "instance",
  id: name,
  uid,
  lineage: spec.lineage,
})

const writes: ReadonlySet<string> = new Set([
  "store.create",
  "store.updateSpec",
  "store.updateStatus",
  "store.delete",
  "store.release",
  "timeline.append",
  "ledger.open",
  "ledger.record",
  "turns.set",
  "mailboxes.send",
  "mailboxes.returnAll",
  "runtime.start",
  "runtime.stop",
  "runtime.clean",
])

class Killed extends Error {}
/** These ports until the process dies: before its write of that number, which counts from 0. */
function mortal(ports: PlanePorts, diesAt: number) {
  const log: string[] = []
  let isDead = false
  const mortalPort = <T extends object>(of: string, port: T): T =>
    new Proxy(port, {
      get(target, key) {
        const value: unknown = Reflect.get(target, key)
        const call = `${of}.${String(key)}`
        if (typeof value !== "function" || !writes.has(call)) return value
        return async (...args: unknown[]): Promise<unknown> => {
          if (log.length === diesAt) isDead = true
          if (isDead) throw new Killed(call)
          log.push(call)
          return Reflect.apply(value, target, args)
        }
      },
    })
  const living: PlanePorts = {
    store: mortalPort("store", ports.store),
    mailboxes: mortalPort("mailboxes", ports.mailboxes),
    timeline: mortalPort("timeline", ports.timeline),
    reports: ports.reports,
    turns: mortalPort("turns", ports.turns),
    ledger: mortalPort("ledger", ports.ledger),
    runtime: mortalPort("runtime", ports.runtime),
    clock: ports.clock,
  }
  return { living, log }
}

/** A person spawns an agent, which spawns another; in the end the child is through. */
async function story(diesAt: number) {
  const path = join(directory, `db-${diesAt}`)
  const clock = manualClock()
  const { runtime, runs, starts, exit } = instantRuntime(clock)
  /** As a control plane opens them when it starts. */
  const open = async (): Promise<PlanePorts> => {
    for (const database of databases) database.close()
    const database = await openDatabase(path)
    databases = [database]
    return {
      store: sqliteStore(database, clock),
      mailboxes: sqliteMailboxes(database),
      timeline: sqliteTimeline(database, clock),
      reports: sqliteReports(database, clock),
      turns: sqliteTurns(database),
      ledger: sqliteLedger(database, clock),
      runtime,
      clock,
    }
  }
  const live = async (ports: PlanePorts, term: number): Promise<void> => {
    const call = callsOver(ports)
    const names = () => runs.keys()
    const settled = () => settle(ports, term, names, () => stateOf(ports))
    await call(ann, "spawn_instance", { goal: "Build it.", idempotencyKey: "key-a" })
    await settled()
    const parent = ports.store.replica.get("shop-key-a")
    if (!parent) throw new Error("The agent is not there.")
    await call(agent(parent), "spawn_instance", { goal: "Help.", idempotencyKey: "key-b" })
    await settled()
    exit("shop-key-a--key-b", "Complete")
    await settled()
  }
  const stateOf = async (ports: PlanePorts) => {
    const [instances, accounts, { events }, mails] = await Promise.all([
      [...ports.store.replica.snapshot().values()],
      ports.ledger.accounts.snapshot(),
      ports.timeline.lastEvents({ limit: 500 }),
      ports.mailboxes.posted({ limit: 500 }),
    ])
    const nameOfUid = new Map(instances.map(({ uid, name }) => [String(uid), name]))
    const state = {
      instances: instances.map(({ name, spec, status }) => ({ name, spec, status })),
      accounts: [...accounts].toSorted(
        ([, a], [, b]) => (a.birth?.rank ?? 0) - (b.birth?.rank ?? 0),
      ),
      events: events
        .map(({ uid = "", id, kind, message }) => [nameOfUid.get(uid) ?? uid, id, kind, message])
        .toSorted((a, b) => (a.join(" ") < b.join(" ") ? -1 : 1)),
      mails: mails.map(({ to, mail, receipt }) => [to, mail.id, mail.text, receipt.state]),
      runs: [...runs],
    }
    // Uids differ from story to story, and so does who led.
    return JSON.parse(JSON.stringify(state), (key, value: unknown) => {
      if (key === "term") return undefined
      return typeof value === "string" ? (nameOfUid.get(value) ?? value) : value
    })
  }
  const { living, log } = mortal(await open(), diesAt)
  await live(living, 1).catch((error: unknown) => {
    const cause = error instanceof Fault ? error.cause : error
    if (!(cause instanceof Killed)) throw error
  })
  // The next one, and whoever called repeats the calls.
  const ports = await open()
  await live(ports, 2)
  return { state: await stateOf(ports), starts, log }
}

describe("a spawn", () => {
  it("ends in the same state wherever the control plane dies on the way", async () => {
    const whole = await story(Number.POSITIVE_INFINITY)
    expect(whole.starts).toEqual(["shop-key-a 1 m-1", "shop-key-a--key-b 1 m-1"])
    expect(whole.state.accounts.map(([name, { birth }]: [string, never]) => [name, birth])).toEqual(
      [
        [
          "shop-key-a",
          expect.objectContaining({
            rank: 1,
            defaults: {
              budget: { usd: 8, iterations: 40 },
              children: { depth: 2, total: 3, running: 2 },
              model: "m-1",
            },
          }),
        ],
        ["shop-key-a--key-b", expect.objectContaining({ rank: 2, lineage: ["shop-key-a"] })],
      ],
    )
    expect(whole.state.events.map(([of, , kind]: string[]) => `${of} ${kind}`)).toEqual([
      "shop-key-a Spawned",
      "shop-key-a Started",
      "shop-key-a--key-b Exited",
      "shop-key-a--key-b Spawned",
      "shop-key-a--key-b Started",
    ])
    expect(whole.log.length).toBeGreaterThan(12)
    for (let diesAt = 0; diesAt < whole.log.length; diesAt++) {
      const { state, starts, log } = await story(diesAt)
      expect(log, "it dies there").toHaveLength(diesAt)
      expect(starts, `killed before write ${diesAt}, ${whole.log[diesAt]}`).toEqual(whole.starts)
      expect(state, `killed before write ${diesAt}, ${whole.log[diesAt]}`).toEqual(whole.state)
    }
  })
})
