import { expect, it, vi } from "vitest"
import { Fault } from "../../src/core/faults.ts"
import { logs } from "../../src/roles/logs.ts"

it("says while it follows a log that lines are gone, and nothing else that was left out", async () => {
  const page = { lines: 0, untrusted: "", cursor: "1" }
  const pages = [
    { ...page, cut: "Left out: older lines." },
    { ...page, cursor: "2", cut: "Left out: newer lines." },
    { ...page, cursor: "3", cut: "Left out: what was rotated away.", lost: true },
  ]
  const notes: string[] = []
  const stderr = vi.spyOn(process.stderr, "write").mockImplementation((text) => {
    notes.push(String(text))
    return true
  })
  const gone = new Fault("NotFound", "There is no instance a.", "Nothing.")
  const read = logs(["a", "-f"], () => {
    const next = pages.shift()
    return next ? Promise.resolve(next) : Promise.reject(gone)
  })
  await expect(read).rejects.toBe(gone)
  stderr.mockRestore()
  expect(notes).toEqual(["[Left out: older lines.]\n", "[Left out: what was rotated away.]\n"])
})
