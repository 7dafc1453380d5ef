/** What must hold of every adapter of Logs. */
import { afterEach, beforeEach, describe, expect, it } from "vitest"
import type { Logs } from "../../src/core/ports.ts"
import { expectFault } from "./expect-fault.ts"
import { startMs, uid } from "./harness.ts"

/** An instance whose loop can be made to print. */
export interface OpenedLogs {
  readonly logs: Logs
  /** Prints a whole line at a moment. */
  print(atMs: number, text: string): void
  /** Prints the beginning of a line, whose end is printed by the next `print`. */
  begin(atMs: number, text: string): void
  /** Starts another run of the instance. */
  restart(): void
  close(): void
}
const shop = { name: "shop", uid: uid("u-shop") }

export function describeLogs(name: string, open: () => OpenedLogs): void {
  describe(`Logs: ${name}`, () => {
    let opened: OpenedLogs
    beforeEach(() => {
      opened = open()
    })
    afterEach(() => opened.close())
    const read = (query: Partial<Parameters<Logs>[1]> = {}) =>
      opened.logs(shop, { source: "loop", lines: 100, ...query })
    const texts = async (query: Partial<Parameters<Logs>[1]> = {}) =>
      (await read(query)).lines.map(({ text }) => text)
    const print = (...lines: string[]): void => {
      for (const [index, line] of lines.entries()) opened.print(startMs + index * 1000, line)
    }

    it("gives the last lines, oldest first, with their moments", async () => {
      print("1", "2", "3")
      expect(await read({ lines: 2 })).toMatchObject({
        lines: [
          { atMs: startMs + 1000, text: "2" },
          { atMs: startMs + 2000, text: "3" },
        ],
        lost: false,
        more: false,
      })
      expect(await texts()).toEqual(["1", "2", "3"])
    })

    it("knows nothing of another instance, nor of one that never ran", async () => {
      print("1")
      expect(
        (await opened.logs({ name: "other", uid: uid("u-other") }, { source: "loop", lines: 9 }))
          .lines,
      ).toEqual([])
    })

    it("goes on after a cursor: nothing is lost and nothing doubled, over another run, too", async () => {
      const seen: string[] = []
      let cursor = (await read()).cursor
      const follow = async (): Promise<void> => {
        const page = await read({ after: cursor })
        expect(page.lost).toBe(false)
        seen.push(...page.lines.map(({ text }) => text))
        cursor = page.cursor
      }
      await follow()
      print("1", "2")
      await follow()
      await follow()
      print("3")
      opened.restart()
      print("4")
      await follow()
      opened.restart()
      await follow()
      print("5")
      await follow()
      expect(seen).toEqual(["1", "2", "3", "4", "5"])
    })

    it("goes on after any line", async () => {
      print("1", "2", "3")
      opened.restart()
      print("4")
      const { lines } = await read()
      for (const [index, { cursor }] of lines.entries())
        expect(await texts({ after: cursor })).toEqual(["1", "2", "3", "4"].slice(index + 1))
      expect(await texts({ after: "" })).toEqual(["1", "2", "3", "4"])
    })

    it("gives the first lines after a cursor, and says that there are more", async () => {
      print("1", "2", "3", "4", "5")
      const first = await read({ after: "", lines: 2 })
      expect(first).toMatchObject({ lines: [{ text: "1" }, { text: "2" }], more: true })
      const second = await read({ after: first.cursor, lines: 2 })
      expect(second).toMatchObject({ lines: [{ text: "3" }, { text: "4" }], more: true })
      expect(await read({ after: second.cursor, lines: 2 })).toMatchObject({
        lines: [{ text: "5" }],
        more: false,
      })
    })

    it("gives a line once it is whole", async () => {
      print("1")
      opened.begin(startMs + 1000, "half")
      const { lines, cursor } = await read()
      expect(lines.map(({ text }) => text)).toEqual(["1"])
      expect(await texts({ after: cursor })).toEqual([])
      opened.print(startMs + 2000, " and whole")
      expect(await texts({ after: cursor })).toHaveLength(1)
    })

    it("leaves out what is older than a moment, also after a cursor", async () => {
      print("1", "2", "3")
      expect(await texts({ sinceMs: startMs + 1000 })).toEqual(["2", "3"])
      expect(await texts({ sinceMs: startMs + 2000, after: "" })).toEqual(["3"])
    })

    it("refuses what is no cursor", async () => {
      print("1")
      for (const after of ["x", "../etc/passwd~0", "a~-1", "a~1.5.5", "~"])
        await expectFault(read({ after }), "Invalid", /Invalid log cursor/)
    })

    it("says of a cursor it does not find that lines are lost, and begins with the oldest", async () => {
      print("1", "2")
      expect(await read({ after: "gone.123~77" })).toMatchObject({
        lines: [{ text: "1" }, { text: "2" }],
        lost: true,
      })
    })
  })
}
