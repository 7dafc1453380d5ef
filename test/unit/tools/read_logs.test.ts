import { describe, expect, it } from "vitest"
import { type Fleet, makeFleet, operator, type Result } from "../fleet.ts"

describe("read_logs", () => {
  const setUp = (): Fleet => {
    const fleet = makeFleet()
    fleet.running("a")
    const nowMs = fleet.clock.nowMs()
    for (let number = 1; number <= 5; number++)
      fleet.logs.push({
        atMs: nowMs - (5 - number) * 60_000,
        text: `\u001b[31mError\u001b[0m ${number} sk-ant-abcdefgh12345`,
      })
    return fleet
  }
  const linesOf = ({ untrusted }: Result): string[] => untrusted.split("\n").slice(1, -1)

  it("gives the last lines with their times, fenced, without colours and secrets", async () => {
    const fleet = setUp()
    const all = await fleet.call(operator)("read_logs", { name: "a" })
    expect(all.lines).toBe(5)
    expect(linesOf(all)[4]).toBe("2026-01-01T00:00:01Z Error 5 [redacted]")
    expect(all).not.toHaveProperty("cut")
    expect(await fleet.call(operator)("read_logs", { name: "a", tail: 2 })).toMatchObject({
      lines: 2,
      cut: "Left out: older than the last 2 lines.",
    })
    expect((await fleet.call(operator)("read_logs", { name: "a", since: "150s" })).lines).toBe(3)
    expect(
      (await fleet.call(operator)("read_logs", { name: "a", since: "2026-01-01T00:00:00Z" })).lines,
    ).toBe(1)
  })

  it("searches literally, then takes the last matches", async () => {
    const fleet = setUp()
    fleet.logs.push({ atMs: 0, text: "a.c" }, { atMs: 0, text: "abc" })
    expect(linesOf(await fleet.call(operator)("read_logs", { name: "a", grep: "a.c" }))).toEqual([
      "1970-01-01T00:00:00Z a.c",
    ])
    expect(
      await fleet.call(operator)("read_logs", { name: "a", grep: "Error", tail: 2 }),
    ).toMatchObject({
      lines: 2,
      cut: "Left out: 3 older matches.",
    })
    expect((await fleet.call(operator)("read_logs", { name: "a", grep: "Error 5" })).lines).toBe(1)
    const none = await fleet.call(operator)("read_logs", { name: "a", grep: "error" })
    expect(none).toMatchObject({ lines: 0, next: expect.stringContaining("leave out grep") })
  })

  it("gives 64 KiB at most, the newest", async () => {
    const fleet = setUp()
    for (let number = 0; number < 100; number++)
      fleet.logs.push({ atMs: 0, text: `${number} ${"é".repeat(1000)}` })
    const cut = await fleet.call(operator)("read_logs", { name: "a", tail: 2000 })
    expect(Buffer.byteLength(cut.untrusted)).toBeLessThan(65_600)
    expect(linesOf(cut).at(-1)).toContain(" 99 é")
    expect(cut.cut).toMatch(/Left out: \d+ older lines beyond 65536 bytes/)
  })
})
