import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterEach, beforeEach, describe, expect, it } from "vitest"
import { watchClaude } from "../../src/agent/claude-watch.ts"
import { type ClaudeSearch, searchClaude } from "../../src/host/find-claude.ts"

describe("a claude that is missing", () => {
  const minuteMs = 60_000
  function watched() {
    let atMs = 1_000_000
    let found: ClaudeSearch = { path: "/bin/claude" }
    let changes = 0
    const watch = watchClaude(
      () => found,
      () => atMs,
      () => void changes++,
    )
    return {
      look(more: { found?: ClaudeSearch; passMs?: number } = {}) {
        found = more.found ?? found
        atMs += more.passMs ?? 0
        const path = watch.path()
        return { path, hold: watch.hold(), changes, leftMs: (watch.hold()?.untilMs ?? atMs) - atMs }
      },
    }
  }

  it("withholds turns while it is away, no longer, and tells only changes", () => {
    const { look } = watched()
    expect(look()).toEqual({ path: "/bin/claude", hold: undefined, changes: 0, leftMs: 0 })
    const away = look({ found: { missing: "It is gone." } })
    expect(away).toMatchObject({ path: undefined, changes: 1, leftMs: minuteMs })
    expect(away.hold).toMatchObject({
      reason: "ClaudeMissing",
      message: "It is gone. The agent waits for it and goes on by itself.",
    })
    expect(look({ passMs: 500 }).changes).toBe(1)
    expect(look({ found: { path: "/opt/claude" } })).toMatchObject({
      path: "/opt/claude",
      hold: undefined,
      changes: 2,
    })
  })

  it("is held for a minute at the most, however long it is away and whichever way the clock goes", () => {
    const { look } = watched()
    look({ found: { missing: "It is gone." } })
    for (const passMs of [
      500,
      29_000,
      40_000,
      minuteMs,
      10 * minuteMs,
      -3_600_000,
      500,
      86_400_000,
    ]) {
      const { leftMs } = look({ passMs })
      expect(leftMs).toBeGreaterThanOrEqual(minuteMs / 2 - 1)
      expect(leftMs).toBeLessThanOrEqual(minuteMs)
    }
  })
})

describe("the search for claude", () => {
  let directory: string
  const PATH = process.env.PATH
  const at = (name: string): string => join(directory, name)
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), "bb5 claudé-"))
    process.env.PATH = directory
  })
  afterEach(() => {
    process.env.PATH = PATH
    rmSync(directory, { recursive: true })
  })

  it("finds it where it was, else on the PATH, which is named when it is nowhere", () => {
    writeFileSync(at("known"), "", { mode: 0o755 })
    expect(searchClaude({ known: at("known") })).toEqual({ path: at("known") })
    writeFileSync(at("claude"), "", { mode: 0o755 })
    expect(searchClaude({ known: at("gone") })).toEqual({ path: at("claude") })
    rmSync(at("claude"))
    // The login shell's PATH counts, too: where that has a claude, it is found there.
    const nowhere = searchClaude({ known: at("gone") })
    expect("path" in nowhere ? nowhere.path : nowhere.missing).toMatch(
      /^\/.*\/claude$|^The program `claude` is not on the PATH: .*bb5 claudé/,
    )
  })

  it("takes no other than the policy's where that names one", () => {
    writeFileSync(at("claude"), "", { mode: 0o755 })
    expect(searchClaude({ named: at("mine") })).toEqual({
      missing: `The policy names claude at ${at("mine")}, which is not an executable file.`,
    })
    writeFileSync(at("mine"), "", { mode: 0o644 })
    expect(searchClaude({ named: at("mine") })).toMatchObject({
      missing: expect.stringContaining("not an executable file"),
    })
    chmodSync(at("mine"), 0o755)
    expect(searchClaude({ named: at("mine") })).toEqual({ path: at("mine") })
  })
})
