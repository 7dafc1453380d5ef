import { spawn } from "node:child_process"
import { once } from "node:events"
import { readFileSync } from "node:fs"
import { afterEach, describe, expect, it } from "vitest"
import { endProcesses, freeze, thaw } from "../../src/host/process-signals.ts"
import {
  find,
  instanceVariable,
  isAlive,
  type ProcessMarker,
  processesOfInstance,
  processesOfRun,
  processId,
} from "../../src/host/processes.ts"
import { until } from "./scratch.ts"

describe("the processes of an instance", () => {
  const trees: ProcessMarker[] = []
  const none = new Set<number>()
  const all = (marker: ProcessMarker) => () => find(marker, none)
  afterEach(async () => {
    for (const marker of trees.splice(0)) await endProcesses(marker, none, 0)
  })
  const stateOf = (pid: number): string => {
    try {
      const text = readFileSync(`/proc/${pid}/stat`, "latin1")
      return text.slice(text.lastIndexOf(")") + 2, text.lastIndexOf(")") + 3)
    } catch {
      return "gone"
    }
  }
  let count = 0
  /** A tree as claude makes it: a child, and one in a session of its own whose parent has ended. */
  const tree = (
    script = "sleep 1000 & setsid sh -c 'sleep 1001 & exec sleep 1002' > /dev/null 2>&1 & wait",
    [id, place] = [`u-test-${process.pid}-${++count}`, "p1"],
  ) => {
    const marker = processesOfRun(id, place)
    trees.push(marker)
    const child = spawn("bash", ["-c", script], {
      env: { PATH: process.env.PATH, [instanceVariable]: `${id}/${place}` },
      stdio: "ignore",
      detached: true,
    })
    return { id, marker, child, pids: () => find(marker, none).map(({ pid }) => pid) }
  }
  const commandOf = (pid: number): string => {
    try {
      return readFileSync(`/proc/${pid}/comm`, "utf8").trim()
    } catch {
      return "gone"
    }
  }
  /** Every process has become what it is to be, and waits. */
  const settled = ({ pids }: { pids(): number[] }): boolean =>
    pids().map(commandOf).toSorted().join(" ") === "bash sleep sleep sleep" &&
    pids().every((pid) => stateOf(pid) === "S")
  const whole = 4

  it("are found by their marker, also in another session and without their parent, and nobody else's are", async () => {
    const one = tree()
    // Another run of the same instance, whose place begins alike.
    const other = tree(undefined, [one.id, "p12"])
    const stranger = tree(undefined, [`${one.id}0`, "p1"])
    await until(() => [one, other, stranger].every(settled))
    expect(one.pids().filter((pid) => other.pids().includes(pid))).toEqual([])
    const ofBoth = find(processesOfInstance(one.id), none).map(({ pid }) => pid)
    expect(ofBoth.toSorted()).toEqual([...one.pids(), ...other.pids()].toSorted())

    one.child.kill("SIGKILL")
    await until(() => one.pids().length === whole - 1)
    expect(one.pids().map(commandOf)).toEqual(["sleep", "sleep", "sleep"])
    const [spared = 0, ...rest] = one.pids()
    expect(find(one.marker, new Set([spared])).map(({ pid }) => pid)).toEqual(rest)
  })

  it("are found below one that bears the marker, also when they cleared their environment", async () => {
    const { pids } = tree("env -i sleep 1000 & wait")
    await until(() => pids().map(commandOf).includes("sleep"))
    expect(pids()).toHaveLength(2)
  })

  it("stand still all together, go on, and end all together", async () => {
    const one = tree()
    const bystander = tree()
    await until(() => settled(one) && settled(bystander))
    const { marker, pids } = one
    const known = pids()
    expect(freeze(all(marker))).toBe(true)
    await until(() => known.every((pid) => stateOf(pid) === "T"))
    expect(freeze(all(marker))).toBe(true)
    expect(bystander.pids().map(stateOf)).toEqual(bystander.pids().map(() => "S"))
    thaw(all(marker))
    await until(() => known.every((pid) => stateOf(pid) === "S"))
    expect(freeze(all(marker))).toBe(true)
    // A frozen process takes SIGTERM when it is let go: no grace passes.
    await endProcesses(marker, none, 3600)
    expect(known.map(stateOf).filter((state) => state !== "Z" && state !== "gone")).toEqual([])
    expect(bystander.pids()).toHaveLength(whole)
  })

  it("leave out who is spared", async () => {
    const one = tree()
    await until(() => settled(one))
    const { marker, child } = one
    const spared = new Set([child.pid ?? 0])
    expect(freeze(() => find(marker, spared))).toBe(true)
    expect(stateOf(child.pid ?? 0)).not.toBe("T")
    await endProcesses(marker, spared, 0)
    expect(find(marker, spared)).toEqual([])
  })

  it("that do not listen to SIGTERM are killed after the grace", async () => {
    const { marker, pids } = tree(`trap "" TERM; sleep 1000 & while :; do wait; done`)
    await until(() => pids().length >= 2)
    await endProcesses(marker, none, 0.2)
    expect(pids()).toEqual([])
  })

  it("stand still also while they fork", async () => {
    const { marker, pids } = tree(
      "for one in 1 2 3 4; do while :; do sleep 0.01; done & done; wait",
    )
    await until(() => pids().length >= 5)
    for (let round = 0; round < 30; round++) {
      expect(freeze(all(marker))).toBe(true)
      expect(find(marker, none).map(({ state }) => state)).toEqual(pids().map(() => "T"))
      thaw(all(marker))
    }
  })

  it("are told apart by when they began", async () => {
    const { child } = tree("exec sleep 1000")
    const id = processId(child.pid ?? 0)
    if (!id) throw new Error("it does not run")
    expect(isAlive(id)).toBe(true)
    expect(isAlive({ ...id, startTicks: id.startTicks + 1 })).toBe(false)
    child.kill("SIGKILL")
    await once(child, "exit")
    expect(isAlive(id)).toBe(false)
    expect(processId(id.pid)).toBeUndefined()
  })
})
