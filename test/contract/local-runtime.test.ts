import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { describe, expect, it, vi } from "vitest"
import { observedFrom, type RunEvidence } from "../../src/adapters/local/local-run.ts"
import { createLocalRuntime } from "../../src/adapters/local/runtime.ts"
import { respawnDelayMs } from "../../src/adapters/local/supervisors.ts"
import { Fault } from "../../src/core/faults.ts"
import type { Observed } from "../../src/core/ports.ts"
import { systemClock } from "../../src/host/clock.ts"
import { find, isAlive, processesOfInstance } from "../../src/host/processes.ts"
import { type FileOf, runDirectory } from "../../src/run/run-directory.ts"
import { createRunDirectory, instancesIn, runsOf } from "../../src/run/runs.ts"
import { aSpec, uid } from "./harness.ts"
import { type RuntimeBackend, runtimeContract } from "./runtime.ts"

const supervisor = fileURLToPath(new URL("stand-in-supervisor.ts", import.meta.url))

/** What a launch says besides its command. */
const launch = {
  claude: process.execPath,
  claudeNamed: false,
  environment: {},
  completion: "exit",
  loop: "a stand-in",
} as const

interface LocalBackend extends RuntimeBackend {
  readonly state: string
}

async function openBackend(): Promise<LocalBackend> {
  const state = mkdtempSync(join(tmpdir(), "bb5-runtime-"))
  const reports: unknown[] = []
  const precious = new Set<string>()
  let handle = new AbortController()
  const newest = (of: string) => runDirectory(runsOf(state, of).at(-1) ?? "")
  return {
    state,
    async open() {
      handle.abort()
      handle = new AbortController()
      return createLocalRuntime(
        {
          stateDirectory: state,
          socketPath: join(state, "none"),
          codeRoots: {
            launch({ project }) {
              if (project !== "missing")
                return { command: ["sleep", "600"], directory: state, ...launch }
              throw new Fault("NotFound", `There is no project ${project}.`, "Make it.")
            },
          },
          trees: {
            async settle({ uid: of, spec: { project } }) {
              if (project === "precious") precious.add(of)
              return { own: false, path: state, project: state, autonomous: false }
            },
            clean: async ({ uid: of }) => (precious.has(of) ? "its tree" : undefined),
          },
          clock: systemClock,
          supervisor: [process.execPath, "--disable-warning=ExperimentalWarning", supervisor],
          environment: () => ({ PATH: process.env.PATH }),
          isolation: () => "process tree",
          credential: () => "none",
          report: (_name, error) => void reports.push(error),
        },
        handle.signal,
      )
    },
    processCount: (of) => find(processesOfInstance(of), new Set()).length,
    async endLoop(of) {
      const loop = newest(of).get("loop")
      if (!loop) throw new Error("no loop was started")
      process.kill(loop.pid, "SIGKILL")
    },
    hasTraces: (of) => instancesIn(state).includes(of),
    async [Symbol.asyncDispose]() {
      handle.abort()
      for (const of of instancesIn(state)) {
        const id = newest(of).get("supervisor")
        for (const { pid } of find(processesOfInstance(of), new Set())) process.kill(pid, "SIGKILL")
        if (id && isAlive(id)) process.kill(id.pid, "SIGKILL")
      }
      rmSync(state, { recursive: true, force: true })
      expect(reports).toEqual([])
    },
  }
}

runtimeContract("local processes", openBackend)

/** Programs of this test start at the machine's pace. */
const patient = { timeout: 30_000, interval: 20 }

describe("a run of this machine", () => {
  const exit: FileOf<"exit"> = { exit: { code: 0, atMs: 9 } }
  const failed: FileOf<"exit"> = { ...exit, problem: { reason: "NoClaude", message: "None." } }
  it.each<[string, Partial<RunEvidence>, Partial<Observed>]>([
    ["nothing but its directory", {}, { phase: "Pending" }],
    ["a supervisor without a loop", { isSupervised: true }, { phase: "Pending" }],
    ["a loop", { hasLoop: true, isSupervised: true }, { phase: "Running" }],
    ["a loop whose supervisor died", { hasLoop: true }, { phase: "Running" }],
    ["a stop before the loop", { isStopping: true }, { phase: "Stopping" }],
    ["a stop", { hasLoop: true, isStopping: true }, { phase: "Stopping" }],
    [
      "an exit whose supervisor is not gone yet",
      { hasLoop: true, isSupervised: true, exit: failed },
      { phase: "Stopping" },
    ],
    ["an exit", { hasLoop: true, exit }, { phase: "Exited", exit: exit.exit }],
    [
      "an exit with a problem, although it was told to stop",
      { isStopping: true, exit: failed },
      { phase: "Exited", exit: exit.exit, problem: { reason: "NoClaude", message: "None." } },
    ],
  ])("shows %s as what it is", (_, evidence, shown) => {
    const file = { uid: uid("u"), place: "p", revision: "1-0", startedAtMs: 5, loop: "a loop" }
    const absent = { exit: undefined, hasLoop: false, isStopping: false, isSupervised: false }
    expect(observedFrom({ file, number: 4, ...absent, ...evidence })).toEqual({
      ...file,
      number: 4,
      ...shown,
    })
  })

  it("gets another supervisor when its own is killed, and goes on", async () => {
    await using backend = await openBackend()
    const runtime = await backend.open()
    const of = uid("u-shop")
    await runtime.start({ name: "shop", uid: of, revision: "1-0", number: 1, spec: aSpec() })
    const { get } = runDirectory(runsOf(backend.state, of).at(-1) ?? "")
    const loop = await vi.waitUntil(() => get("loop"), patient)
    const first = get("supervisor")
    process.kill(first?.pid ?? 0, "SIGKILL")
    const second = await vi.waitUntil(() => {
      const now = get("supervisor")
      return now?.pid === first?.pid ? undefined : now
    }, patient)
    expect([second && isAlive(second), isAlive(loop)]).toEqual([true, true])
    expect(await runtime.get("shop")).toMatchObject({ phase: "Running" })
    await runtime.stop("shop", of)
  })

  it("waits longer for each supervisor that died, a minute at most", () => {
    expect([0, 1, 4, 8, 1000].map(respawnDelayMs)).toEqual([250, 500, 4000, 60_000, 60_000])
  })

  it("of before runs had numbers is numbered by the order of its directory's name", async () => {
    await using backend = await openBackend()
    const of = uid("u-shop")
    for (const place of ["0mh1-a", "0mh2-b"])
      createRunDirectory(backend.state, {
        name: "shop",
        uid: of,
        place,
        revision: "1-0",
        startedAtMs: 1,
        mode: "continuous",
        iterationsBefore: 0,
        command: ["-"],
        directory: "-",
        claude: "-",
        isolation: "process tree",
        socketPath: "-",
        credential: "-",
      }).set("exit", { exit: { code: 0, atMs: 2 } })
    const runtime = await backend.open()
    expect(await runtime.get("shop")).toMatchObject({ place: "0mh2-b", number: 2 })
    const next = { name: "shop", uid: of, revision: "1-0", number: 3, spec: aSpec() }
    expect(await runtime.start(next)).toMatchObject({ number: 3 })
  })
})
