/**
 * How much the audit keeps in a file, of whom, and what it takes over from the timeline of before.
 */
import { mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { DatabaseSync } from "node:sqlite"
import { afterEach, beforeEach, describe, expect, it } from "vitest"
import { sqliteAudit } from "../../src/adapters/sqlite/audit.ts"
import { migrations } from "../../src/adapters/sqlite/migrations.ts"
import { type Database, openDatabase } from "../../src/adapters/sqlite/open.ts"
import { auditEntryOf } from "../../src/core/audit.ts"
import type { Audit, AuditRoom } from "../../src/core/audit-port.ts"
import { Fault } from "../../src/core/faults.ts"
import type { Principal } from "../../src/core/principal.ts"
import { manualClock, startMs, uid } from "./harness.ts"
import { sqlitePorts } from "./sqlite-ports.ts"

const dayMs = 86_400_000
const root: Principal = { kind: "human", id: "root", role: "admin" }
const ann: Principal = { kind: "human", id: "ann", role: "operator" }
const eve: Principal = { kind: "human", id: "eve", role: "viewer" }
const agent = (id: string, ...above: string[]): Principal => ({
  ...{ kind: "instance", id, uid: uid(`u-${id}`) },
  lineage: above.map((one) => uid(`u-${one}`)),
})
const forbidden = new Fault("Forbidden", "It is not yours.", "Ask.")
const entry = (who: Principal, on: string, fault?: Fault) =>
  auditEntryOf({ who, tool: "stop_instances", on: [on], fault })

let directory: string
let database: Database
const clock = manualClock()
let room: AuditRoom
let audit: Audit
let ids = 0
const openAudit = async (): Promise<void> => {
  database = await openDatabase(join(directory, "blackbox5.db"))
  audit = sqliteAudit(database, clock, {
    room: () => room,
    newId: (prefix) => `${prefix}-${++ids}`,
  })
}
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "blackbox5-"))
  room = { keepDays: 400, megabytesMax: 0.5 }
})
afterEach(async () => {
  database.close()
  await rm(directory, { recursive: true })
})
const countOf = async (who: string): Promise<number> => {
  let count = 0
  for (let before: string | undefined; ; ) {
    const page = await audit.last({ who, limit: 1000, ...(before !== undefined && { before }) })
    count += page.records.length
    if (!page.more) return count
    before = page.cursor
  }
}
const bytesKept = (): number =>
  Number(
    database.read(() =>
      database.prepare("SELECT coalesce(sum(bytes), 0) AS bytes FROM audit").get(),
    )?.bytes,
  )

describe("the room of the audit", () => {
  it("is filled by nobody at others' cost: not by an agent, its children, or a person", async () => {
    await openAudit()
    for (let count = 0; count < 100; count++) {
      for (const who of [ann, root, agent("quiet")])
        await audit.append(entry(who, `first-${count}`))
      await audit.append(entry(eve, `first-${count}`, forbidden))
    }
    await audit.append(entry(agent("fox"), "the one change of the fox"))
    // Days of calls, none like another, by an agent and all it can spawn, and by somebody who only
    // looks.
    const names = "x".repeat(60)
    for (let day = 0; day < 4; day++) {
      for (let count = 0; count < 250; count++) {
        await audit.append(
          entry(agent(`cub-${count % 20}`, "fox"), `${names}-${day}-${count}`, forbidden),
        )
        await audit.append(
          entry(
            { kind: "human", id: "mallory", role: "viewer" },
            `${names}-${day}-${count}`,
            forbidden,
          ),
        )
        await audit.append(entry(agent(`kit-${count % 20}`, "wolf"), `${names}-${day}-${count}`))
      }
      clock.advance(dayMs)
    }
    expect(await countOf("instance cub")).toBeLessThan(1000)
    expect(await countOf("instance kit")).toBeLessThan(1000)
    for (const who of ["operator ann", "admin root", "instance quiet", "viewer eve"])
      expect([who, await countOf(who)]).toEqual([who, 100])
    expect(await countOf("instance fox")).toBe(1)
    expect(bytesKept()).toBeLessThan(550_000)
    expect(database.integrityCheck()).toEqual([])
  }, 120_000)

  it("lets the oldest go by age, also while nobody calls, in steps", async () => {
    await openAudit()
    for (let count = 0; count < 600; count++) await audit.append(entry(root, `old-${count}`))
    clock.advance(399 * dayMs)
    await audit.append(entry(root, "young"))
    expect(await countOf("root")).toBe(601)
    clock.advance(dayMs + 1)
    expect([await audit.trim(), await countOf("root")]).toEqual([true, 101])
    while (await audit.trim());
    expect((await audit.last({ limit: 10 })).records.map(({ on }) => on[0])).toEqual(["young"])
  }, 60_000)

  it("shrinks when the policy asks for less", async () => {
    await openAudit()
    for (let count = 0; count < 1200; count++)
      await audit.append(entry(ann, `${"x".repeat(90)}-${count}`))
    const before = bytesKept()
    room = { keepDays: 400, megabytesMax: 0.2 }
    while (await audit.trim());
    expect([before > 200_000, bytesKept() <= 0.1 * 1_048_576]).toEqual([true, true])
    expect((await audit.last({ limit: 1 })).records[0]?.on[0]).toMatch(/-1199$/)
  }, 60_000)
})

it("waits in memory while the disk is full: all that people changed, and no flood", async () => {
  await openAudit()
  await audit.append(entry(root, "before"))
  database.prepare("PRAGMA max_page_count = 1").get() // no page more than there are
  const full = "x".repeat(90)
  for (let count = 0; count < 1000; count++) {
    await audit.append(entry(agent("fox"), `${full}-${count}`, forbidden))
    if (count % 100 === 0) await audit.append(entry(ann, `${full}-${count}`))
  }
  // The first may have found room in a page that was there.
  expect(database.shortage()?.held).toBeGreaterThan(8)
  database.prepare("PRAGMA max_page_count = 100000").get()
  await audit.append(entry(root, "after"))
  expect([await countOf("admin root"), await countOf("operator ann")]).toEqual([2, 10])
  const kept = await audit.last({ who: "fox", limit: 1000 })
  expect(kept.records.length).toBeGreaterThanOrEqual(100)
  expect(kept.records.length).toBeLessThan(300)
  expect(kept.records[0]?.on[0]).toMatch(/-999$/)
})

it("takes over the calls that the timeline of before held, and leaves the other events there", async () => {
  const old = new DatabaseSync(join(directory, "blackbox5.db"))
  for (const migration of migrations.slice(0, 4)) old.exec(migration)
  old.exec("PRAGMA user_version = 4")
  const put = (id: string, kind: string, more: object): void => {
    const body = JSON.stringify({ id, kind, atMs: startMs + Number(id), ...more })
    old
      .prepare("INSERT INTO event (uid, id, body, kind, at_ms) VALUES ('', ?, ?, ?, ?)")
      .run(id, body, kind, startMs + Number(id))
  }
  const [who, tool] = ["operator Ann: Forbidden, Lee (oidc:7c1f)", "stop_instances"]
  const refusal = `${who} called ${tool} on b: Invalid, names: Unrecognized key: "é"`
  put("1", "Audit", {
    message: "operator ann called t: done",
    called: { who: "operator ann", tool: "t", on: [], verdict: "done" },
  })
  put("2", "Exited", { message: "The loop exited." })
  put("3", "Audit", {
    message: refusal,
    called: { who, tool, on: ["b"], flags: ["remove"], verdict: "Invalid" },
  })
  put("4", "Audit", {
    message: "instance fox called pause_instances on kid, which made b-1: done",
    called: {
      who: "instance fox",
      tool: "pause_instances",
      on: ["kid"],
      made: ["b-1"],
      verdict: "done",
    },
  })
  put("5", "Audit", { message: "operator ann called stop_instances on shop-1: done" })
  old.close()
  await openAudit()
  const { records } = await audit.following({ after: "", limit: 10 })
  const once = (id: string) => ({
    id,
    atMs: startMs + Number(id),
    lastAtMs: startMs + Number(id),
    count: 1,
    isSum: false,
  })
  expect(records.map(({ cursor: _, ...one }) => one)).toEqual([
    { ...once("1"), who: "operator ann", tool: "t", on: [], verdict: "done" },
    {
      ...once("3"),
      who,
      tool,
      on: ["b"],
      flags: ["remove"],
      verdict: "Invalid",
      why: 'names: Unrecognized key: "é"',
    },
    {
      ...once("4"),
      who: "instance fox",
      tool: "pause_instances",
      on: ["kid"],
      made: ["b-1"],
      verdict: "done",
    },
    {
      ...once("5"),
      who: "unknown",
      tool: "unknown",
      on: ["operator ann called stop_instances on shop-1: done"],
      verdict: "done",
    },
  ])
  const { timeline } = sqlitePorts(database, clock)
  expect((await timeline.lastEvents({ limit: 10 })).events.map(({ kind }) => kind)).toEqual([
    "Exited",
  ])
  room = { keepDays: 1e-9, megabytesMax: 1 }
  clock.advance(1000)
  await audit.trim()
  const left = ["audit", "audit_holder"].map(
    (table) => database.prepare(`SELECT count(*) AS count FROM ${table}`).get()?.count,
  )
  expect(left).toEqual([0, 0])
})
