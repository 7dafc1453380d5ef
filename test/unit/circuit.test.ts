import { describe, expect, it } from "vitest"
import type { Last } from "../../src/core/beat.ts"
import { type Circuit, closed, errorsMax, idleMax, judgeCircuit } from "../../src/core/circuit.ts"

interface Ended {
  readonly outcome?: Last["outcome"]
  readonly text?: string
  readonly commits?: number | "unknown"
  readonly waits?: boolean
}
/** After which of these iterations it is open. */
function opens(ended: readonly Ended[]): readonly number[] {
  let circuit: Circuit = closed
  return ended.flatMap(({ outcome = "NONE", text = "", commits = 0, waits = false }, index) => {
    const after = judgeCircuit(
      circuit,
      { outcome, text, atMs: 0 },
      commits === "unknown" ? undefined : commits,
      waits,
    )
    circuit = after.circuit
    return after.hold ? [index + 1] : []
  })
}
const times = (count: number, one: Ended): Ended[] => Array.from({ length: count }, () => one)
const failed = { outcome: "FAILED", text: "exit code 1" } as const

describe("the circuit", () => {
  it.each<[string, readonly Ended[], readonly number[]]>([
    [
      "opens at the fifth failure of one kind, and again after each trial that fails",
      times(7, failed),
      [5, 6, 7],
    ],
    [
      "stays closed while each fails in another way",
      times(9, failed).map((one, at) => ({ ...one, text: `error ${at}` })),
      [],
    ],
    [
      "closes with an iteration that ends well",
      [...times(5, failed), { outcome: "PARTIAL" }, ...times(4, failed)],
      [5],
    ],
    ["opens when ten bring nothing", times(11, {}), [10, 11]],
    [
      "counts commits as progress",
      Array.from({ length: 30 }, (_, at) => ({ commits: Math.floor(at / 5) })),
      [],
    ],
    ["says nothing of progress without git", times(30, { commits: "unknown" }), []],
    [
      "without git it opens at the fifth failure",
      times(6, { ...failed, commits: "unknown" }),
      [5, 6],
    ],
    [
      "tells the answers of the API apart",
      [
        "404 no such model",
        "413 too large",
        "401 no such key",
        "exit code 137",
        "500 internal",
      ].map((text) => ({
        ...failed,
        text,
      })),
      [],
    ],
    [
      "takes numbers of requests, sizes and sessions for no difference",
      [1, 2, 3, 4, 5].map((at) => ({
        ...failed,
        text: `400: prompt is too long: 20${at}000 > 200000 (request req_0${at}Ab, session 1b4e28ba-2fa1-11d2-883f-0016d3cca42${at})`,
      })),
      [5],
    ],
    ["takes no blame for a rate limit", times(20, { ...failed, waits: true }), []],
    ["takes a blocked one for an answer", times(20, { outcome: "BLOCKED" }), []],
  ])("%s", (_name, ended, open) => {
    expect(opens(ended)).toEqual(open)
  })

  it("says why, and until when", () => {
    let circuit: Circuit = closed
    let hold: ReturnType<typeof judgeCircuit>["hold"]
    for (let count = 0; count < errorsMax; count++)
      ({ circuit, hold } = {
        hold: undefined,
        ...judgeCircuit(
          circuit,
          { outcome: "FAILED", text: "no such\nflag", atMs: 1000 },
          0,
          false,
        ),
      })
    expect(hold).toEqual({
      reason: "CircuitOpen",
      message: '5 iterations in a row failed in the same way: "no such flag".',
      untilMs: 1000 + 1_800_000,
    })
    expect(idleMax).toBe(10)
  })
})
