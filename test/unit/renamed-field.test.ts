import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { expect, it } from "vitest"
import { upFrameSchema } from "../../src/core/frames.ts"
import { runDirectory } from "../../src/run/run-directory.ts"

it("an earlier supervisor's receipt says at which hook the model got a mail", () => {
  const receipt = { mail: "m-1", state: "Delivered", iteration: 2 }
  const frame = { type: "receipt", seq: 1 }
  const read = upFrameSchema.parse({ ...frame, receipt: { ...receipt, door: "Stop" } })
  expect(read).toEqual({ ...frame, receipt: { ...receipt, hook: "Stop" } })
  expect(upFrameSchema.parse(read)).toEqual(read)
})

it("an earlier supervisor's turn is known to its successor", () => {
  const path = mkdtempSync(join(tmpdir(), "bb5-renamed-"))
  try {
    const directory = runDirectory(path)
    mkdirSync(directory.status)
    const process = { pid: 1, startTicks: 2 }
    const offered = { mail: "m-1", atMs: 3, given: true, proved: false }
    const turn = { id: "t-1", iteration: 1, sinceMs: 1, stops: 0 }
    writeFileSync(
      join(directory.status, "turn.json"),
      JSON.stringify({ ...turn, turnstile: process, offered: [{ ...offered, door: "Stop" }] }),
    )
    const read = directory.get("turn")
    expect(read).toEqual({ ...turn, shim: process, offered: [{ ...offered, hook: "Stop" }] })
    if (read) directory.set("turn", read)
    expect(directory.get("turn")).toEqual(read)
  } finally {
    rmSync(path, { recursive: true, force: true })
  }
})
