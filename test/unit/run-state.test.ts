import { describe, expect, it } from "vitest"
import {
  type FoundRun,
  grantedTurn,
  initialState,
  isFrozen,
  type RunInput,
  type RunState,
} from "../../src/agent/run-state.ts"
import { beatMs, step } from "../../src/agent/run-step.ts"
import type { Directive } from "../../src/core/directive.ts"
import type { TurnFile } from "../../src/run/run-directory.ts"

const turn: TurnFile = {
  id: "t-1",
  shim: { pid: 7, startTicks: 7 },
  iteration: 1,
  sinceMs: 0,
  stops: 0,
  offered: [],
}
const granted = { id: "t-1", grantedAtMs: 10 }
const goOn: Directive = { orders: [], turn: granted }
const noTurn: Directive = { orders: [] }
const otherTurn: Directive = { orders: [], turn: { id: "t-2", grantedAtMs: 20 } }
const pause: Directive = { orders: [], turn: granted, freeze: "Paused" }

const directive = (wanted: Directive, runningTurn?: string): RunInput => ({
  type: "directive",
  directive: wanted,
  runningTurn,
})
const opened = (found: { launchLost?: boolean; stopRequested?: boolean } = {}): RunInput => ({
  type: "opened",
  launchLost: false,
  stopRequested: false,
  ...found,
})
const treePrepared: RunInput = { type: "treePrepared", problem: undefined }
const loopStarted: RunInput = { type: "loopStarted" }
const stop: RunInput = { type: "stopRequested" }
const replaced: RunInput = { type: "replaced" }
const portTaken: RunInput = { type: "portTaken", cause: "EADDRINUSE" }
const rivalFound: RunInput = { type: "rivalFound" }
const problem = { reason: "WorkTree", message: "No branch main." }
const look = (nowMs: number): RunInput => ({ type: "look", nowMs })
const loopEnded = (
  code: number,
  facts: Partial<Extract<RunInput, { type: "loopEnded" }>> = {},
): RunInput => ({
  type: "loopEnded",
  code,
  hasRunClaude: true,
  lastOutcome: "PARTIAL",
  isUncontrolled: false,
  ...facts,
})
const iterationEnded = (
  end: Partial<Extract<RunInput, { type: "iterationEnded" }>["end"]> = {},
): RunInput => ({
  type: "iterationEnded",
  end: { code: 0, failed: false, waits: false, text: "Done.", ...end },
})
const turnRequested = (
  request: Partial<Extract<RunInput, { type: "turnRequested" }>> = {},
): RunInput => ({ type: "turnRequested", isKnown: false, lastOutcome: "COMPLETE", ...request })

const found = (facts: Partial<FoundRun> = {}): FoundRun => ({
  terms: { mode: "until-complete", completion: "marker" },
  hasLoop: false,
  standsStill: false,
  lastDirective: undefined,
  nowMs: 0,
  ...facts,
})
/** What a run becomes after these inputs, and what the last of them has done. */
function runAfter(
  facts: Partial<FoundRun>,
  ...inputs: readonly RunInput[]
): { readonly state: RunState; readonly effects: readonly string[]; readonly did: unknown } {
  let state: RunState = initialState(found(facts))
  let did: ReturnType<typeof step>[1] = []
  for (const input of inputs) [state, did] = step(state, input)
  return { state, effects: did.map(({ type }) => type), did }
}
const started = [opened(), treePrepared, loopStarted]
const adopted = { hasLoop: true }
const stopped = { hasLoop: true, standsStill: true }
const exitOf = (state: RunState): unknown => state.phase === "ending" && state.exit
const problemOf = (state: RunState): string | undefined =>
  state.phase === "ending" ? state.problem?.reason : undefined

describe("a run is found", () => {
  it.each<[string, Partial<FoundRun>, RunState["phase"], boolean]>([
    ["without a loop", {}, "preparing", false],
    ["without a loop, whatever stands still", { standsStill: true }, "preparing", false],
    ["with a loop, a process of which runs", adopted, "running", false],
    ["with a loop, every process of which stands still", stopped, "frozen", true],
  ])("%s", (_, facts, phase, frozen) => {
    const { state } = runAfter(facts)
    expect([state.phase, isFrozen(state), grantedTurn(state)]).toEqual([phase, frozen, undefined])
  })

  it.each<[string, Partial<FoundRun>, RunInput, string, readonly string[], unknown]>([
    ["new, so its tree is made", {}, opened(), "preparing", ["prepareTree"], false],
    ["adopted, so its tree is looked at", adopted, opened(), "running", ["inspectTree"], false],
    ["adopted and frozen", stopped, opened(), "frozen", ["inspectTree"], false],
    [
      "with a launch of which nobody knows the process",
      {},
      opened({ launchLost: true }),
      "ending",
      ["endRun"],
      { code: 137 },
    ],
    [
      "stopped before its loop was started",
      {},
      opened({ stopRequested: true }),
      "ending",
      ["endRun"],
      { code: 143 },
    ],
    [
      "stopped while no supervisor was there",
      stopped,
      opened({ stopRequested: true }),
      "ending",
      ["endRun"],
      { code: 143 },
    ],
    ["with its port taken", adopted, portTaken, "ending", ["endRun"], { code: 75 }],
  ])("%s", (_, facts, input, phase, effects, exit) => {
    const { state, ...rest } = runAfter(facts, input)
    expect([state.phase, rest.effects, exitOf(state)]).toEqual([phase, effects, exit])
  })
})

describe("a loop", () => {
  it.each<[string, readonly RunInput[], string, readonly string[]]>([
    ["is started once its tree is made", [opened(), treePrepared], "preparing", ["startLoop"]],
    ["runs once it is started", started, "running", []],
    [
      "stands still from its start where the fleet had frozen the run",
      [opened(), directive(pause), treePrepared, loopStarted],
      "frozen",
      ["freeze", "countStandstill"],
    ],
    [
      "runs from its start where the fleet let the run go on again",
      [opened(), directive(pause), directive(noTurn), treePrepared, loopStarted],
      "running",
      [],
    ],
    ["is not started once the run is stopped", [opened(), stop, treePrepared], "ending", []],
    [
      "is left to a rival that started it first",
      [...started.slice(0, 2), rivalFound],
      "ended",
      ["leave"],
    ],
    ["is not started a second time", [...started, treePrepared], "running", []],
  ])("%s", (_, inputs, phase, effects) => {
    const { state, ...rest } = runAfter({}, ...inputs)
    expect([state.phase, rest.effects]).toEqual([phase, effects])
  })

  it.each<[string, readonly RunInput[]]>([
    ["tree", [opened(), { type: "treePrepared", problem }]],
    ["loop", [opened(), treePrepared, { type: "loopNotStarted", problem }]],
  ])("that cannot be started for its %s ends the run with that problem", (_, inputs) => {
    const { state } = runAfter({}, ...inputs)
    expect([exitOf(state), problemOf(state)]).toEqual([{ code: 127 }, "WorkTree"])
  })
})

describe("a directive", () => {
  const fresh = ["keepDirective"]
  const change = ["countStandstill", "beat"]
  it.each<[string, Partial<FoundRun>, readonly RunInput[], string, readonly string[]]>([
    [
      "that freezes stops a running loop",
      {},
      [...started, directive(goOn, "t-1"), directive(pause, "t-1")],
      "frozen",
      [...fresh, "freeze", ...change, "reportChange"],
    ],
    [
      "without the running turn stops it",
      {},
      [...started, directive(goOn, "t-1"), directive(noTurn, "t-1")],
      "frozen",
      [...fresh, "freeze", ...change, "reportChange"],
    ],
    [
      "with another turn than the running one stops it",
      {},
      [...started, directive(goOn, "t-1"), directive(otherTurn, "t-1")],
      "frozen",
      [...fresh, "freeze", ...change, "reportChange"],
    ],
    [
      "without a turn leaves a loop alone between iterations",
      {},
      [...started, directive(goOn), directive(noTurn)],
      "running",
      [...fresh, "grantTurn", "reportChange"],
    ],
    [
      "that says nothing new only grants again",
      {},
      [...started, directive(goOn, "t-1"), directive(goOn, "t-1")],
      "running",
      ["grantTurn"],
    ],
    [
      "that freezes again signals nobody again",
      {},
      [...started, directive(pause, "t-1"), directive(pause, "t-1")],
      "frozen",
      [],
    ],
    [
      "that freezes no more lets it go on",
      {},
      [...started, directive(pause, "t-1"), directive(goOn, "t-1")],
      "running",
      [...fresh, "thaw", ...change, "grantTurn", "reportChange"],
    ],
    [
      "acts on an inherited loop that seems to run as wanted",
      adopted,
      [opened(), directive(goOn, "t-1")],
      "running",
      [...fresh, "thaw", "grantTurn", "reportChange"],
    ],
    [
      "acts on an inherited loop that seems to stand still as wanted",
      stopped,
      [opened(), directive(pause, "t-1")],
      "frozen",
      [...fresh, "freeze", "reportChange"],
    ],
    [
      "acts on an inherited loop also when it is what the predecessor was told",
      { ...stopped, lastDirective: goOn },
      [opened(), directive(goOn, "t-1")],
      "running",
      ["thaw", ...change, "grantTurn", "reportChange"],
    ],
    [
      "acts on an inherited loop once",
      adopted,
      [opened(), directive(goOn, "t-1"), directive(goOn, "t-1")],
      "running",
      ["grantTurn"],
    ],
    [
      "is remembered before the loop is there",
      {},
      [opened(), directive(pause)],
      "preparing",
      [...fresh, "beat", "reportChange"],
    ],
    [
      "is only kept once the end is decided",
      {},
      [...started, stop, directive(pause, "t-1")],
      "ending",
      fresh,
    ],
  ])("%s", (_, facts, inputs, phase, effects) => {
    const { state, ...rest } = runAfter(facts, ...inputs)
    expect([state.phase, rest.effects]).toEqual([phase, effects])
  })

  it("of a predecessor grants nothing to its successor", () => {
    const { state, effects } = runAfter({ ...adopted, lastDirective: goOn }, opened(), {
      type: "iterationsChanged",
    })
    expect([grantedTurn(state), effects]).toEqual([undefined, ["reportChange"]])
    const next = runAfter({ ...adopted, lastDirective: goOn }, opened(), directive(goOn)).state
    expect(grantedTurn(next)).toEqual(granted)
  })

  it.each<[string, readonly RunInput[], readonly string[]]>([
    ["running", [...started, directive(goOn)], ["reportChange", "grantTurn"]],
    ["frozen", [...started, directive(pause)], ["reportChange"]],
    ["ending", [...started, directive(goOn), stop], ["reportChange"]],
  ])("grants a turn that is asked for later while the run is %s", (_, inputs, effects) => {
    expect(runAfter({}, ...inputs, { type: "iterationsChanged" }).effects).toEqual(effects)
  })
})

describe("a freeze that did not stop every process", () => {
  const frozen = [...started, directive(pause, "t-1")]
  const failed: RunInput = { type: "processesFrozen", all: false }

  it("is told to people once and tried again with each beat", () => {
    expect(runAfter({}, ...frozen, failed).effects).toEqual(["warn"])
    const again = runAfter({}, ...frozen, failed, look(beatMs))
    expect(again.effects).toContain("freeze")
    expect(runAfter({}, ...frozen, failed, look(beatMs), failed).effects).toEqual([])
    expect(runAfter({}, ...frozen, failed, look(beatMs), look(2 * beatMs)).effects).toContain(
      "freeze",
    )
  })

  it("is told again when it happens in another pause", () => {
    const paused = [...frozen, failed, directive(goOn, "t-1"), directive(pause, "t-1")]
    expect(runAfter({}, ...paused, failed).effects).toEqual(["warn"])
  })

  it("is nobody's concern once the processes may go on", () => {
    expect(runAfter({}, ...frozen, directive(goOn, "t-1"), failed).effects).toEqual([])
  })
})

describe("a look", () => {
  const running = [...started, directive(goOn)]
  const frozen = [...started, directive(pause)]
  const lookRunning = ["findLoopExit", "findLateTurn", "findOrphan", "retryDisk", "followClock"]
  const lookFrozen = ["findLoopExit", "findOrphan", "retryDisk", "followClock"]
  it.each<[string, readonly RunInput[], readonly string[]]>([
    ["at a tree that is being made", [opened(), look(1)], ["retryDisk", "followClock"]],
    ["at a loop of which the fleet has said nothing", [...started, look(1)], lookRunning],
    ["at a running loop", [...running, look(1)], [...lookRunning, "grantTurn"]],
    [
      "at a running loop, after five seconds",
      [...running, look(beatMs)],
      [...lookRunning, "grantTurn", "sweep", "beat"],
    ],
    [
      "at a running loop, just after a beat",
      [...running, look(beatMs), look(beatMs + 1)],
      [...lookRunning, "grantTurn"],
    ],
    ["at a frozen loop, whose iteration is never late", [...frozen, look(1)], lookFrozen],
    [
      "at a frozen loop, after five seconds",
      [...frozen, look(beatMs)],
      [...lookFrozen, "freeze", "beat"],
    ],
    ["at a run that ends", [...running, stop, look(beatMs)], []],
  ])("%s", (_, inputs, effects) => {
    expect(runAfter({}, ...inputs).effects).toEqual(effects)
  })
})

describe("an iteration that must be ended from outside", () => {
  const toEnd = (why: "unheard" | "overdue" | "orphaned", id = "t-1"): RunInput => ({
    type: "turnToEnd",
    turn: { ...turn, id },
    why,
  })
  const running = [...started, directive(goOn, "t-1")]

  it.each(["unheard", "overdue", "orphaned"] as const)("because it is %s is ended", (why) => {
    expect(runAfter({}, ...running, toEnd(why)).did).toEqual([{ type: "endTurn", turn }])
  })

  it("because its shim died is ended once, also while it stands still", () => {
    expect(runAfter({}, ...running, toEnd("orphaned"), toEnd("orphaned")).effects).toEqual([])
    const paused = [...running, directive(pause, "t-1")]
    expect(runAfter({}, ...paused, toEnd("orphaned")).effects).toEqual(["endTurn"])
    expect(
      runAfter({}, ...running, toEnd("orphaned"), directive(pause, "t-1"), toEnd("orphaned"))
        .effects,
    ).toEqual([])
    expect(runAfter({}, ...running, toEnd("orphaned"), toEnd("orphaned", "t-2")).effects).toEqual([
      "endTurn",
    ])
  })

  it("goes with all the others where the run ends", () => {
    expect(runAfter({}, ...running, stop, toEnd("orphaned")).effects).toEqual([])
  })
})

describe("the end of a run", () => {
  const once = { terms: { mode: "once" } } as const
  const continuous = { terms: { mode: "continuous", completion: "marker" } } as const
  const byExit = { terms: { mode: "until-complete", completion: "exit" } } as const
  const complete = { code: 0, outcome: "Complete" }

  it.each<[string, Partial<FoundRun>, RunInput, unknown, string | undefined]>([
    ["once, by its iteration", once, iterationEnded(), complete, undefined],
    [
      "once, by an iteration that failed",
      once,
      iterationEnded({ code: 1, failed: true }),
      { code: 1, outcome: "Failed" },
      "IterationFailed",
    ],
    [
      "once, not by an iteration that waits",
      once,
      iterationEnded({ waits: true }),
      false,
      undefined,
    ],
    ["until complete, not by an iteration", {}, iterationEnded(), false, undefined],
    ["continuous, not by an iteration", continuous, iterationEnded(), false, undefined],
    [
      "until complete, by a marker",
      {},
      loopEnded(3, { lastOutcome: "COMPLETE" }),
      { code: 3, outcome: "Complete" },
      undefined,
    ],
    [
      "until complete, not by exit code 0 without the marker",
      {},
      loopEnded(0),
      { code: 0 },
      undefined,
    ],
    [
      "until complete, by exit code 0 where that decides",
      byExit,
      loopEnded(0),
      complete,
      undefined,
    ],
    ["until complete, not by exit code 1", byExit, loopEnded(1), { code: 1 }, undefined],
    [
      "until complete, not by a loop without hooks",
      {},
      loopEnded(0, { lastOutcome: "COMPLETE", isUncontrolled: true }),
      { code: 0 },
      undefined,
    ],
    [
      "continuous, never complete",
      continuous,
      loopEnded(0, { lastOutcome: "COMPLETE" }),
      { code: 0 },
      undefined,
    ],
    ["that ran no claude", {}, loopEnded(0, { hasRunClaude: false }), { code: 0 }, "RanNoClaude"],
    ["by a loop that asks again when all is done", {}, turnRequested(), complete, undefined],
    [
      "not by a claude that asks again while it waits",
      {},
      turnRequested({ isKnown: true }),
      false,
      undefined,
    ],
    [
      "not by the next turn after a partial one",
      {},
      turnRequested({ lastOutcome: "PARTIAL" }),
      false,
      undefined,
    ],
    ["not by the next turn where the exit code decides", byExit, turnRequested(), false, undefined],
    ["not by the next turn of a continuous one", continuous, turnRequested(), false, undefined],
    ["by a stop", {}, stop, { code: 143 }, undefined],
    ["by another place", {}, replaced, { code: 143 }, undefined],
  ])("%s", (_, facts, input, exit, reason) => {
    const { state } = runAfter(facts, ...started, directive(goOn, "t-1"), input)
    expect([exitOf(state), problemOf(state)]).toEqual([exit, reason])
  })

  it("tells why its only iteration failed", () => {
    const { did } = runAfter(
      once,
      ...started,
      iterationEnded({ code: 1, failed: true, text: "No." }),
    )
    expect(did).toEqual([
      { type: "judgeIteration" },
      {
        type: "endRun",
        exit: { code: 1, outcome: "Failed" },
        problem: { reason: "IterationFailed", message: "Its only iteration failed: No." },
      },
    ])
  })

  it.each<[string, RunInput]>([
    ["stopped again", stop],
    ["replaced", replaced],
    ["without its port", portTaken],
    ["without its loop", loopEnded(1)],
    ["asked for a turn", turnRequested()],
    ["found to be a rival's", rivalFound],
    ["opened", opened({ stopRequested: true })],
  ])("is decided once, also when it is %s", (_, input) => {
    const { state, effects } = runAfter({}, ...started, stop, input)
    expect([state.phase, exitOf(state), effects]).toEqual(["ending", { code: 143 }, []])
  })

  it("that is asked for while all stands still leaves what a beat says of it", () => {
    const { state, effects } = runAfter({}, ...started, directive(pause, "t-1"), stop)
    expect([state.phase, isFrozen(state), effects]).toEqual(["ending", true, ["endRun"]])
  })

  it("still judges the iteration that ends with it", () => {
    expect(runAfter({}, ...started, stop, iterationEnded()).effects).toEqual(["judgeIteration"])
  })

  it("is over when everything is said and written, and nothing follows any more", () => {
    const ended = [...started, directive(goOn), stop, { type: "finished" } as const]
    for (const input of [stop, look(beatMs), loopEnded(0), directive(goOn)]) {
      const { state, effects } = runAfter({}, ...ended, input)
      expect([state.phase, effects]).toEqual(["ended", []])
    }
  })
})
