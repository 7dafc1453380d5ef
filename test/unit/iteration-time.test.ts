import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterEach, describe, expect, it } from "vitest"
import { createDiskRetry } from "../../src/agent/disk-retry.ts"
import type { HookAnswer, HookInput } from "../../src/agent/hook-input.ts"
import { createHooks } from "../../src/agent/hooks.ts"
import { createIterations } from "../../src/agent/iterations.ts"
import type { RunDirectory } from "../../src/run/run-directory.ts"
import { createRunDirectory } from "../../src/run/runs.ts"
import { uid } from "../contract/harness.ts"

const directories: string[] = []
afterEach(() => {
  for (const path of directories.splice(0)) rmSync(path, { recursive: true, force: true })
})
const minuteMs = 60_000
const bornMs = Date.UTC(2026, 0, 31, 22, 0)

/**
 * An iteration that runs, with its hooks, on clocks that the test turns: the wall's, and that of
 * the machine's start.
 */
function iteration(existing?: { run: RunDirectory; atMs: number }) {
  let run = existing?.run
  if (!run) {
    const state = mkdtempSync(join(tmpdir(), "bb5-time-"))
    directories.push(state)
    run = createRunDirectory(state, {
      ...{
        name: "one",
        uid: uid("u-one"),
        place: "p1",
        revision: "1-0",
        startedAtMs: 0,
        mode: "once",
      },
      ...{ iterationsBefore: 0, command: ["true"], directory: "/", claude: process.execPath },
      ...{ isolation: "process tree", socketPath: "/none", credential: "none" },
    })
    const shim = { pid: 1, startTicks: 1 }
    run.set("turn", { id: "t-1", shim, iteration: 9, sinceMs: bornMs, stops: 0, offered: [] })
  }
  const file = run.get("run")
  if (!file) throw new Error("no run")
  let wallMs = existing?.atMs ?? bornMs
  let steadyMs = 1_000_000
  const events: string[] = []
  const overs: number[] = []
  const iterations = createIterations({
    directory: run,
    diskRetry: createDiskRetry(run, () => {}),
    adopted: existing !== undefined,
    run: file,
    nowMs: () => wallMs,
    search: () => [],
    steadyMs: () => steadyMs,
    granted: () => ({ settings: {} }),
    emit: (_kind, message) => void events.push(message),
    changed: () => {},
    claude: () => ({ path: "/claude" }),
    zone: () => "UTC",
    jitterMs: () => 0,
    printed: () => [],
    over: ({ code }) => void overs.push(code),
  })
  const hooks = createHooks({
    nowMs: () => wallMs,
    nonce: () => "n0nce",
    directive: () => ({ orders: [] }),
    turn: iterations.turn,
    toldBefore: iterations.toldBefore,
    keep: iterations.keep,
    delivered: [],
    receipt: () => {},
    transcript: () => {},
    activity: () => {},
    ...iterations.word,
    stopped: iterations.time.stopped,
    goesOn: iterations.time.goesOn,
    standstillTold: iterations.time.standstillTold,
  })
  /** Time passes as a supervisor sees it, which looks all the while. */
  const pass = (ms: number): void => {
    for (let left = ms; left > 0; left -= 5000) {
      wallMs += Math.min(5000, left)
      steadyMs += Math.min(5000, left)
      iterations.look()
    }
  }
  const hook = (event: string, more: Partial<HookInput> = {}): HookAnswer => {
    const answer = hooks.hook({ hook_event_name: event, ...more })
    hooks.given(answer)
    return answer
  }
  return {
    iterations,
    run,
    events,
    overs,
    hooks,
    hook,
    pass,
    wallMs: () => wallMs,
    /** The machine sleeps, or everything is stopped from outside: nobody looks. */
    sleep(ms: number) {
      wallMs += ms
      steadyMs += ms
      iterations.look()
    },
    setClock(ms: number) {
      wallMs += ms
      iterations.look()
    },
    ranMs: () => iterations.report(undefined).used.ms,
    /** As people are told: "In iteration 9 for ...". */
    shownMs: () => wallMs - (iterations.report(undefined).turn?.sinceMs ?? 0),
  }
}
const told = (answer: HookAnswer): string => JSON.stringify(answer)

describe("the time of an iteration", () => {
  it("is that in which it was not frozen, in what it used, in what is shown and in its event", () => {
    const one = iteration()
    one.pass(6 * minuteMs)
    one.iterations.time.still(true)
    one.pass(600 * minuteMs)
    expect(one.ranMs()).toBe(6 * minuteMs)
    one.iterations.time.still(false)
    expect([one.ranMs(), one.shownMs()]).toEqual([6 * minuteMs, 6 * minuteMs])
    one.pass(minuteMs)
    // The claude shim counts by a clock that knows of no freeze.
    one.iterations.ended("t-1", 0, 607 * minuteMs)
    expect(one.ranMs()).toBe(7 * minuteMs)
    expect(one.events.at(-1)).toContain("Iteration 9 ended after 420 s")
  })

  it("is the same for a successor that finds it frozen, however long nobody was there", () => {
    const one = iteration()
    one.pass(6 * minuteMs)
    one.iterations.time.still(true)
    const next = iteration({ run: one.run, atMs: one.wallMs() + 600 * minuteMs })
    next.iterations.time.still(true)
    next.pass(minuteMs)
    expect(next.ranMs()).toBe(6 * minuteMs)
    next.iterations.time.still(false)
    next.pass(minuteMs)
    expect([next.ranMs(), next.shownMs()]).toEqual([7 * minuteMs, 7 * minuteMs])
  })

  it("does not grow while the machine sleeps, nor by a clock that is set", () => {
    const one = iteration()
    one.pass(6 * minuteMs)
    one.sleep(480 * minuteMs)
    one.pass(minuteMs)
    one.setClock(60 * minuteMs)
    expect([one.ranMs(), one.shownMs()]).toEqual([7 * minuteMs, 7 * minuteMs])
    one.setClock(-90 * minuteMs)
    expect([one.ranMs(), one.shownMs()]).toEqual([7 * minuteMs, 7 * minuteMs])
    // The beginning itself stays where it was: what claude's own record has since then is this
    // iteration's.
    expect(one.iterations.turn()?.sinceMs).toBe(bornMs - 30 * minuteMs)
  })
})

describe("an agent that stood still for long", () => {
  it("is told from when to when at its next hook after a tool, once", () => {
    const one = iteration()
    one.pass(5 * minuteMs)
    one.iterations.time.still(true)
    one.pass(480 * minuteMs)
    one.iterations.time.still(false)
    expect(one.hook("PreToolUse", { tool_name: "Bash" })).toEqual({})
    expect(one.hook("PostToolUseFailure", { agent_id: "sub" })).toEqual({})
    expect(told(one.hook("PostToolUseFailure"))).toMatch(
      /stood still from 2026-01-31 22:05:00 to 2026-02-01 06:05:00 \(UTC\)/,
    )
    expect(one.hook("PostToolUse")).toEqual({})
    // A nap is not worth a word.
    one.iterations.time.still(true)
    one.pass(minuteMs - 1)
    one.iterations.time.still(false)
    expect(one.hook("PostToolUse")).toEqual({})
  })

  it("is told of each standstill, also of the machine's sleep, until an answer went out", () => {
    const one = iteration()
    one.sleep(60 * minuteMs)
    one.iterations.time.still(true)
    one.pass(2 * minuteMs)
    one.iterations.time.still(false)
    const cut = one.hooks.hook({ hook_event_name: "PostToolUse" })
    expect(told(cut)).toContain(
      "from 2026-01-31 22:00:00 to 2026-01-31 23:00:00, and from 2026-01-31 23:00:00 to 2026-01-31 23:02:00",
    )
    expect(told(one.hook("PostToolUse"))).toBe(told(cut))
    expect(one.hook("PostToolUse")).toEqual({})
  })
})

describe("a claude that has stopped", () => {
  const idle = (): boolean => false
  const busy = (): boolean => true

  it("and does not exit is to be ended after a grace, once; what it said counts", () => {
    const one = iteration()
    one.pass(10 * minuteMs)
    one.hook("Stop", {
      last_assistant_message: "<promise>COMPLETE</promise>",
      background_tasks: [],
    })
    one.pass(minuteMs)
    expect(one.iterations.time.overdue(240, idle)).toBeUndefined()
    one.pass(minuteMs)
    expect(one.iterations.time.overdue(240, idle)).toMatchObject({ id: "t-1" })
    expect(one.iterations.time.overdue(240, idle)).toBeUndefined()
    one.iterations.ended("t-1", 143, 12 * minuteMs)
    expect(one.iterations.report(undefined).last).toMatchObject({
      outcome: "COMPLETE",
      text: "<promise>COMPLETE</promise>",
    })
    expect(one.events.at(-1)).toMatch(/did not exit within 2 min; it was ended/)
    expect(one.overs).toEqual([0])
  })

  it("may be busy for as long as a hook of its project may take", () => {
    const one = iteration()
    one.hook("Stop", {})
    one.pass(10 * minuteMs)
    expect(one.iterations.time.overdue(240, busy)).toBeUndefined()
    one.pass(minuteMs)
    expect(one.iterations.time.overdue(240, busy)).toMatchObject({ id: "t-1" })
  })

  it.each<[string, (one: ReturnType<typeof iteration>) => void]>([
    [
      "a hook follows: something else kept it from stopping",
      (one) => one.hook("PreToolUse", { tool_name: "Bash" }),
    ],
    ["a sub-agent works", (one) => one.hook("PostToolUse", { agent_id: "sub" })],
    ["the model was asked again", (one) => one.hooks.answered(one.wallMs() + 1)],
    [
      "it waits for background work",
      (one) => one.hook("Stop", { background_tasks: [{ id: "b" }] }),
    ],
    [
      "it waits for a timer of its own",
      (one) => one.hook("Stop", { session_crons: [{ id: "c" }] }),
    ],
    [
      "mail kept it from stopping",
      (one) => {
        one.hooks.mail({
          id: "m-1",
          from: "operator root",
          authority: "operator",
          text: "Wait.",
          urgency: "now",
          atMs: 0,
        })
        expect(told(one.hook("Stop", {}))).toContain("block")
      },
    ],
  ])("goes on when %s", (_, after) => {
    const one = iteration()
    one.hook("Stop", {})
    after(one)
    one.pass(30 * minuteMs)
    expect(one.iterations.time.overdue(240, idle)).toBeUndefined()
  })

  it("is not saved by a request that was answered before it stopped, and no grace passes while it is frozen", () => {
    const one = iteration()
    one.pass(minuteMs)
    one.hook("StopFailure", { error: "unknown" })
    one.hooks.answered(one.wallMs() - 5000)
    one.iterations.time.still(true)
    one.pass(60 * minuteMs)
    one.iterations.time.still(false)
    expect(one.iterations.time.overdue(240, idle)).toBeUndefined()
    // Its supervisor may die meanwhile: the next one goes on counting.
    const next = iteration({ run: one.run, atMs: one.wallMs() })
    next.pass(2 * minuteMs)
    expect(next.iterations.time.overdue(240, idle)).toMatchObject({ id: "t-1" })
    next.iterations.ended("t-1", 143)
    expect(next.overs).toEqual([143]) // what had failed has not succeeded by being ended
  })
})

describe("an iteration without an end", () => {
  it("is told at half of its time, once, and is to be ended after it; frozen time does not count", () => {
    const one = iteration()
    one.pass(119 * minuteMs)
    one.iterations.time.still(true)
    one.pass(300 * minuteMs)
    one.iterations.time.still(false)
    expect(one.iterations.time.overdue(240, () => true)).toBeUndefined()
    expect(one.events).toEqual([])
    one.pass(minuteMs)
    for (let look = 0; look < 2; look++)
      expect(one.iterations.time.overdue(240, () => true)).toBeUndefined()
    expect(one.events).toEqual([
      expect.stringMatching(/^Iteration 9 has run for 120 min\. It will be ended after 240 min;/),
    ])
    one.pass(120 * minuteMs)
    // A policy that allows more counts at once.
    expect(one.iterations.time.overdue(480, () => true)).toBeUndefined()
    expect(one.iterations.time.overdue(240, () => true)).toMatchObject({ id: "t-1" })
    one.iterations.ended("t-1", 143, 540 * minuteMs)
    expect(one.iterations.report(undefined).last).toMatchObject({
      outcome: "FAILED",
      text: expect.stringMatching(/240 min and was ended/),
    })
    expect(one.overs).toEqual([143])
  })
})
