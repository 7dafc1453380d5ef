import { describe, expect, it } from "vitest"
import { createDiskRetry } from "../../src/agent/disk-retry.ts"
import { createIterations } from "../../src/agent/iterations.ts"
import type { RunDirectory } from "../../src/run/run-directory.ts"
import { aRun } from "./scratch.ts"

describe("an iteration whose claude asks no hook", () => {
  /** Iterations that find one running, as a successor does. */
  const running = (directory: RunDirectory) => {
    const run = directory.get("run")
    if (!run) throw new Error("no run")
    const overs: number[] = []
    const parts = {
      directory,
      diskRetry: createDiskRetry(directory, () => {}),
      adopted: false,
      run,
      nowMs: () => 5,
      search: () => [],
      steadyMs: () => performance.now(),
      emit: () => {},
      changed: () => {},
      claude: () => ({ path: "/claude" }),
      zone: () => "UTC",
      jitterMs: () => 0,
      printed: () => [],
      over: ({ code }: { code: number }) => void overs.push(code),
    }
    return { ...createIterations({ ...parts, granted: () => ({ settings: {} }) }), overs }
  }
  const begun = (unheard: boolean): RunDirectory => {
    const directory = aRun()
    const shim = { pid: 1, startTicks: 1 }
    directory.set("turn", {
      id: "t-1",
      shim,
      iteration: 3,
      sinceMs: 1,
      stops: 0,
      unheard,
      offered: [],
    })
    return directory
  }
  const holdOf = (iterations: ReturnType<typeof running>) => iterations.report(undefined).hold

  it("is to be ended after a minute that it ran, once, and withholds the next one until somebody resumes it", () => {
    const directory = begun(true)
    const iterations = running(directory)
    expect(iterations.unheard(59_999)).toBeUndefined()
    expect(iterations.unheard(1)).toMatchObject({ id: "t-1" })
    expect(iterations.unheard(60_000)).toBeUndefined()
    iterations.ended("t-1", 143, 60_000)
    for (const each of [iterations, running(directory)]) {
      expect(holdOf(each)).toEqual({
        reason: "Uncontrolled",
        message: expect.stringMatching(/iteration 3 .*for a minute and was ended/),
      })
      expect(each.uncontrolled()).toBe(true)
    }
    expect(iterations.overs).toEqual([]) // not even a run of mode once is over by it
  })

  it.each<[string, boolean, number, boolean]>([
    ["is uncontrolled when it ends well", true, 0, true],
    [
      "has failed when it ends at once with an error: claude says itself what is wrong",
      true,
      1,
      false,
    ],
    ["is as any other once it has asked", false, 0, false],
  ])("%s", (_, unheard, code, uncontrolled) => {
    const iterations = running(begun(unheard))
    if (!unheard) expect(iterations.unheard(600_000)).toBeUndefined()
    iterations.ended("t-1", code, 1)
    expect(iterations.uncontrolled()).toBe(uncontrolled)
    expect(iterations.report(undefined).last?.outcome).toBe(unheard ? "FAILED" : "NONE")
    expect(iterations.overs).toEqual(uncontrolled ? [] : [code])
  })
})

describe("an iteration that fails", () => {
  const limit = {
    error: "rate_limit",
    message: "You've hit your session limit · resets 11:06am (UTC)",
    details: "",
  }
  const tooLarge = {
    error: "invalid_request",
    message: "Request too large (max 32MB).",
    details: "",
  }
  const nowMs = Date.UTC(2026, 0, 1, 10)
  const supervised = (directory: RunDirectory) => {
    const run = directory.get("run")
    if (!run) throw new Error("no run")
    const ends: { failed: boolean; waits: boolean }[] = []
    const events: string[] = []
    const iterations = createIterations({
      directory,
      diskRetry: createDiskRetry(directory, () => {}),
      adopted: false,
      run,
      nowMs: () => nowMs,
      search: () => [],
      steadyMs: () => performance.now(),
      claude: () => ({ path: "/claude" }),
      zone: () => "UTC",
      jitterMs: () => 7,
      printed: () => ["error: unknown option '--nope'"],
      granted: () => ({ settings: {} }),
      emit: (kind, message) => void events.push(`${kind}: ${message}`),
      changed: () => {},
      over: ({ failed, waits }) => void ends.push({ failed, waits }),
    })
    const seen = () => iterations.report(undefined)
    return {
      ...iterations.word,
      end: (code: number) => iterations.ended("t-1", code, 1000),
      seen,
      ends,
      events,
      iterations,
    }
  }
  const begun = (unheard = false): RunDirectory => {
    const directory = aRun()
    const shim = { pid: 1, startTicks: 1 }
    directory.set("turn", {
      id: "t-1",
      shim,
      iteration: 1,
      sinceMs: 1,
      stops: 0,
      unheard,
      offered: [],
    })
    return directory
  }

  it("because of a limit, before the model did anything, is none of the budget's, and waits with claude's words", () => {
    const { failed, end, seen, ends, events } = supervised(begun())
    failed(limit)
    end(1)
    expect(seen()).toMatchObject({
      used: { iterations: 0 },
      last: { iteration: 1, outcome: "FAILED", text: limit.message },
      hold: {
        reason: "RateLimited",
        message: expect.stringContaining(limit.message),
        untilMs: nowMs + 67 * 60_000 + 7,
      },
    })
    expect(ends).toEqual([{ failed: true, waits: true }])
    expect(events.at(-1)).toBe(
      `IterationEnded: Iteration 1 was refused after 1 s and does not count. ${limit.message}`,
    )
  })

  it("because of a limit, after it had worked, counts and waits", () => {
    const { working, failed, end, seen, ends } = supervised(begun())
    working()
    failed(limit)
    end(1)
    expect(seen()).toMatchObject({ used: { iterations: 1 }, hold: { reason: "RateLimited" } })
    expect(ends).toEqual([{ failed: true, waits: true }])
  })

  it("after the model's last word has failed, whatever the exit code; what was heard outlives the supervisor", () => {
    const directory = begun()
    const before = supervised(directory)
    before.said("COMPLETE", "Done.")
    before.failed(tooLarge)
    const { end, seen, ends } = supervised(directory)
    end(0)
    expect(seen().last).toMatchObject({ outcome: "FAILED", text: tooLarge.message })
    expect(ends).toEqual([{ failed: true, waits: false }])
  })

  it("because of a limit that a predecessor heard, waits too", () => {
    const directory = begun()
    supervised(directory).failed(limit)
    const { end, seen } = supervised(directory)
    end(1)
    expect(seen()).toMatchObject({ used: { iterations: 0 }, hold: { reason: "RateLimited" } })
  })

  it("and recovers has not failed", () => {
    const { failed, said, end, seen, ends } = supervised(begun())
    failed(limit)
    said("PARTIAL", "More to do.")
    end(0)
    expect(seen().last).toMatchObject({ outcome: "PARTIAL", text: "More to do." })
    expect(seen().hold).toBeUndefined()
    expect(ends).toEqual([{ failed: false, waits: false }])
  })

  it("while the model works on after a word is told by that failure, not by the word", () => {
    const { said, working, end, seen } = supervised(begun())
    said("COMPLETE", "Done.")
    working()
    end(137)
    expect(seen().last).toMatchObject({
      outcome: "FAILED",
      text: expect.stringContaining("SIGKILL"),
    })
  })

  it("because claude refused to start says what it printed", () => {
    const { end, seen } = supervised(begun(true))
    end(1)
    expect(seen().last?.text).toBe(
      "claude refused to start (exit code 1). It printed: error: unknown option '--nope'",
    )
  })

  it("in ten ways, without a git repository, opens no circuit for want of progress", () => {
    const { end, iterations, seen } = supervised(begun())
    end(0)
    for (let count = 0; count < 20; count++) iterations.judge(undefined)
    expect(seen().hold).toBeUndefined()
  })
})
