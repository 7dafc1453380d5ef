/** The contract suites on the SQLite adapter, and what is true of a file alone. */
import { type ChildProcess, spawn } from "node:child_process"
import { once } from "node:events"
import { statSync } from "node:fs"
import {
  chmod,
  copyFile,
  mkdir,
  mkdtemp,
  open,
  readdir,
  readFile,
  rm,
  writeFile,
} from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { createInterface } from "node:readline"
import { DatabaseSync } from "node:sqlite"
import { afterEach, beforeEach, describe, expect, it } from "vitest"
import { sqliteAudit } from "../../src/adapters/sqlite/audit.ts"
import { sqliteLead } from "../../src/adapters/sqlite/lead.ts"
import { hoursKept, sqliteLedger } from "../../src/adapters/sqlite/ledger.ts"
import { settledMax, sqliteInboxMax, sqliteMailboxes } from "../../src/adapters/sqlite/mailboxes.ts"
import { migrations } from "../../src/adapters/sqlite/migrations.ts"
import { type Database, openDatabase } from "../../src/adapters/sqlite/open.ts"
import { sqliteReports } from "../../src/adapters/sqlite/reports.ts"
import { sqliteStore } from "../../src/adapters/sqlite/store.ts"
import { sqliteTimeline } from "../../src/adapters/sqlite/timeline.ts"
import { shareMax, timelineEventsMax } from "../../src/adapters/sqlite/timeline-room.ts"
import { sqliteTokens, sqliteTokensMax } from "../../src/adapters/sqlite/tokens.ts"
import { sqliteTurns } from "../../src/adapters/sqlite/turns.ts"
import type { AuditRoom } from "../../src/core/audit-port.ts"
import type { Clock } from "../../src/core/ports.ts"
import { describeAudit } from "./audit.ts"
import { expectFault } from "./expect-fault.ts"
import {
  aMail,
  aSpec,
  manualClock,
  type Open,
  type Opened,
  startMs,
  stepping,
  uid,
} from "./harness.ts"
import { describeInstances } from "./instances.ts"
import { describeLead } from "./lead.ts"
import { describeLedger } from "./ledger.ts"
import { describeMailboxes } from "./mailboxes.ts"
import { describeReports } from "./reports.ts"
import { sqlitePorts } from "./sqlite-ports.ts"
import { describeTimeline } from "./timeline.ts"
import { describeTokens } from "./tokens.ts"
import { describeTurns } from "./turns.ts"

const opener =
  <T>(port: (database: Database, clock: Clock) => T): Open<T> =>
  async (clock) => {
    const directory = await mkdtemp(join(tmpdir(), "blackbox5-"))
    const again = async (): Promise<Opened<T>> => {
      const database = await openDatabase(join(directory, "blackbox5.db"))
      return {
        port: port(database, clock),
        second: () => Promise.reject(new Error("The file belongs to one process.")),
        async reopen() {
          database.close()
          return again()
        },
        async close() {
          database.close()
          await rm(directory, { recursive: true })
        },
      }
    }
    return again()
  }

const anAudit =
  (room: AuditRoom = { keepDays: 400, megabytesMax: 256 }) =>
  (database: Database, clock: Clock) =>
    sqliteAudit(database, clock, { room: () => room, newId })
let ids = 0
const newId = (prefix: string): string => `${prefix}-${++ids}`

// One process at a time has the file: another is refused it (below), so none can be stale.
const handles = "one" as const
describeInstances("sqlite", opener(sqliteStore), { handles })
describeMailboxes("sqlite", opener(sqliteMailboxes), { inboxMax: sqliteInboxMax, handles })
describeTimeline("sqlite", opener(sqliteTimeline), { handles })
describeReports("sqlite", opener(sqliteReports), { handles })
describeTurns("sqlite", opener(sqliteTurns), { handles })
describeLedger("sqlite", opener(sqliteLedger), { handles })
describeLead("sqlite", opener(sqliteLead), { handles })
describeAudit("sqlite", opener(anAudit()), { handles })
describeTokens("sqlite", opener(sqliteTokens), { tokensMax: sqliteTokensMax, handles })

it("keeps no bearer in the file", async () => {
  const directory = await mkdtemp(join(tmpdir(), "blackbox5-"))
  const path = join(directory, "blackbox5.db")
  const database = await openDatabase(path)
  const { bearer } = await sqliteTokens(database, manualClock()).create({
    name: "ann",
    role: "admin",
  })
  database.close()
  const bytes = await readFile(path)
  expect(bytes.includes("ann")).toBe(true)
  expect(bytes.includes(bearer)).toBe(false)
  expect(bytes.includes(bearer.slice("bb5_".length))).toBe(false)
  await rm(directory, { recursive: true })
})

describe("the file", () => {
  let directory: string
  let path: string
  const opened: Database[] = []
  const openHere = async (): Promise<Database> => {
    const database = await openDatabase(path)
    opened.push(database)
    return database
  }

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), "blackbox5-"))
    path = join(directory, "blackbox5.db")
  })
  const children: { process: ChildProcess; exited: Promise<unknown> }[] = []
  afterEach(async () => {
    for (const database of opened.splice(0)) database.close()
    // One that still tries to open the file would make it again while its directory is taken away.
    for (const one of children) one.process.kill("SIGKILL")
    await Promise.all(children.splice(0).map(({ exited }) => exited))
    await rm(directory, { recursive: true, force: true })
  })

  function child(task: "hold" | "send"): {
    process: ChildProcess
    lines: AsyncIterator<string>
    exited: Promise<unknown>
  } {
    const process_ = spawn(
      process.execPath,
      [join(import.meta.dirname, "sqlite-child.ts"), path, task],
      {
        stdio: ["pipe", "pipe", "inherit"],
      },
    )
    const exited = once(process_, "exit")
    children.push({ process: process_, exited })
    const lines = createInterface({ input: process_.stdout })[Symbol.asyncIterator]()
    return { process: process_, lines, exited }
  }

  it("belongs to one process, and to the next as soon as that one is gone", async () => {
    const holder = child("hold")
    await holder.lines.next()
    await expectFault(openDatabase(path), "Unavailable", /Another process has .*blackbox5\.db open/)
    const waiting = openHere()
    holder.process.kill("SIGKILL")
    await holder.exited
    expect((await waiting).integrityCheck()).toEqual([])
  })

  it("gives one of several that start at once the file", async () => {
    const children = Array.from({ length: 3 }, () => child("hold"))
    const first = await Promise.any(
      children.map(async ({ lines }) =>
        (await lines.next()).value === "open" ? true : Promise.reject(),
      ),
    )
    expect(first).toBe(true)
  })

  it("keeps every acknowledged mail when the process is killed in the middle of writing", async () => {
    const acknowledged: string[] = []
    for (const wanted of [200, 1500]) {
      const writer = child("send")
      await writer.lines.next()
      for (let step = await writer.lines.next(); !step.done; step = await writer.lines.next()) {
        acknowledged.push(step.value)
        if (acknowledged.length === wanted) writer.process.kill("SIGKILL")
      }
      await writer.exited
      const database = await openHere()
      expect(database.integrityCheck()).toEqual([])
      const { mailboxes } = sqlitePorts(database, manualClock())
      const found = new Map<string, string>()
      for (let index = 0; index < 50; index++)
        for (const { mail, receipt } of await mailboxes.posted({
          to: uid(`u${index}`),
          limit: 1000,
        }))
          found.set(mail.id, receipt.state)
      expect(acknowledged.filter((id) => !found.has(id))).toEqual([])
      expect(
        acknowledged.filter((id) => Number(id.slice(1)) % 2 === 0 && found.get(id) !== "Delivered"),
      ).toEqual([])
      database.close()
    }
    expect(acknowledged.length).toBeGreaterThanOrEqual(1500)
  })

  it("is one file when it was closed, and closing twice is no fault", async () => {
    const database = await openHere()
    await sqliteStore(database, manualClock()).create("shop", aSpec())
    database.close()
    database.close()
    expect(await readdir(directory)).toEqual(["blackbox5.db"])
    await expectFault(sqliteLedgerRecord(database), "Unavailable", /closed/)
  })
  const sqliteLedgerRecord = async (database: Database) =>
    sqliteLedger(database, manualClock()).spentSince(0)

  it("is its owner's alone, with all beside it, whatever the umask is and whoever made it", async () => {
    const before = process.umask(0)
    try {
      const modes = async (): Promise<readonly string[]> => {
        const names = (await readdir(directory)).toSorted()
        return names.map(
          (name) => `${name} ${(statSync(join(directory, name)).mode & 0o777).toString(8)}`,
        )
      }
      const first = await openHere()
      await sqliteStore(first, manualClock()).create("shop", aSpec())
      await first.durable()
      const files = ["blackbox5.db 600", "blackbox5.db-wal 600"]
      expect(await modes()).toEqual(files)
      first.close()
      expect(await modes()).toEqual(files.slice(0, 1))
      // As an older version left it, in the middle of its work.
      const old = new DatabaseSync(path)
      old.exec("PRAGMA journal_mode = WAL; DELETE FROM term")
      for (const name of await readdir(directory)) await chmod(join(directory, name), 0o644)
      expect((await modes()).length).toBe(3)
      await copyFile(`${path}-wal`, `${path}-copy`)
      old.close()
      await copyFile(`${path}-copy`, `${path}-wal`)
      await rm(`${path}-copy`)
      await chmod(path, 0o666)
      await chmod(`${path}-wal`, 0o664)
      const again = await openHere()
      expect(await modes()).toEqual(files)
      again.prepare("VACUUM").run()
      await sqliteStore(again, manualClock()).create("other", aSpec())
      expect(await modes()).toEqual(files)
    } finally {
      process.umask(before)
    }
  })

  it("is refused, and left as it is, when it is no database", async () => {
    await writeFile(path, "this is not a database, but somebody may want it".repeat(50))
    const before = await readFile(path)
    await expectFault(openDatabase(path), "Invalid", /damaged or is no database/)
    expect(await readFile(path)).toEqual(before)
  })

  it("is refused, and left as it is, when pages of it are damaged", async () => {
    const database = await openHere()
    const store = sqliteStore(database, manualClock())
    for (let count = 0; count < 100; count++)
      await store.create(`shop-${count}`, aSpec({ goal: "x".repeat(1000) }))
    database.close()
    const file = await open(path, "r+")
    await file.write(Buffer.alloc(16_384, 0xa5), 0, 16_384, 4096 * 12)
    await file.close()
    const before = await readFile(path)
    await expectFault(openDatabase(path), "Invalid", /damaged/)
    expect(await readFile(path)).toEqual(before)
  })

  it("is refused, and left as it is, when a newer blackbox5 wrote it or it is another program's", async () => {
    const write = (sql: string): void => {
      const other = new DatabaseSync(path)
      other.exec(sql)
      other.close()
    }
    write("CREATE TABLE theirs (x); INSERT INTO theirs VALUES (1)")
    const before = await readFile(path)
    await expectFault(openDatabase(path), "Invalid", /another program/)
    expect(await readFile(path)).toEqual(before)
    write("PRAGMA user_version = 99")
    await expectFault(openDatabase(path), "Invalid", /version 99/)
  })

  it("is brought up from the first version with all that is in it", async () => {
    const old = new DatabaseSync(path)
    old.exec(migrations[0] ?? "")
    old.exec("PRAGMA user_version = 1")
    const event = {
      id: "e1",
      kind: "Exited",
      message: "The loop exited with code 1.",
      atMs: startMs,
    }
    old
      .prepare("INSERT INTO event (uid, id, body) VALUES (?, ?, ?)")
      .run("a", "e1", JSON.stringify(event))
    old.close()
    const { timeline } = sqlitePorts(await openHere(), manualClock())
    const found = [{ ...event, uid: uid("a"), cursor: "1" }]
    expect(await timeline.lastEvents({ kinds: ["Exited"], sinceMs: startMs, limit: 10 })).toEqual({
      events: found,
      cursor: "1",
    })
    expect(await timeline.lastEvents({ sinceMs: startMs + 1, limit: 10 })).toEqual({
      events: [],
      cursor: "1",
    })
  })

  it("is refused where nothing can be written", async () => {
    await writeFile(join(directory, "file"), "")
    await expectFault(
      openDatabase(join(directory, "file", "blackbox5.db")),
      "Invalid",
      /cannot be opened for writing/,
    )
    await mkdir(path)
    await expectFault(openDatabase(path), "Invalid", /cannot be opened for writing/)
  })

  it("says that the disk is full, and then holds and tells nothing that is not in it", async () => {
    const database = await openHere()
    const store = sqliteStore(database, manualClock())
    const { mailboxes } = sqlitePorts(database, manualClock())
    database.prepare("PRAGMA max_page_count = 1").get() // no page more than there are
    const stop = new AbortController()
    const big = "x".repeat(16_000)
    const written: string[] = []
    const failed = async (): Promise<void> => {
      for (let count = 0; ; count++) {
        await store.create(`shop-${count}`, aSpec({ goal: big }))
        written.push(`shop-${count}`)
      }
    }
    await expectFault(failed(), "Unavailable", /full/)
    await expectFault(mailboxes.send(uid("a"), aMail("1", { text: big })), "Unavailable", /full/)
    expect([...store.replica.snapshot().values()].map(({ name }) => name)).toEqual(written)
    database.prepare("PRAGMA max_page_count = 100000").get()
    expect(await mailboxes.send(uid("a"), aMail("1"))).toBe("Accepted")
    expect((await stepping(mailboxes.inbox(uid("a"), stop.signal)).next()).id).toBe("1")
    stop.abort()
  })

  it("names the instance that it cannot read, and deletes nothing", async () => {
    const database = await openHere()
    await sqliteStore(database, manualClock()).create("shop", aSpec())
    database.write(() => database.prepare("UPDATE instance SET spec = '{}'").run())
    expect(() => sqliteStore(database, manualClock())).toThrow(
      /"shop" that this blackbox5 cannot read/,
    )
    expect(database.read(() => database.prepare("SELECT name FROM instance").all())).toHaveLength(1)
  })

  it("can be copied after it was closed", async () => {
    const database = await openHere()
    const shop = await sqliteStore(database, manualClock()).create("shop", aSpec())
    database.close()
    await copyFile(path, `${path}.copy`)
    await rm(path)
    await copyFile(`${path}.copy`, path)
    expect(sqliteStore(await openHere(), manualClock()).replica.get("shop")).toEqual(shop)
  })

  describe("bounds", () => {
    it("keeps the newest settled mail of an address, and all that waits", async () => {
      const { mailboxes } = sqlitePorts(await openHere(), manualClock())
      await mailboxes.send(uid("a"), aMail("waits"))
      for (let count = 0; count < settledMax + 10; count++) {
        await mailboxes.send(uid("a"), aMail(`m${count}`))
        await mailboxes.receipt(uid("a"), { mail: `m${count}`, state: "Delivered" })
      }
      const kept = await mailboxes.posted({
        mails: ["waits", "m9", "m10", `m${settledMax + 9}`],
        limit: 10,
      })
      expect(kept.map(({ mail }) => mail.id)).toEqual([`m${settledMax + 9}`, "m10", "waits"])
    }, 30_000)

    it("keeps the newest events, and says of an older cursor that what followed it is gone", async () => {
      const database = await openHere()
      const { timeline } = sqlitePorts(database, manualClock())
      const event = (id: string) => ({ id, kind: "Warning" as const, message: id, atMs: startMs })
      await timeline.append(event("first"))
      const filling = database.prepare(
        `WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers LIMIT ?)
         INSERT INTO event (uid, id, body, kind, at_ms, share)
         SELECT 'u' || (n / 4000), 'filled-' || n, json_set(body, '$.id', 'filled-' || n), kind, at_ms, share
         FROM numbers, event WHERE cursor = 1`,
      )
      database.write(() => filling.run(timelineEventsMax - 1))
      const ids = async (after: string) =>
        (await timeline.events({ after, limit: 2, waitMs: 0 })).events.map(({ id }) => id)
      expect(await ids("")).toEqual(["first", "filled-1"])
      await timeline.append(event("second"))
      expect(await ids("")).toEqual(["filled-1", "filled-2"])
      // Nothing but the event of the cursor itself is gone.
      expect(await ids("1")).toEqual(["filled-1", "filled-2"])
      await timeline.append(event("third"))
      await expectFault(ids("1"), "NotFound", /events after 1 are gone/)
      expect(await ids(String(timelineEventsMax))).toEqual(["second", "third"])
      await expectFault(
        timeline.events({ after: String(timelineEventsMax + 3), limit: 10, waitMs: 0 }),
        "Invalid",
        /Invalid cursor/,
      )
    }, 60_000)

    it("keeps the newest of what one instance tells, and of what is told of it, and all that others have", async () => {
      const database = await openHere()
      const { timeline } = sqlitePorts(database, manualClock())
      const tell = (of: string, id: string, kind: "Warning" | "Exited" = "Warning") =>
        timeline.append({ uid: uid(of), id, kind, message: id, atMs: startMs })
      await tell("calm", "first")
      await tell("loud", "exit-1", "Exited")
      for (let count = 0; count < shareMax + 100; count++) await tell("loud", `w-${count}`)
      const last = async (of: string) =>
        (await timeline.lastEvents({ uids: [uid(of)], kinds: ["Exited", "Warning"], limit: 1000 }))
          .events
      expect((await last("calm")).map(({ id }) => id)).toEqual(["first"])
      expect(
        (
          await timeline.lastEvents({ uids: [uid("loud")], kinds: ["Exited"], limit: 9 })
        ).events.map(({ id }) => id),
      ).toEqual(["exit-1"])
      const count = database.prepare(
        "SELECT count(*) AS count, min(cursor) AS first FROM event WHERE uid = 'loud' AND kind = 'Warning'",
      )
      expect(count.get()).toEqual({ count: shareMax, first: 103 })
      expect(database.prepare("SELECT * FROM event_count ORDER BY uid, share").all()).toEqual([
        { uid: "", share: "", events: shareMax + 2 },
        { uid: "calm", share: "told", events: 1 },
        { uid: "loud", share: "told", events: shareMax },
        { uid: "loud", share: "witnessed", events: 1 },
      ])
    }, 60_000)

    it("keeps the newest events of each instance in memory while the disk is full", async () => {
      const database = await openHere()
      const { timeline } = sqlitePorts(database, manualClock())
      const tell = (of: string, id: string) =>
        timeline.append({
          uid: uid(of),
          id,
          kind: "Changed",
          message: "x".repeat(3000),
          atMs: startMs,
        })
      await tell("loud", "first")
      database.prepare("PRAGMA max_page_count = 1").get()
      for (let count = 0; count < 400; count++) {
        await tell("loud", `loud-${count}`)
        if (count % 100 === 0) await tell("calm", `calm-${count}`)
      }
      database.prepare("PRAGMA max_page_count = 100000").get()
      await tell("calm", "last")
      const idsOf = async (of: string) =>
        (await timeline.lastEvents({ uids: [uid(of)], limit: 1000 })).events.map(({ id }) => id)
      expect(await idsOf("calm")).toEqual(["last", "calm-300", "calm-200", "calm-100", "calm-0"])
      const loud = await idsOf("loud")
      expect(loud.slice(0, 100)).toEqual(
        Array.from({ length: 100 }, (_, count) => `loud-${399 - count}`),
      )
      expect(loud.length).toBeLessThan(110)
    }, 30_000)

    it("forgets the hours of long ago, and never a sum", async () => {
      const clock = manualClock()
      const ledger = sqliteLedger(await openHere(), clock)
      const used = { usd: 1, tokens: 1, iterations: 1, ms: 1 }
      await ledger.record(uid("a"), "p1", used)
      clock.advance(hoursKept * 3_600_000)
      await ledger.record(uid("b"), "p1", used)
      expect(await ledger.spentSince(0)).toEqual(used)
      expect(ledger.accounts.snapshot().size).toBe(2)
    })

    it("lists ten thousand instances without the disk", async () => {
      const database = await openHere()
      const store = sqliteStore(database, manualClock())
      for (let count = 0; count < 10_000; count++) await store.create(`shop-${count}`, aSpec())
      database.close()
      expect(store.replica.snapshot().size).toBe(10_000)
    }, 30_000)
  })
})
