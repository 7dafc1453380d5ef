/** What must hold of every Mailboxes. The bounds differ: each adapter names its own inbox's. */
import { afterEach, beforeEach, describe, expect, it } from "vitest"
import { type Mailboxes, operators } from "../../src/core/ports.ts"
import { expectFault } from "./expect-fault.ts"
import { aMail, manualClock, type Open, type Opened, stepping, uid } from "./harness.ts"

const [a, b] = [uid("a"), uid("b")]

export function describeMailboxes(
  name: string,
  open: Open<Mailboxes>,
  { inboxMax, handles }: { inboxMax: number; handles: "one" | "several" },
): void {
  describe(`Mailboxes: ${name}`, () => {
    let opened: Opened<Mailboxes>
    let mailboxes: Mailboxes
    let stop: AbortController
    const reopen = async (): Promise<void> => {
      opened = await opened.reopen()
      mailboxes = opened.port
    }

    beforeEach(async () => {
      opened = await open(manualClock())
      mailboxes = opened.port
      stop = new AbortController()
    })
    afterEach(async () => {
      stop.abort()
      await opened.close()
    })

    const inbox = (of = a, signal = stop.signal) => stepping(mailboxes.inbox(of, signal))
    const stateOf = async (mail: string) =>
      (await mailboxes.posted({ mails: [mail], limit: 1 }))[0]?.receipt
    const ids = async (query: Omit<Parameters<Mailboxes["posted"]>[0], "limit">, limit = 100) =>
      (await mailboxes.posted({ ...query, limit })).map(({ mail }) => mail.id)

    it("yields what waits, oldest first, then what comes", async () => {
      for (const id of ["1", "2", "3"]) await mailboxes.send(a, aMail(id))
      const reader = inbox()
      expect(await reader.take(3)).toEqual(["1", "2", "3"].map((id) => aMail(id)))
      const coming = reader.next()
      await mailboxes.send(a, aMail("4"))
      expect((await coming).id).toBe("4")
    })

    it("yields a mail once in one call, however often it is sent, and again to the next call until it is delivered", async () => {
      await mailboxes.send(a, aMail("1"))
      const reader = inbox()
      expect((await reader.next()).id).toBe("1")
      expect(await mailboxes.send(a, aMail("1"))).toBe("Duplicate")
      expect(await mailboxes.send(a, aMail("2"))).toBe("Accepted")
      expect((await reader.next()).id).toBe("2")
      await mailboxes.receipt(a, { mail: "1", state: "Delivered" })
      expect((await inbox().next()).id).toBe("2")
    })

    it("reaches every reader, and no other address", async () => {
      const readers = [inbox(), inbox()]
      await mailboxes.send(b, aMail("other"))
      await mailboxes.send(a, aMail("1"))
      expect(await Promise.all(readers.map(async (reader) => (await reader.next()).id))).toEqual([
        "1",
        "1",
      ])
    })

    it("ends with its signal, also while nothing comes", async () => {
      const reader = inbox()
      await mailboxes.send(a, aMail("1"))
      await reader.next()
      const ended = reader.ended()
      stop.abort()
      expect(await ended).toBe(true)
      expect(await inbox().ended()).toBe(true)
    })

    it("does not hand out what was returned while a reader was busy", async () => {
      for (const id of ["1", "2"]) await mailboxes.send(a, aMail(id))
      const reader = inbox()
      await reader.next()
      expect(await mailboxes.returnAll(a)).toBe(2)
      await mailboxes.send(a, aMail("3"))
      expect((await reader.next()).id).toBe("3")
    })

    it("refuses at the bound, keeps what waits, and takes mail again when some was delivered", async () => {
      for (let count = 0; count < inboxMax; count++) await mailboxes.send(a, aMail(`m${count}`))
      await expectFault(mailboxes.send(a, aMail("over")), "RateLimited")
      expect(await mailboxes.send(a, aMail("m0"))).toBe("Duplicate")
      expect(await mailboxes.send(b, aMail("other"))).toBe("Accepted")
      expect(await ids({ to: a, waiting: true }, 1000)).toHaveLength(inboxMax)
      await mailboxes.receipt(a, { mail: "m0", state: "Delivered" })
      expect(await mailboxes.send(a, aMail("over"))).toBe("Accepted")
    })

    it("keeps mail and receipts over a restart", async () => {
      for (const id of ["1", "2"]) await mailboxes.send(a, aMail(id))
      await mailboxes.receipt(a, { mail: "1", state: "Delivered", iteration: 4, hook: "Stop" })
      const before = await mailboxes.posted({ to: a, limit: 10 })
      await reopen()
      expect(await mailboxes.posted({ to: a, limit: 10 })).toEqual(before)
      expect(await inbox().next()).toEqual(aMail("2"))
      expect(await mailboxes.send(a, aMail("1"))).toBe("Duplicate")
    })

    it.each([
      ["Queued", "Delivered", "Delivered"],
      ["Queued", "Returned", "Returned"],
      ["Delivered", "Queued", "Delivered"],
      ["Delivered", "Returned", "Delivered"],
      ["Returned", "Delivered", "Returned"],
      ["Delivered", "Answered", "Answered"],
      ["Answered", "Delivered", "Answered"],
      ["Answered", "Returned", "Answered"],
    ] as const)("a receipt never goes back: %s, then %s is %s", async (first, second, last) => {
      await mailboxes.send(a, aMail("1"))
      await mailboxes.receipt(a, { mail: "1", state: first })
      await mailboxes.receipt(a, { mail: "1", state: second })
      expect((await stateOf("1"))?.state).toBe(last)
    })

    it("keeps where a mail was delivered when it is answered", async () => {
      await mailboxes.send(a, aMail("1"))
      expect(await stateOf("1")).toEqual({ mail: "1", state: "Queued" })
      await mailboxes.receipt(a, {
        mail: "1",
        state: "Delivered",
        iteration: 4,
        hook: "PostToolUse",
      })
      await mailboxes.send(operators, aMail("2", { replyTo: "1" }))
      expect(await stateOf("1")).toEqual({
        mail: "1",
        state: "Answered",
        iteration: 4,
        hook: "PostToolUse",
      })
      expect(await stateOf("2")).toEqual({ mail: "2", state: "Queued" })
    })

    it("takes a receipt for a mail it does not know any more", async () => {
      await mailboxes.receipt(a, { mail: "unknown", state: "Delivered" })
      expect(await stateOf("unknown")).toBeUndefined()
    })

    it("returns all that waits, and nothing that was delivered", async () => {
      for (const id of ["1", "2", "3"]) await mailboxes.send(a, aMail(id))
      await mailboxes.send(b, aMail("other"))
      await mailboxes.receipt(a, { mail: "1", state: "Delivered" })
      expect(await mailboxes.returnAll(a)).toBe(2)
      expect(await mailboxes.returnAll(a)).toBe(0)
      expect(
        (await mailboxes.posted({ to: a, limit: 10 })).map(({ receipt }) => receipt.state),
      ).toEqual(["Returned", "Returned", "Delivered"])
      expect((await stateOf("other"))?.state).toBe("Queued")
    })

    it("lists what was posted, newest first, by address, sender, id and whether it waits", async () => {
      await mailboxes.send(a, aMail("1", { from: "operator root" }))
      await mailboxes.send(operators, aMail("2", { from: "instance shop" }))
      await mailboxes.send(a, aMail("3", { from: "instance shop" }))
      await mailboxes.receipt(a, { mail: "1", state: "Delivered" })
      expect(await ids({})).toEqual(["3", "2", "1"])
      expect(await ids({ to: a })).toEqual(["3", "1"])
      expect(await ids({ to: operators })).toEqual(["2"])
      expect(await ids({ from: "instance shop" })).toEqual(["3", "2"])
      expect(await ids({ from: "instance shop", to: a })).toEqual(["3"])
      expect(await ids({ mails: ["1", "2", "unknown"] })).toEqual(["2", "1"])
      expect(await ids({ mails: [] })).toEqual([])
      expect(await ids({ waiting: true })).toEqual(["3", "2"])
      expect(await ids({ to: a, waiting: true })).toEqual(["3"])
      expect(await ids({}, 2)).toEqual(["3", "2"])
      expect((await mailboxes.posted({ to: operators, limit: 1 }))[0]).toMatchObject({
        to: operators,
        receipt: { mail: "2", state: "Queued" },
      })
    })

    if (handles === "several")
      describe("with two handles", () => {
        it("hands on what the other sends, once, and what it settles", async () => {
          const { port: other } = await opened.second()
          const reader = inbox()
          const coming = reader.next()
          expect(await other.send(a, aMail("1"))).toBe("Accepted")
          expect((await coming).id).toBe("1")
          expect(await mailboxes.send(a, aMail("1"))).toBe("Duplicate")
          await mailboxes.receipt(a, { mail: "1", state: "Delivered" })
          expect((await other.posted({ mails: ["1"], limit: 1 }))[0]?.receipt.state).toBe(
            "Delivered",
          )
          expect(await other.returnAll(a)).toBe(0)
        })

        it("keeps one bound for both", async () => {
          const { port: other } = await opened.second()
          for (let count = 0; count < inboxMax; count++)
            await (count % 2 === 0 ? mailboxes : other).send(a, aMail(`m${count}`))
          await expectFault(mailboxes.send(a, aMail("over")), "RateLimited")
          await expectFault(other.send(a, aMail("over")), "RateLimited")
        })

        it("ends an inbox that was cut off with an error, and gives all of it to the next", async () => {
          const { port: other, wire } = await opened.second()
          const reader = stepping(other.inbox(a, stop.signal))
          await mailboxes.send(a, aMail("1"))
          expect((await reader.next()).id).toBe("1")
          const next = reader.next()
          wire.cut()
          await expectFault(next, "Unavailable")
          wire.resume()
          const again = stepping(other.inbox(a, stop.signal))
          expect((await again.next()).id).toBe("1")
        })
      })
  })
}
