/** What must hold of every audit. */
import { afterEach, beforeEach, describe, expect, it } from "vitest"
import { auditEntryOf } from "../../src/core/audit.ts"
import type { Audit, AuditPage } from "../../src/core/audit-port.ts"
import { Fault } from "../../src/core/faults.ts"
import type { Principal } from "../../src/core/principal.ts"
import { expectFault } from "./expect-fault.ts"
import { type ManualClock, manualClock, type Open, type Opened, startMs, uid } from "./harness.ts"

const root: Principal = { kind: "human", id: "root", role: "admin" }
const ann: Principal = { kind: "human", id: "ann", role: "operator" }
const fox: Principal = { kind: "instance", id: "fox", uid: uid("u-fox"), lineage: [] }
const forbidden = new Fault("Forbidden", "It is not yours.", "Ask.")

/** One change by `who`, or with a fault one refusal. */
const entry = (who: Principal, on: string, fault?: Fault, tool = "stop_instances") =>
  auditEntryOf({ who, tool, on: [on], fault })

export function describeAudit(
  name: string,
  open: Open<Audit>,
  { handles }: { handles: "one" | "several" },
): void {
  describe(`Audit: ${name}`, () => {
    let opened: Opened<Audit>
    let audit: Audit
    let clock: ManualClock
    const reopen = async (): Promise<void> => {
      opened = await opened.reopen()
      audit = opened.port
    }
    const on = ({ records }: AuditPage) => records.map((one) => one.on.join())
    const all = async (query: Partial<Parameters<Audit["last"]>[0]> = {}) =>
      on(await audit.last({ limit: 1000, ...query }))

    beforeEach(async () => {
      clock = manualClock()
      opened = await open(clock)
      audit = opened.port
    })
    afterEach(() => opened.close())

    it("keeps what each call was, over restarts too, newest first", async () => {
      await audit.append(
        auditEntryOf({
          who: ann,
          tool: "pause_instances",
          on: ["a", "b"],
          flags: ["dryRun"],
          made: ["b-1"],
        }),
      )
      clock.advance(1000)
      await audit.append(entry(fox, "\u0000é\n🦊", forbidden))
      await reopen()
      const { records, more } = await audit.last({ limit: 10 })
      const times = (atMs: number) => ({ atMs, lastAtMs: atMs, count: 1, isSum: false })
      const kept = { id: expect.any(String), cursor: expect.any(String) }
      expect([records, more]).toEqual([
        [
          {
            ...{
              ...kept,
              ...times(startMs + 1000),
              who: "instance fox",
              tool: "stop_instances",
              on: ["é 🦊"],
            },
            ...{ verdict: "Forbidden", why: "It is not yours." },
          },
          {
            ...{
              ...kept,
              ...times(startMs),
              who: "operator ann",
              tool: "pause_instances",
              on: ["a", "b"],
            },
            ...{ flags: ["dryRun"], made: ["b-1"], verdict: "done" },
          },
        ],
        false,
      ])
    })

    it("finds by a part of the name, by tool, refusals and time, in both directions, page by page", async () => {
      for (let count = 0; count < 6; count++) {
        await audit.append(
          entry(count % 2 === 0 ? ann : fox, `on-${count}`, count > 3 ? forbidden : undefined),
        )
        clock.advance(1000)
      }
      await audit.append(entry(root, "last", undefined, "create_token"))
      expect(await all({ who: "ann" })).toEqual(["on-4", "on-2", "on-0"])
      expect(await all({ who: "%" })).toEqual([])
      expect(await all({ tool: "create_token" })).toEqual(["last"])
      expect(await all({ refused: true })).toEqual(["on-5", "on-4"])
      expect(await all({ sinceMs: startMs + 5000, who: "fox" })).toEqual(["on-5"])
      expect(await all({ sinceMs: startMs + 9000 })).toEqual([])
      const first = await audit.last({ limit: 2 })
      expect([on(first), first.more]).toEqual([["last", "on-5"], true])
      expect(await all({ before: first.cursor, who: "fox" })).toEqual(["on-3", "on-1"])
      const oldest = await audit.following({ after: "", limit: 5, who: "o" })
      expect([on(oldest), oldest.more]).toEqual([["on-0", "on-1", "on-2", "on-3", "on-4"], true])
      const rest = await audit.following({ after: oldest.cursor, limit: 5 })
      expect([on(rest), rest.more]).toEqual([["on-5", "last"], false])
      await audit.append(entry(ann, "new"))
      expect(on(await audit.following({ after: rest.cursor, limit: 5 }))).toEqual(["new"])
      for (const after of ["x", "-1", "1 OR 1", "999999"])
        await expectFault(audit.following({ after, limit: 1 }), "Invalid", /Invalid cursor/)
    })

    it("counts equal calls within a minute in one record, which an export meets again", async () => {
      await audit.append(entry(fox, "hen", forbidden))
      const { cursor, records } = await audit.following({ after: "", limit: 9 })
      for (let count = 0; count < 11; count++) {
        clock.advance(5000)
        await audit.append(
          entry(fox, "hen", new Fault("Forbidden", `Other words ${count}.`, "Ask.")),
        )
        await audit.append(entry(ann, `a-${count}`))
      }
      const again = await audit.following({ after: cursor, limit: 100, who: "fox" })
      expect(again.records).toMatchObject([
        {
          id: records[0]?.id,
          count: 12,
          atMs: startMs,
          lastAtMs: startMs + 55_000,
          why: "It is not yours.",
        },
      ])
      clock.advance(5000)
      await audit.append(entry(fox, "hen", forbidden))
      await audit.append(entry(fox, "hen"))
      await audit.append(entry(fox, "other", forbidden))
      const counts = (await audit.last({ limit: 4 })).records.map((one) => [
        one.on[0],
        one.verdict,
        one.count,
      ])
      expect(counts.slice(0, 3)).toEqual([
        ["other", "Forbidden", 1],
        ["hen", "done", 1],
        ["hen", "Forbidden", 1],
      ])
    })

    it("records a day's share of each caller one by one, and then only counts, by tool and verdict", async () => {
      for (let count = 0; count < 1500; count++)
        await audit.append(entry(fox, `refused-${count}`, forbidden))
      for (let count = 0; count < 2100; count++) await audit.append(entry(fox, `done-${count}`))
      await audit.append(entry(fox, "pause", undefined, "pause_instances"))
      const sums = (await audit.last({ limit: 1000 })).records.filter(({ isSum }) => isSum)
      expect(sums.map(({ on, verdict, count }) => ({ on, verdict, count }))).toEqual([
        { on: [], verdict: "done", count: 100 },
      ])
      const refused = await audit.last({ limit: 1000, refused: true })
      expect(refused.records.slice(0, 2)).toMatchObject([
        { isSum: true, count: 500, on: [] },
        { isSum: false, on: ["refused-999"] },
      ])
      expect(await all({ tool: "pause_instances" })).toEqual(["pause"])
      clock.advance(86_400_000)
      await audit.append(entry(fox, "tomorrow", forbidden))
      expect((await all({ refused: true })).slice(0, 1)).toEqual(["tomorrow"])
    })

    if (handles === "several")
      it("counts in one record what both handles append, by the backend's clock", async () => {
        const { port: other } = await opened.second()
        await audit.append(entry(fox, "hen", forbidden))
        await other.append(entry(fox, "hen", forbidden))
        const { records } = await other.last({ limit: 9 })
        expect(records).toMatchObject([{ count: 2, atMs: startMs, lastAtMs: startMs }])
        expect((await audit.last({ limit: 9 })).records).toEqual(records)
      })
  })
}
