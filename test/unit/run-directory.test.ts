import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { basename, join } from "node:path"
import { afterEach, describe, expect, it } from "vitest"
import { createDiskRetry, whenThereIsRoom } from "../../src/agent/disk-retry.ts"
import { createIterations } from "../../src/agent/iterations.ts"
import { type RunDirectory, runDirectory } from "../../src/run/run-directory.ts"
import { createRunDirectory, instanceDirectory, runNumber, runsOf } from "../../src/run/runs.ts"
import { uid } from "../contract/harness.ts"

const made: string[] = []
const temporary = (): string => {
  const path = mkdtempSync(join(tmpdir(), "bb5-run-"))
  made.push(path)
  return path
}
afterEach(() => {
  for (const path of made.splice(0)) rmSync(path, { recursive: true, force: true })
})
const runFile = (place: string) => ({
  ...{
    name: "one",
    uid: uid("u-one"),
    place,
    revision: "1-0",
    startedAtMs: 0,
    mode: "continuous" as const,
    iterationsBefore: 0,
  },
  ...{
    command: ["true"],
    directory: "/",
    claude: process.execPath,
    isolation: "process tree" as const,
  },
  ...{ socketPath: "/none", credential: "none" },
})
const full = (code: string): Error => Object.assign(new Error(code), { code })

describe("the runs of an instance", () => {
  const numbersOf = (state: string) =>
    runsOf(state, "u-one").map((path, index) => [
      basename(path),
      runNumber(runDirectory(path).get("run") ?? {}, index),
    ])

  it("are ordered by their numbers, whatever their places are called", () => {
    const state = temporary()
    for (const [place, number] of [
      ["b", 9],
      ["c", 2],
      ["a", 10],
    ] as const)
      createRunDirectory(state, { ...runFile(place), number })
    expect(numbersOf(state)).toEqual([
      ["c", 2],
      ["b", 9],
      ["a", 10],
    ])
  })

  it("of before runs had numbers come first, in the order of their names, and count from 1", () => {
    const state = temporary()
    for (const place of ["0mh2-b", "0mh1-a"]) createRunDirectory(state, runFile(place))
    expect(numbersOf(state)).toEqual([
      ["0mh1-a", 1],
      ["0mh2-b", 2],
    ])
    createRunDirectory(state, { ...runFile("0aaa-c"), number: 3 })
    expect(numbersOf(state)).toEqual([
      ["0mh1-a", 1],
      ["0mh2-b", 2],
      ["0aaa-c", 3],
    ])
  })
})

describe("a run directory", () => {
  it("appears whole: what a machine left half made hides no run before it, and goes when the next is made", () => {
    const state = temporary()
    const first = createRunDirectory(state, runFile("0a-1"))
    mkdirSync(join(instanceDirectory(state, "u-one"), ".0b-1/status"), { recursive: true })
    expect(runsOf(state, "u-one")).toEqual([first.path])
    createRunDirectory(state, runFile("0c-1"))
    expect(readdirSync(instanceDirectory(state, "u-one")).toSorted()).toEqual(["0a-1", "0c-1"])
    expect(runsOf(state, "u-one").map((path) => basename(path))).toEqual(["0a-1", "0c-1"])
  })

  it("lets one alone claim what happens once", () => {
    const run = createRunDirectory(temporary(), runFile("0a-1"))
    expect([run.claim("launched", { atMs: 1 }), run.claim("launched", { atMs: 2 })]).toEqual([
      true,
      false,
    ])
    expect(run.get("launched")).toEqual({ atMs: 1 })
    expect(readdirSync(run.status).filter((name) => name.includes("tmp"))).toEqual([])
  })
})

describe("what a full disk refuses", () => {
  /** A run directory whose writing fails while `code` is one. */
  const failing = () => {
    const run = createRunDirectory(temporary(), runFile("0a-1"))
    const state: { code?: string } = {}
    const directory: RunDirectory = {
      ...run,
      set(name, value) {
        if (state.code !== undefined) throw full(state.code)
        run.set(name, value)
      },
    }
    return { run, directory, state }
  }

  it("is kept, the last of each file, and written when there is room; what was removed meanwhile is not", () => {
    const { run, directory, state } = failing()
    let failures = 0
    const diskRetry = createDiskRetry(directory, () => failures++)
    expect(diskRetry.set("ended", { code: 1 })).toBe(true)
    state.code = "ENOSPC"
    expect([
      diskRetry.set("ended", { code: 2 }),
      diskRetry.set("ended", { code: 3 }),
      diskRetry.set("stop", { atMs: 1 }),
    ]).toEqual([false, false, false])
    expect([diskRetry.retry(), run.get("ended")]).toEqual([false, { code: 1 }])
    expect(failures).toBe(1)
    diskRetry.remove("stop")
    delete state.code
    expect([diskRetry.retry(), run.get("ended"), run.get("stop")]).toEqual([
      true,
      { code: 3 },
      undefined,
    ])
  })

  it("is no excuse for another error", async () => {
    const { directory, state } = failing()
    state.code = "EACCES"
    expect(() => createDiskRetry(directory, () => {}).set("stop", { atMs: 1 })).toThrow("EACCES")
    await expect(
      whenThereIsRoom(
        () => {
          throw full("EACCES")
        },
        () => {},
      ),
    ).rejects.toThrow("EACCES")
  })

  it("is tried again until it is done", async () => {
    let left = 2
    const done = whenThereIsRoom(
      () => {
        if (left-- > 0) throw full("ENOSPC")
        return "done"
      },
      () => {},
    )
    expect(await done).toBe("done")
  })
})

describe("a clock that is set back under a supervisor", () => {
  it("makes nobody wait for as long as it went back, and no iteration longer or shorter", () => {
    const run = createRunDirectory(temporary(), runFile("0a-1"))
    let offsetMs = 0
    const nowMs = (): number => Math.round(performance.timeOrigin + performance.now()) + offsetMs
    const sinceMs = nowMs() - 5000
    const shim = { pid: 1, startTicks: 1 }
    run.set("turn", {
      id: "t-1",
      shim,
      iteration: 1,
      sinceMs,
      stops: 0,
      unheard: false,
      offered: [],
    })
    const hold = { reason: "RateLimited" as const, message: "m", untilMs: sinceMs + 60_000 }
    const last = { turn: "t-0", iteration: 0, outcome: "FAILED" as const, text: "", atMs: sinceMs }
    run.set("last", { last, hold })
    const iterations = createIterations({
      ...{
        directory: run,
        diskRetry: createDiskRetry(run, () => {}),
        adopted: true,
        run: runFile("0a-1"),
        nowMs,
      },
      search: () => [],
      steadyMs: () => performance.now(),
      ...{ granted: () => ({ settings: {} }), emit: () => {}, changed: () => {}, over: () => {} },
      ...{
        claude: () => ({ path: "/claude" }),
        zone: () => "UTC",
        jitterMs: () => 0,
        printed: () => [],
      },
    })
    iterations.look()
    expect(iterations.report(undefined)).toMatchObject({ turn: { sinceMs }, hold })
    offsetMs = -3_600_000
    iterations.look()
    const after = iterations.report(undefined)
    expect(Math.abs((after.turn?.sinceMs ?? 0) - (sinceMs - 3_600_000))).toBeLessThan(100)
    expect(Math.abs((after.hold?.untilMs ?? 0) - (hold.untilMs - 3_600_000))).toBeLessThan(100)
    expect(after.used.ms).toBeGreaterThanOrEqual(5000)
    expect(after.used.ms).toBeLessThan(60_000)
    offsetMs = 3_600_000
    iterations.look()
    iterations.ended("t-1", 0)
    expect(iterations.report(undefined).used.ms).toBeLessThan(60_000)
  })
})

describe("a file of a run that cannot be read", () => {
  it("is as one that is not there", () => {
    const run = createRunDirectory(temporary(), runFile("0a-1"))
    writeFileSync(join(run.status, "turn.json"), '{"id":')
    expect(run.get("turn")).toBeUndefined()
  })
})
