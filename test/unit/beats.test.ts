import { afterEach, beforeEach, expect, it, vi } from "vitest"
import { beatPauseMs, createBeats } from "../../src/agent/beats.ts"
import { createReports } from "../../src/agent/reports.ts"
import type { Beat } from "../../src/core/beat.ts"
import { eventRate } from "../../src/core/event.ts"
import { noUsage } from "../../src/core/usage.ts"

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

const beatsOf = () => {
  let beat: Beat = { place: "p", frozen: false, used: noUsage, atMs: 0 }
  const sent: Beat[] = []
  const beats = createBeats(
    () => beat,
    (one) => void sent.push(one),
    () => Date.now(),
  )
  const change = (more: Partial<Beat>): void => {
    beat = { ...beat, ...more }
    beats.changed()
  }
  return { beats, sent, change }
}
const tool = (name: string) => ({ activity: { tool: name, summary: "", sinceMs: 0 } })

it("tells what an agent does four times a second at most, and the last of it always", () => {
  const { sent, change } = beatsOf()
  for (let at = 0; at < 100; at++) {
    change(tool(`tool ${at}`))
    vi.advanceTimersByTime(10)
  }
  expect(sent.length).toBeLessThanOrEqual(1 + 1000 / beatPauseMs)
  vi.advanceTimersByTime(beatPauseMs)
  expect(sent.at(-1)?.activity?.tool).toBe("tool 99")
  const { length } = sent
  vi.advanceTimersByTime(10_000)
  expect(sent.length).toBe(length)
})

it("tells at once what the fleet waits for, with all else that has changed", () => {
  const { sent, change } = beatsOf()
  change(tool("a"))
  change(tool("b"))
  change({ turn: { id: "t", state: "Wanted", sinceMs: 1 } })
  change({ turn: { id: "t", state: "Running", sinceMs: 1 } })
  change({ frozen: true })
  expect(sent.map(({ activity, turn, frozen }) => [activity?.tool, turn?.state, frozen])).toEqual([
    ["a", undefined, false],
    ["b", "Wanted", false],
    ["b", "Running", false],
    ["b", "Running", true],
  ])
  vi.advanceTimersByTime(10_000)
  expect(sent.length).toBe(4)
})

it("tells no more when it is closed", () => {
  const { beats, sent, change } = beatsOf()
  change(tool("a"))
  change(tool("b"))
  beats.close()
  vi.advanceTimersByTime(10_000)
  expect(sent.length).toBe(1)
})

it("lets one agent's events into the timeline only so often, and says how many were left out", () => {
  let nowMs = 0
  const said: string[] = []
  const report = createReports(
    (_, message) => void said.push(message),
    () => nowMs,
  )
  for (let at = 0; at < eventRate.max + 7; at++) report("Warning", `event ${at}`)
  expect(said.length).toBe(eventRate.max)
  nowMs += 1000
  report("IterationEnded", "the next")
  report("Warning", "one more")
  nowMs += 1000
  report("IterationEnded", "the one after")
  nowMs += 60_000
  report("IterationEnded", "much later")
  expect(said.slice(eventRate.max)).toEqual([
    "This agent made too many events in a short time: 7 were left out.",
    "the next",
    "the one after",
    "This agent made too many events in a short time: 1 was left out.",
    "much later",
  ])
})
