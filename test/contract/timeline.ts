/** What must hold of every Timeline. */
import { afterEach, beforeEach, describe, expect, it } from "vitest"
import type { Timeline } from "../../src/core/ports.ts"
import { expectFault } from "./expect-fault.ts"
import { type ManualClock, manualClock, type Open, type Opened, startMs, uid } from "./harness.ts"

const [a, b] = [uid("a"), uid("b")]
const anEvent = (id: string, more: Partial<Parameters<Timeline["append"]>[0]> = {}) => ({
  id,
  kind: "Warning" as const,
  message: `message of ${id}`,
  atMs: startMs,
  ...more,
})
/** Whatever a call does before it waits is done. */
const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

export function describeTimeline(
  name: string,
  open: Open<Timeline>,
  { handles }: { handles: "one" | "several" },
): void {
  describe(`Timeline: ${name}`, () => {
    let clock: ManualClock
    let opened: Opened<Timeline>
    let timeline: Timeline
    let stop: AbortController
    const reopen = async (): Promise<void> => {
      opened = await opened.reopen()
      timeline = opened.port
    }

    beforeEach(async () => {
      clock = manualClock()
      opened = await open(clock)
      timeline = opened.port
      stop = new AbortController()
    })
    afterEach(async () => {
      stop.abort()
      await opened.close()
    })

    const read = async (
      query: Partial<Parameters<Timeline["events"]>[0]> = {},
      signal?: AbortSignal,
    ) =>
      (await timeline.events({ after: "", limit: 100, waitMs: 0, ...query }, signal)).events.map(
        ({ id }) => id,
      )

    it("gives them in order, with cursors to go on from", async () => {
      for (const id of ["1", "2", "3"]) await timeline.append(anEvent(id, { uid: a }))
      const {
        events: [first, ...rest],
        cursor,
      } = await timeline.events({ after: "", limit: 100, waitMs: 0 })
      expect(cursor).toBe(rest.at(-1)?.cursor)
      expect(first).toEqual({ ...anEvent("1", { uid: a }), cursor: expect.any(String) })
      expect(rest.map(({ id }) => id)).toEqual(["2", "3"])
      expect(await read({ after: first?.cursor ?? "" })).toEqual(["2", "3"])
      expect(await read({ limit: 2 })).toEqual(["1", "2"])
      expect(await read({ after: "$" })).toEqual([])
      await reopen()
      expect(await read({ after: first?.cursor ?? "" })).toEqual(["2", "3"])
    })

    it("counts a repeat once, also over a restart", async () => {
      await timeline.append(anEvent("1", { uid: a }))
      await timeline.append(anEvent("1", { uid: a }))
      await reopen()
      await timeline.append(anEvent("1", { uid: a }))
      expect(await read()).toEqual(["1"])
    })

    it("lets no instance swallow another's event by its id", async () => {
      for (const of of [{ uid: a }, { uid: b }, {}]) await timeline.append(anEvent("1", of))
      expect(await read()).toEqual(["1", "1", "1"])
    })

    it("tells those of one instance, and those of the fleet without a uid", async () => {
      await timeline.append(anEvent("1", { uid: a }))
      await timeline.append(anEvent("2", { uid: b }))
      await timeline.append(anEvent("3"))
      expect(await read({ uids: [a] })).toEqual(["1"])
      expect(
        (await timeline.events({ after: "", limit: 9, waitMs: 0 })).events.map(
          (event) => event.uid,
        ),
      ).toEqual([a, b, undefined])
    })

    it("tells those of several instances, and of some kinds", async () => {
      const c = uid("c")
      await timeline.append(anEvent("1", { uid: a }))
      await timeline.append(anEvent("2", { uid: b, kind: "Exited", outcome: "Failed" }))
      await timeline.append(anEvent("3", { uid: c, kind: "Exited" }))
      await timeline.append(anEvent("4", { kind: "Changed" }))
      expect(await read({ uids: [a, c] })).toEqual(["1", "3"])
      expect(await read({ kinds: ["Exited", "Changed"] })).toEqual(["2", "3", "4"])
      expect(await read({ uids: [a, b], kinds: ["Exited"] })).toEqual(["2"])
      expect(await read({ uids: [] })).toEqual([])
      const { events } = await timeline.events({
        after: "",
        kinds: ["Exited"],
        limit: 1,
        waitMs: 0,
      })
      expect(events).toEqual([
        {
          ...anEvent("2", { uid: b, kind: "Exited", outcome: "Failed" }),
          cursor: expect.any(String),
        },
      ])
    })

    it("gives a cursor to go on from also where nothing is found, and then misses nothing", async () => {
      await timeline.append(anEvent("1", { uid: a }))
      const ends = [
        await timeline.events({ after: "$", limit: 9, waitMs: 0 }),
        await timeline.events({ after: "", uids: [b], limit: 9, waitMs: 0 }),
        await timeline.events({ after: "", kinds: ["Changed"], limit: 9, waitMs: 0 }),
      ]
      const waited = timeline.events({ after: "$", limit: 9, waitMs: 60_000 })
      await settled() // whatever it does before it waits is done
      clock.advance(60_000)
      const aborted = timeline.events({ after: "$", limit: 9, waitMs: 60_000 }, stop.signal)
      stop.abort()
      for (const end of [...ends, await waited, await aborted]) expect(end.events).toEqual([])
      await timeline.append(anEvent("2", { uid: b }))
      for (const { cursor } of [...ends, await waited, await aborted])
        expect(await read({ after: cursor })).toEqual(["2"])
    })

    it("tells the last ones, newest first, by instance, kind and time, and those before a cursor", async () => {
      const last = async (query: Partial<Parameters<Timeline["lastEvents"]>[0]> = {}) =>
        (await timeline.lastEvents({ limit: 100, ...query })).events.map(({ id }) => id)
      expect(await last()).toEqual([])
      for (const [index, of] of [a, b, a, b].entries())
        await timeline.append(
          anEvent(`${index + 1}`, {
            uid: of,
            kind: index < 2 ? "Warning" : "Exited",
            atMs: startMs + index,
          }),
        )
      await timeline.append(anEvent("5", { kind: "Changed", atMs: startMs + 4 }))
      expect(await last()).toEqual(["5", "4", "3", "2", "1"])
      expect(await last({ limit: 2 })).toEqual(["5", "4"])
      expect(await last({ uids: [a] })).toEqual(["3", "1"])
      expect(await last({ uids: [b], kinds: ["Exited"] })).toEqual(["4"])
      expect(await last({ kinds: ["Warning", "Changed"] })).toEqual(["5", "2", "1"])
      expect(await last({ sinceMs: startMs + 3 })).toEqual(["5", "4"])
      const {
        events: [, fourth],
        cursor,
      } = await timeline.lastEvents({ limit: 2 })
      expect(await read({ after: cursor })).toEqual([])
      expect(await last({ before: fourth?.cursor ?? "" })).toEqual(["3", "2", "1"])
      await expectFault(timeline.lastEvents({ before: "x", limit: 1 }), "Invalid", /Invalid cursor/)
      await reopen()
      expect(await last({ kinds: ["Exited"] })).toEqual(["4", "3"])
    })

    it("waits for the first that fits, and no longer", async () => {
      const waiting = read({ after: "$", uids: [a], waitMs: 60_000 })
      await timeline.append(anEvent("other", { uid: b }))
      await timeline.append(anEvent("1", { uid: a }))
      expect(await waiting).toEqual(["1"])
    })

    it("gives up when the time is over", async () => {
      const waiting = read({ after: "$", waitMs: 60_000 })
      await settled() // whatever it does before it waits is done
      clock.advance(60_000)
      expect(await waiting).toEqual([])
    })

    it("gives up with its signal", async () => {
      const waiting = read({ after: "$", waitMs: 60_000 }, stop.signal)
      stop.abort()
      expect(await waiting).toEqual([])
      expect(await read({ after: "$", waitMs: 60_000 }, stop.signal)).toEqual([])
    })

    it("refuses what is no cursor", async () => {
      for (const after of ["x", "-1", "1 OR 1"])
        await expectFault(
          timeline.events({ after, limit: 1, waitMs: 0 }),
          "Invalid",
          /Invalid cursor/,
        )
    })

    if (handles === "several")
      describe("with two handles", () => {
        it("counts one event of both once, in one order, and wakes who waits at the other", async () => {
          const { port: other } = await opened.second()
          const waiting = timeline.events({ after: "$", limit: 9, waitMs: 60_000 })
          await settled()
          await other.append(anEvent("1", { uid: a }))
          expect((await waiting).events.map(({ id }) => id)).toEqual(["1"])
          await timeline.append(anEvent("1", { uid: a }))
          await timeline.append(anEvent("2", { uid: a }))
          const [here, there] = await Promise.all(
            [timeline, other].map((one) => one.events({ after: "", limit: 9, waitMs: 0 })),
          )
          expect(there).toEqual(here)
          expect(here?.events.map(({ id }) => id)).toEqual(["1", "2"])
        })
      })
  })
}
