import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { delimiter, join } from "node:path"
import { afterEach, expect, it, vi } from "vitest"
import { runLoop } from "../../src/agent/loop.ts"

const directory = mkdtempSync(join(tmpdir(), "bb5-loop-"))
afterEach(() => {
  vi.unstubAllEnvs()
  process.kill(Number(readFileSync(join(directory, "pid"), "utf8")), "SIGKILL")
  rmSync(directory, { recursive: true, force: true })
})

it("the built-in loop waits for claude's exit, not for a command that it left in the background with its output", async () => {
  const script = `#!/bin/sh\ncat > prompt\nsleep 1000 &\necho $! > pid\necho '<promise>COMPLETE</promise>'\n`
  writeFileSync(join(directory, "claude"), script, { mode: 0o755 })
  vi.stubEnv("PATH", `${directory}${delimiter}${process.env.PATH}`)
  expect(await runLoop(directory)).toBe(0)
  expect(readFileSync(join(directory, "prompt"), "utf8")).toContain("COMPLETE")
})
