import { setTimeout as sleep } from "node:timers/promises"
import { processesOf, type World } from "../e2e/world.ts"
import { startChild } from "./child.ts"
import { median, type Part, quantile, row } from "./measure.ts"
import { cpuMs, residentMebibytes } from "./process.ts"
import { allConnected, type Fleet, openLoops } from "./worlds.ts"

/** The issue's own number of idle instances. */
const count = 100
const settleMs = 5_000
const windowMs = 10_000
const recoveries = 5
const supervisorMebibytesMax = 60
const supervisorPercentMax = 0.5
const servePercentMax = 2
const recoveryMsMax = 2000

const loopScript = `#!/usr/bin/env bash\necho up\nexec sleep 100000\n`

const supervisorsOf = ({ directory }: World): readonly number[] =>
  processesOf(directory)
    .filter(({ command }) => /main\.js agent/.test(command))
    .map(({ pid }) => pid)

/** Percent of one processor that each process used in the window. */
async function percents(pids: readonly number[]): Promise<readonly number[]> {
  const before = pids.map(cpuMs)
  await sleep(windowMs)
  return pids.map((pid, index) => ((cpuMs(pid) - (before[index] ?? 0)) / windowMs) * 100)
}

/** From the kill until a client's call is answered again and every supervisor is connected. */
async function recover(fleet: Fleet): Promise<number> {
  process.kill(fleet.world.servePid(), "SIGKILL")
  const killedMs = performance.now()
  for (;;) {
    const connected = await allConnected(fleet, count).catch(() => false) // nobody answers yet
    const ms = performance.now() - killedMs
    if (connected) return ms
    if (ms > 60_000) throw new Error("the control plane did not come back within 60 s")
    await sleep(5)
  }
}

/**
 * A hundred loops that sleep: what their supervisors and the control plane cost, and how long it is
 * away when it is killed.
 */
export const idlePart: Part = {
  ids: ["supervisor.rss", "supervisor.cpu", "serve.rss", "serve.cpu", "serve.recovery"],
  async measure() {
    await using fleet = await openLoops(count, loopScript)
    await using bare = startChild(
      process.execPath,
      ["-e", "process.stdin.resume()"],
      fleet.world.env,
    )
    await sleep(settleMs)
    const supervisors = supervisorsOf(fleet.world)
    const serve = fleet.world.servePid()
    const used = await percents([serve, ...supervisors])
    const [serveCpu = 0, ...each] = used
    const rss = median(supervisors.map(residentMebibytes))
    const cpu = median(each)
    const serveRss = residentMebibytes(serve)
    const baseline = residentMebibytes(bare.pid)
    const ms: number[] = []
    for (let round = 0; round < recoveries; round++) {
      ms.push(await recover(fleet))
      await sleep(settleMs / 2)
    }
    const recovery = quantile(ms, 1)
    return [
      row("supervisor.rss", "MiB", rss, {
        baseline,
        goal: `<= ${supervisorMebibytesMax} MiB`,
        holds: rss <= supervisorMebibytesMax,
      }),
      row("supervisor.cpu", "%", cpu, {
        goal: `< ${supervisorPercentMax} %`,
        holds: cpu < supervisorPercentMax,
      }),
      row("serve.rss", "MiB", serveRss, { baseline }),
      row("serve.cpu", "%", serveCpu, {
        goal: `< ${servePercentMax} %`,
        holds: serveCpu < servePercentMax,
      }),
      row("serve.recovery", "ms", recovery, {
        goal: `<= ${recoveryMsMax} ms`,
        holds: recovery <= recoveryMsMax,
      }),
    ]
  },
}
