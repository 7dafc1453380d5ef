import { spawn } from "node:child_process"
import { mkdtempSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterEach, describe, expect, it } from "vitest"
import { planView } from "../../src/host/agent-view.ts"
import { nothingGuarded } from "../../src/host/guarded.ts"
import { type IsolationKind, isolated, scratchOf } from "../../src/host/isolation.ts"
import { probeIsolation } from "../../src/host/isolation-probe.ts"
import { createCensus, treeSearch } from "../../src/host/process-search.ts"
import { endProcesses, freeze, thaw } from "../../src/host/process-signals.ts"
import {
  find,
  instanceVariable,
  type ProcessId,
  type ProcessMarker,
  processesOfRun,
  processId,
} from "../../src/host/processes.ts"

const none = new Set<number>()
const markers: ProcessMarker[] = []
const directories: string[] = []
afterEach(async () => {
  for (const marker of markers.splice(0)) await endProcesses(marker, none, 0)
  for (const path of directories.splice(0)) rmSync(path, { recursive: true, force: true })
})
const until = async (holds: () => boolean): Promise<void> => {
  while (!holds()) await new Promise((resolve) => setTimeout(resolve, 5))
}
let count = 0
/** A loop as a supervisor starts it, in the strongest isolation that works here. */
async function loop(script: string) {
  const state = mkdtempSync(join(tmpdir(), "bb5-search-"))
  directories.push(state)
  const kind: IsolationKind = (
    await probeIsolation({ stateDirectory: state, guarded: nothingGuarded })
  ).kind
  const id = `u-search-${process.pid}-${++count}`
  const marker = processesOfRun(id, "p1")
  markers.push(marker)
  const view = planView({
    stateDirectory: state,
    scratch: scratchOf(state),
    guarded: nothingGuarded,
    work: [],
  })
  const command = isolated(kind, ["bash", "-c", script], {
    stateDirectory: state,
    directory: "/",
    graceSeconds: 0,
    view,
  })
  const env = { PATH: process.env.PATH, [instanceVariable]: `${id}/p1` }
  // A wrapper above the isolation, as the supervisor's own.
  const child = spawn("sh", ["-c", '"$@"; exit $?', "wrapper", ...command], {
    env,
    stdio: "ignore",
    detached: true,
  })
  const root = processId(child.pid ?? 0)
  const search = treeSearch(marker, none, () => root, [])
  const names = (): string[] =>
    find(marker, none)
      .map(({ pid }) => {
        try {
          return readFileSync(`/proc/${pid}/cmdline`, "latin1").replaceAll("\0", " ").trim()
        } catch {
          return "gone"
        }
      })
      .filter((name) => name.startsWith("sleep"))
  return {
    id,
    kind,
    marker,
    child,
    root,
    search,
    names,
    pids: (): number[] => [...search()].map(({ pid }) => pid),
  }
}
const sorted = (all: readonly ProcessId[]): number[] =>
  all.map(({ pid }) => pid).toSorted((a, b) => a - b)

describe("the search below a loop", () => {
  it("finds what the look at all of the machine finds: background commands, daemons without parent and environment", async () => {
    const one = await loop(
      "sleep 1001 & env -i setsid -f sleep 1002; (setsid sleep 1003 &) ; sleep 1000; :",
    )
    await until(() => one.names().length === (one.kind === "process tree" ? 3 : 4))
    await until(() => sorted([...one.search()]).join() === sorted(find(one.marker, none)).join())
    expect(one.pids().length).toBeGreaterThan(4)
  })

  it("freezes and lets go all of it, also while it forks", async () => {
    const one = await loop("for one in 1 2 3 4; do while :; do sleep 0.01; done & done; wait")
    await until(() => one.pids().length >= 7)
    for (let round = 0; round < 20; round++) {
      expect(freeze(one.search)).toBe(true)
      // D: a shell that waits for a child of its vfork, which is stopped.
      expect(find(one.marker, none).filter(({ state }) => state !== "T" && state !== "D")).toEqual(
        [],
      )
      thaw(one.search)
    }
  })

  it("finds all when the loop itself is gone, and ends what nobody has ever found before", async () => {
    const one = await loop("trap '' TERM; sleep 1000 & wait; wait; wait")
    await until(() => one.names().includes("sleep 1000"))
    one.child.kill("SIGKILL")
    await until(() => one.child.signalCode !== null)
    expect(sorted([...one.search()])).toEqual(sorted(find(one.marker, none)))
    await endProcesses(one.marker, none, 0.1, one.search)
    expect(find(one.marker, none)).toEqual([])
  })

  it("goes on below those that it knows when their parents end before them", async () => {
    const one = await loop("trap '' TERM; sleep 1000 & sleep 1001 & wait; wait; wait")
    await until(() => one.names().length === 2)
    expect(one.pids().length).toBeGreaterThan(2)
    await endProcesses(one.marker, none, 0.3, one.search)
    expect(find(one.marker, none)).toEqual([])
  })

  it("finds a program that this process runs for the agent, and nothing else of this process", async () => {
    const one = await loop("sleep 1000; :")
    const bystander = spawn("sleep", ["1009"], { stdio: "ignore" })
    const program = spawn("sleep", ["1008"], {
      stdio: "ignore",
      env: { PATH: process.env.PATH, [instanceVariable]: `${one.id}/p1` },
    })
    await until(() => one.names().length === 2)
    expect(one.pids()).toContain(program.pid)
    expect(one.pids()).not.toContain(bystander.pid)
    bystander.kill("SIGKILL")
  })
})

describe("the census", () => {
  it("knows who has processes, in one look for all who ask before it begins", async () => {
    const looks: PromiseWithResolvers<ReadonlySet<string>>[] = []
    const census = createCensus(() => {
      const look = Promise.withResolvers<ReadonlySet<string>>()
      looks.push(look)
      return look.promise
    })
    const first = [census(), census()]
    await until(() => looks.length === 1)
    // What began after they asked alone may answer them.
    const later = Array.from({ length: 1000 }, census)
    looks[0]?.resolve(new Set(["u-1"]))
    expect(await Promise.all(first)).toEqual([new Set(["u-1"]), new Set(["u-1"])])
    await until(() => looks.length === 2)
    looks[1]?.reject(new Error("no /proc"))
    expect((await Promise.allSettled(later)).every(({ status }) => status === "rejected")).toBe(
      true,
    )
    const again = census()
    await until(() => looks.length === 3)
    looks[2]?.resolve(new Set())
    expect(await again).toEqual(new Set())
  })

  it("sees a real one, and forgets it with its end", async () => {
    const one = await loop("sleep 1000; :")
    const census = createCensus()
    await until(() => one.names().length === 1)
    expect((await census()).has(one.id)).toBe(true)
    await endProcesses(one.marker, none, 0)
    expect((await census()).has(one.id)).toBe(false)
  })
})
