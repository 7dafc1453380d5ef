import { readdirSync, readFileSync } from "node:fs"

/** What a process costs, as the system counts it. */

export function residentMebibytes(pid: number): number {
  const [, kibibytes] =
    /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8")) ?? []
  if (kibibytes === undefined) throw new Error(`process ${pid} says nothing of its memory`)
  return Number(kibibytes) / 1024
}

/**
 * Time on a processor, of all its threads: schedstat counts nanoseconds, where stat counts ticks of
 * 10 ms.
 */
export function cpuMs(pid: number): number {
  const threads = readdirSync(`/proc/${pid}/task`)
  return threads.reduce((sum, thread) => {
    const [ns = ""] = readFileSync(`/proc/${pid}/task/${thread}/schedstat`, "utf8").split(" ")
    return sum + Number(ns) / 1e6
  }, 0)
}
