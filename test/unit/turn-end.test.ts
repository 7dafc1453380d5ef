import { type ChildProcess, spawn } from "node:child_process"
import { once } from "node:events"
import { copyFileSync, mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterEach, describe, expect, it } from "vitest"
import { createClaudeProgram } from "../../src/agent/claude-program.ts"
import { createTurnEnd } from "../../src/agent/turn-end.ts"
import {
  find,
  instanceVariable,
  isAlive,
  type ProcessId,
  processesOfRun,
  processId,
  turnVariable,
} from "../../src/host/processes.ts"
import type { TurnFile } from "../../src/run/run-directory.ts"

/**
 * Which processes are an iteration's, and how they end with it. bash stands for the real claude, of
 * which it is a copy here.
 */

const ends: (() => void)[] = []
afterEach(() => {
  for (const end of ends.splice(0)) end()
})
const temporary = (): string => {
  const path = mkdtempSync(join(tmpdir(), "bb5-turn-"))
  ends.push(() => rmSync(path, { recursive: true, force: true }))
  return path
}
const idOf = ({ pid = 0 }: ChildProcess): ProcessId => {
  const id = processId(pid)
  if (!id) throw new Error(`there is no process ${pid}`)
  return id
}
const start = async (
  command: string,
  args: readonly string[],
  env: Record<string, string> = {},
  argv0 = command,
) => {
  const child = spawn(command, args, {
    argv0,
    env: { PATH: process.env.PATH, ...env },
    stdio: ["pipe", "pipe", "ignore"],
  })
  ends.push(() => child.kill("SIGKILL"))
  await once(child, "spawn")
  return child
}
/** It says when it is there, and reads until it is ended. */
const waits = "echo there; read -r line"
const there = async (child: ChildProcess): Promise<ChildProcess> => {
  if (child.stdout) await once(child.stdout, "data")
  return child
}
const aClaude = (): string => {
  const path = join(temporary(), "claude")
  copyFileSync("/bin/bash", path)
  return path
}

describe("the real claude", () => {
  const runs = (path: string, { pid = 0 }: ChildProcess): boolean => {
    const program = createClaudeProgram()
    program.learn(path)
    return program.isRunBy(pid)
  }

  it("is known under another name, and as a copy; another program under its name is not", async () => {
    const path = aClaude()
    expect(runs(path, await there(await start(path, ["-c", waits])))).toBe(true)
    expect(runs(path, await there(await start(path, ["-c", waits], {}, "innocent")))).toBe(true)
    const copy = join(temporary(), "innocent")
    copyFileSync(path, copy)
    expect(runs(path, await there(await start(copy, ["-c", waits])))).toBe(true)
    expect(runs(path, await start("sleep", ["1000"], {}, path))).toBe(false)
  })

  it("is not meant where it only prints its version", async () => {
    const path = aClaude()
    expect(runs(path, await there(await start(path, ["-c", waits, "--version"])))).toBe(false)
  })

  it("is known where it was replaced while it runs", async () => {
    const path = aClaude()
    const program = createClaudeProgram()
    program.learn(path)
    const { pid = 0 } = await there(await start(path, ["-c", waits]))
    const next = join(temporary(), "next")
    writeFileSync(next, "another version", { mode: 0o755 })
    renameSync(next, path)
    program.learn(path)
    expect(program.isRunBy(pid)).toBe(true)
  })

  it("is known where it is a script, and not by its interpreter", async () => {
    const directory = temporary()
    const path = join(directory, "claude")
    writeFileSync(path, `#!/bin/bash\n${waits}\n`, { mode: 0o755 })
    expect(runs(path, await there(await start(path, ["-p"])))).toBe(true)
    expect(runs(path, await there(await start("/bin/bash", ["-c", waits])))).toBe(false)
  })
})

describe("a turn", () => {
  const uid = "0b4c3d2e-0000-4000-8000-000000000000"
  const run = { [instanceVariable]: `${uid}/place` }
  const ofTurn = { ...run, [turnVariable]: "t-1" }
  /** A claude shim that runs a shell command, and says when that is there. */
  const begun = async (claude: string, command: string, isFrozen = false) => {
    // A command that is last would take the shell's place.
    const shim = await there(
      await start("/bin/sh", ["-c", `${command}\nwait\necho over; read -r answer`], run),
    )
    const warnings: string[] = []
    const ended: number[] = []
    let turn: TurnFile | undefined = {
      ...{
        id: "t-1",
        shim: idOf(shim),
        iteration: 3,
        sinceMs: Date.now(),
        stops: 0,
        offered: [],
      },
    }
    const search = () => find(processesOfRun(uid, "place"), new Set())
    const end = createTurnEnd({
      search,
      below: search,
      self: new Set([process.pid]),
      program: createClaudeProgram(),
      loop: () => undefined,
      claude: () => claude,
      running: () => turn,
      isFrozen: () => isFrozen,
      warn: (message) => void warnings.push(message),
      ended(_, code) {
        turn = undefined
        ended.push(code)
      },
    })
    shim.stdout?.on("data", (said) => {
      if (!String(said).includes("over") || !turn) return
      ended.push(0) // as the real one, it tells how its claude ended, and waits for an answer
      turn = undefined
      shim.stdin?.end("heard\n")
    })
    return { end, turn, shim, warnings, ended, search }
  }

  it("is over at once when its claude is gone, whatever else it left", async () => {
    const server = await start("sleep", ["1000"], ofTurn)
    const { end, turn, warnings } = await begun(aClaude(), "echo there; read -r line")
    let concluded = 0
    const said = end.said(turn, () => concluded++)
    expect(concluded).toBe(1)
    await said
    expect(warnings).toEqual([])
    expect(isAlive(idOf(server))).toBe(true)
  })

  it("is not over while its claude runs: that one is ended, and its claude shim tells how", async () => {
    const claude = aClaude()
    const { end, turn, shim, warnings, ended, search } = await begun(
      claude,
      `${claude} -c 'echo there; read -r line; read -r line'`,
    )
    const before = search().length
    let concluded = 0
    const gone = once(shim, "exit")
    await Promise.all([end.said(turn, () => concluded++), end.said(turn, () => concluded++)])
    await gone
    expect(before).toBeGreaterThan(1)
    expect(search()).toEqual([])
    expect([concluded, ended]).toEqual([0, [0]])
    expect(warnings).toEqual([
      "Something reported the end of iteration 3 while its claude was still running; that claude was ended.",
    ])
  })

  it("takes a frozen claude with it, which cannot end by itself", async () => {
    const claude = aClaude()
    const { end, turn, shim, search } = await begun(
      claude,
      `trap '' TERM; ${claude} -c 'echo there; kill -STOP $$; read -r line'`,
      true,
    )
    const gone = once(shim, "exit")
    await end.said(turn, () => {})
    await gone
    expect(search()).toEqual([])
  })

  it("takes a claude with it that it left behind, and concludes", async () => {
    const claude = aClaude()
    const left = await there(await start(claude, ["-c", waits], ofTurn))
    const other = await there(await start("/bin/sh", ["-c", waits], ofTurn))
    const { end, turn, warnings } = await begun(claude, "echo there; read -r line")
    let concluded = 0
    const gone = once(left, "exit")
    await end.said(turn, () => concluded++)
    await gone
    expect(concluded).toBe(1)
    expect(warnings).toEqual(["Iteration 3 left a claude running; it was ended."])
    expect(isAlive(idOf(other))).toBe(true)
  })

  it("ends with a process that asked for it and is no claude shim, when it is ended from outside", async () => {
    const { end, turn, shim, ended } = await begun(
      aClaude(),
      "trap '' TERM; echo there; read -r line; read -r line",
    )
    const gone = once(shim, "exit")
    await end.force(turn)
    await gone
    expect(ended).toEqual([137])
  }, 30_000)

  it("is not needed for what an earlier one left: a claude of that one is ended", async () => {
    const claude = aClaude()
    const { end, warnings } = await begun(claude, "echo there; read -r line")
    const late = await there(await start(claude, ["-c", waits], { ...run, [turnVariable]: "t-0" }))
    const now = await there(await start(claude, ["-c", waits], ofTurn))
    const gone = once(late, "exit")
    end.sweep()
    end.sweep()
    await gone
    expect(isAlive(idOf(now))).toBe(true)
    expect(warnings).toEqual([
      "Something that an iteration left behind started claude without a turn; it was ended.",
    ])
  })
})
