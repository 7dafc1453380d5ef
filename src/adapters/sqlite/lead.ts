import type { Lead } from "../../core/ports.ts"
import type { Database } from "./open.ts"
import { termOf } from "./term.ts"

/**
 * Whoever holds the database leads, so leadership is never lost while the process lives; who asks
 * twice in it waits for its turn.
 */
export function sqliteLead(database: Database): Lead {
  const term = termOf(database, "lead")
  let before: Promise<unknown> = Promise.resolve()
  return async (signal, work) => {
    const led = before.then(async () => {
      if (signal.aborted) return
      const raised = database.read(() => term.value()) + 1
      // On a full disk it leads too, so that pauses are in force: nobody else has the database
      // meanwhile.
      database.insist(new Map([["lead", () => term.store(raised)]]), "reserve")
      await work(raised, signal)
    })
    // How the former work ended is its caller's affair, not the next one's.
    before = led.catch(() => {})
    await led
  }
}
