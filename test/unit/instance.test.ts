import { describe, expect, it } from "vitest"
import { isUpcomingRun, type Run } from "../../src/core/instance.ts"
import { aRun } from "../contract/harness.ts"

const former = aRun({ place: "here" })
const numbered = aRun({ place: "here", number: 10 })

describe("a run whose supervisor connects", () => {
  it.each<[string, { place: string; number?: number }, Run | undefined, boolean]>([
    ["no run is known yet", { place: "there", number: 1 }, undefined, true],
    ["a later run", { place: "a", number: 11 }, numbered, true],
    ["an earlier run, whatever its place is called", { place: "z", number: 9 }, numbered, false],
    ["the known run, which has exited", { place: "here", number: 10 }, numbered, false],
    ["a run of before runs had numbers", { place: "z" }, numbered, false],
    ["the first run with a number", { place: "a", number: 3 }, former, true],
    ["two runs without a number: the operator has not written yet", { place: "z" }, former, true],
    ["the known run without a number, which has exited", { place: "here" }, former, false],
  ])("may still be shown in the status: %s", (_, run, known, upcoming) => {
    expect(isUpcomingRun(run, known)).toBe(upcoming)
  })
})
