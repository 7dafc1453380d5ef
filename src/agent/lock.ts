import { mkdirSync } from "node:fs"
import { join } from "node:path"
import { setTimeout as sleep } from "node:timers/promises"
import { Fault } from "../core/faults.ts"

const lookMs = 100

/**
 * One at a time, of all processes of this machine; the result lets the next one in. SQLite's lock
 * of a file goes with the process that holds it, however that ends. @throws Unavailable after
 * `msMax`, or with the signal.
 */
export async function lock(
  directory: string,
  name: string,
  signal: AbortSignal,
  msMax: number,
): Promise<() => void> {
  const { DatabaseSync } = await import("node:sqlite")
  mkdirSync(directory, { recursive: true, mode: 0o700 })
  const file = new DatabaseSync(join(directory, name))
  const deadlineMs = performance.now() + msMax
  for (;;) {
    try {
      file.exec("BEGIN EXCLUSIVE")
      return () => file.close()
    } catch (error) {
      if (signal.aborted || performance.now() > deadlineMs) {
        file.close()
        throw new Fault(
          "Unavailable",
          `Another supervisor has been holding ${name} for too long.`,
          "Stop that instance.",
          error,
        )
      }
    }
    await sleep(lookMs)
  }
}
