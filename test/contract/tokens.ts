/** What must hold of every keeper of people's tokens. */
import { afterEach, beforeEach, describe, expect, it } from "vitest"
import type { Tokens } from "../../src/core/ports.ts"
import { expectFault } from "./expect-fault.ts"
import {
  type ManualClock,
  manualClock,
  type Open,
  type Opened,
  startMs,
  stepping,
} from "./harness.ts"

export function describeTokens(
  name: string,
  open: Open<Tokens>,
  { tokensMax, handles }: { tokensMax: number; handles: "one" | "several" },
): void {
  describe(`Tokens: ${name}`, () => {
    let opened: Opened<Tokens>
    let clock: ManualClock

    beforeEach(async () => {
      clock = manualClock()
      opened = await open(clock)
    })
    afterEach(() => opened.close())

    it("knows a bearer until it is revoked, over restarts too", async () => {
      const { token, bearer } = await opened.port.create({ name: "ann", role: "operator" })
      expect(token).toEqual({ name: "ann", role: "operator", createdAtMs: startMs })
      expect(bearer).toMatch(/^bb5_[\w-]{43}$/)
      opened = await opened.reopen()
      expect(await opened.port.find(bearer)).toEqual(token)
      for (const other of [`${bearer}x`, bearer.slice(0, -1), "", "bb5_", bearer.toLowerCase()])
        expect(await opened.port.find(other)).toBeUndefined()
      await opened.port.revoke("ann")
      expect(await opened.port.find(bearer)).toBeUndefined()
      opened = await opened.reopen()
      expect(await opened.port.find(bearer)).toBeUndefined()
      expect(await opened.port.list()).toEqual([{ ...token, revokedAtMs: startMs }])
      await expectFault(opened.port.revoke("ann"), "NotFound", /ann/)
    })

    it("ends at its time, to the millisecond", async () => {
      const { bearer } = await opened.port.create({
        name: "ann",
        role: "viewer",
        expiresAtMs: startMs + 1000,
      })
      clock.advance(999)
      expect(await opened.port.find(bearer)).toMatchObject({ name: "ann" })
      clock.advance(1)
      expect(await opened.port.find(bearer)).toBeUndefined()
      await expectFault(opened.port.revoke("ann"), "NotFound")
    })

    it("gives a name one valid token, and another when that ended; newest first", async () => {
      const first = await opened.port.create({ name: "ann", role: "viewer" })
      await expectFault(opened.port.create({ name: "ann", role: "admin" }), "Conflict", /ann/)
      await opened.port.revoke("ann")
      clock.advance(1)
      const second = await opened.port.create({ name: "ann", role: "admin" })
      expect(second.bearer).not.toBe(first.bearer)
      expect((await opened.port.list()).map(({ role }) => role)).toEqual(["admin", "viewer"])
    })

    it("tells who was revoked", async () => {
      const stop = new AbortController()
      await opened.port.create({ name: "ann", role: "viewer" })
      const told = stepping(opened.port.watch(stop.signal)).next()
      // The reader is there once it was asked for its first step.
      await new Promise((resolve) => setImmediate(resolve))
      await opened.port.revoke("ann")
      expect(await told).toBe("ann")
      stop.abort()
    })

    it("has a bound for those that are valid, and one for those that ended", async () => {
      const { bearer } = await opened.port.create({ name: "first", role: "viewer" })
      await opened.port.revoke("first")
      for (let count = 0; count < tokensMax; count++)
        await opened.port.create({ name: `t${count}`, role: "viewer" })
      await expectFault(opened.port.create({ name: "one-more", role: "viewer" }), "TooLarge")
      expect(await opened.port.list()).toHaveLength(tokensMax + 1)
      for (let count = 0; count < tokensMax; count++) await opened.port.revoke(`t${count}`)
      clock.advance(1)
      await opened.port.create({ name: "one-more", role: "viewer" })
      const listed = await opened.port.list()
      expect(listed).toHaveLength(tokensMax + 1)
      expect(listed.map(({ name }) => name)).not.toContain("first")
      expect(await opened.port.find(bearer)).toBeUndefined()
    })

    if (handles === "several")
      describe("with two handles", () => {
        it("knows at both who has a token, and tells both who lost it", async () => {
          const { port: other } = await opened.second()
          const { token, bearer } = await opened.port.create({ name: "ann", role: "viewer" })
          expect(await other.find(bearer)).toEqual(token)
          await expectFault(other.create({ name: "ann", role: "admin" }), "Conflict", /ann/)
          const stop = new AbortController()
          const told = stepping(opened.port.watch(stop.signal)).next()
          await new Promise((resolve) => setImmediate(resolve))
          await other.revoke("ann")
          expect(await told).toBe("ann")
          expect(await opened.port.find(bearer)).toBeUndefined()
          stop.abort()
        })

        it("ends a token by the backend's clock", async () => {
          const { port: other } = await opened.second()
          const { bearer } = await other.create({
            name: "ann",
            role: "viewer",
            expiresAtMs: startMs + 1000,
          })
          expect(await other.find(bearer)).toMatchObject({ createdAtMs: startMs })
          clock.advance(1000)
          expect(await other.find(bearer)).toBeUndefined()
        })
      })
  })
}
