/**
 * A supervisor as a runtime sees one, without claude and without a gateway: it starts the loop
 * once, adopts it after a death of its own, and writes the exit file when nothing of the run is
 * left.
 */
import { spawn } from "node:child_process"
import { endProcesses } from "../../src/host/process-signals.ts"
import {
  instanceVariable,
  isAlive,
  type ProcessId,
  processesOfRun,
  processId,
} from "../../src/host/processes.ts"
import { runDirectory } from "../../src/run/run-directory.ts"

const directory = runDirectory(process.argv[2] ?? "")
const run = directory.get("run")
const self = processId(process.pid)
if (!run || !self) throw new Error("this is started on a run directory")
const { uid, place, command } = run

let isEnding = false
const finish = async (code: number): Promise<void> => {
  if (isEnding) return
  isEnding = true
  await endProcesses(processesOfRun(uid, place), new Set([process.pid]), 0)
  directory.set("exit", { exit: { code, atMs: Date.now() } })
  process.exit()
}
const startLoop = (): ProcessId => {
  const [program = "", ...args] = command
  const loop = spawn(program, args, {
    detached: true,
    stdio: "ignore",
    env: { ...process.env, [instanceVariable]: `${uid}/${place}` },
  })
  const id = processId(loop.pid ?? -1)
  if (!id) throw new Error("the loop could not be started")
  directory.set("loop", id)
  return id
}

process.on("SIGTERM", () => void finish(143))
directory.set("supervisor", { ...self, port: 1, token: "none" })
if (directory.get("stop")) await finish(143)
else {
  const loop = directory.get("loop") ?? startLoop()
  // The end of an adopted loop, which is no child, cannot be awaited.
  setInterval(() => {
    if (!isAlive(loop)) void finish(0)
  }, 20)
}
