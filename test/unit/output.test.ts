import { spawn } from "node:child_process"
import { once } from "node:events"
import { closeSync, readFileSync, statSync, writeSync } from "node:fs"
import { describe, expect, it } from "vitest"
import { captureOutput, logBytesMax } from "../../src/agent/output.ts"
import type { RunDirectory } from "../../src/run/run-directory.ts"
import { aRun } from "./scratch.ts"

describe("the loop's output", () => {
  /**
   * What stands in the log after these were written, one after the other, each read before the
   * next.
   */
  const logged = async (
    ...chunks: (string | Buffer)[]
  ): Promise<{ run: RunDirectory; lines: string[]; stamps: string[] }> => {
    const run = aRun()
    let atMs = 0
    const output = captureOutput(run, () => ++atMs)
    const file = output.openForLoop()
    for (const chunk of chunks) {
      writeSync(file, typeof chunk === "string" ? Buffer.from(chunk) : chunk)
      // Lets it arrive as a chunk of its own; what must hold, holds also if it does not.
      await new Promise((resolve) => setTimeout(resolve, 5))
    }
    closeSync(file)
    await output.finish()
    const whole = readFileSync(run.log, "utf8").split("\n").slice(0, -1)
    return {
      run,
      lines: whole.map((line) => line.slice(line.indexOf(" ") + 1)),
      stamps: whole.map((line) => line.split(" ")[0] ?? ""),
    }
  }

  it("is kept line by line, each with the moment of its arrival", async () => {
    const { lines, stamps } = await logged("one\ntwo\n", "three\n")
    expect(lines).toEqual(["one", "two", "three"])
    for (const stamp of stamps) expect(stamp).toMatch(/^1970-01-01T00:00:00\.\d{3}Z$/)
    expect(stamps.toSorted()).toEqual(stamps)
  })

  it("keeps a line whole that comes in parts, also within a character", async () => {
    const euro = Buffer.from("€")
    expect(
      (await logged("price: ", euro.subarray(0, 1), euro.subarray(1), " 5\nnext")).lines,
    ).toEqual(["price: € 5", "next"])
  })

  it.each([
    ["that ends", "\n"],
    ["that never ends", ""],
  ])("breaks a line %s where it is too long", async (_, ending) => {
    const { lines } = await logged("x".repeat(40_000) + ending)
    expect(lines.map(({ length }) => length)).toEqual([16_384, 16_384, 40_000 - 2 * 16_384])
  })

  it("goes on in a new part when one is full, and keeps the part before", async () => {
    const run = aRun()
    const output = captureOutput(run, () => 0)
    const lines = Math.ceil((logBytesMax + 1_000_000) / 1024)
    const file = output.openForLoop()
    const writer = spawn("sh", ["-c", `yes "$0" | head -n ${lines}`, "y".repeat(1023)], {
      stdio: ["ignore", file, "inherit"],
    })
    closeSync(file)
    await once(writer, "exit")
    await output.finish()
    const parts = [`${run.log}.1`, run.log]
    for (const path of parts) expect(statSync(path).size).toBeLessThanOrEqual(logBytesMax)
    // Each line that was written is there, whole: nothing is lost where one part follows the other.
    const kept = parts.flatMap((path) => readFileSync(path, "utf8").split("\n").slice(0, -1))
    expect(kept).toHaveLength(lines)
    expect(kept.filter((line) => line !== `1970-01-01T00:00:00.000Z ${"y".repeat(1023)}`)).toEqual(
      [],
    )
  })
})
