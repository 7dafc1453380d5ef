import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterEach, expect, it } from "vitest"
import { createTurnFiles, turnFilesMax } from "../../src/agent/turn-files.ts"
import { expectFault } from "../contract/expect-fault.ts"

let bin = ""
const files = () => {
  bin = mkdtempSync(join(tmpdir(), "bb5 files é#-"))
  return createTurnFiles({ bin })
}
afterEach(() => rmSync(bin, { recursive: true, force: true }))

it("puts what a claude is given where only this user reads it, the same text into the same file", () => {
  const { write } = files()
  const path = write('{"token":"t"}')
  expect(readFileSync(path, "utf8")).toBe('{"token":"t"}')
  expect(statSync(path).mode & 0o777).toBe(0o600)
  expect(statSync(join(path, "..")).mode & 0o777).toBe(0o700)
  expect(write('{"token":"t"}')).toBe(path)
  expect(write('{"token":"u"}')).not.toBe(path)
})

it("takes all of them away with the turn, also those of a predecessor, and begins anew", () => {
  const { write, clear } = files()
  const path = write("a")
  createTurnFiles({ bin }).clear()
  expect(readdirSync(bin)).toEqual([])
  // Whoever took it away, it is written again.
  expect(write("a")).toBe(path)
  expect(readFileSync(path, "utf8")).toBe("a")
  clear()
  clear()
  expect(readdirSync(bin)).toEqual([])
})

it("is bounded", async () => {
  const { write, clear } = files()
  for (let number = 0; number < turnFilesMax; number++) write(String(number))
  write("0")
  await expectFault(
    Promise.resolve().then(() => write("one more")),
    "TooLarge",
    /at most 64 claudes/,
  )
  clear()
  write("one more")
})
