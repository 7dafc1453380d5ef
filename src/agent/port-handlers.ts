import { setTimeout as sleep } from "node:timers/promises"
import type { Endpoint } from "../core/endpoint.ts"
import { Fault } from "../core/faults.ts"
import type { LoopbackHandlers } from "./loopback.ts"
import type { RunMachine } from "./run-machine.ts"
import type { RunParts } from "./run-parts.ts"
import { isEnding } from "./run-state.ts"
import type { PortAccess } from "./settings.ts"
import type { SupervisedRun } from "./supervised-run.ts"

/** What goes through a loop's `tee` takes milliseconds. */
const printedMs = 150

export interface PortHandlersOptions {
  readonly found: SupervisedRun
  readonly endpoint: Endpoint
  readonly machine: RunMachine
  readonly parts: RunParts
  access(): PortAccess
  /** Resolves when the run is over. */
  readonly over: Promise<void>
}

/** What a supervisor answers at its port. */
export function createPortHandlers(options: PortHandlersOptions): LoopbackHandlers {
  const { found, endpoint, machine, parts, access, over } = options
  const { iterations, servers, files, disk, hooks, turnEnd, iterationEnded } = parts
  /**
   * Of a turn that began under a predecessor, its claude shim knows better how long its claude was
   * there.
   */
  const adoptedTurn = found.predecessor && iterations.turn()?.id
  return {
    fleet: endpoint,
    async turn(id, pid, signal) {
      const isKnown = iterations.knows(id)
      machine.take({ type: "turnRequested", isKnown, lastOutcome: iterations.lastOutcome() })
      if (isEnding(machine.state())) {
        await over
        return undefined
      }
      const granted = await iterations.ask(id, pid, signal)
      if (!granted) return undefined
      const configuration = await servers.configuration(access())
      return { ...granted, mcp: await disk.whenThereIsRoom(() => files.write(configuration)) }
    },
    async settings(text) {
      const path = await disk.whenThereIsRoom(() => files.write(text))
      const turn = iterations.turn()
      if (turn) return { path, turn: turn.id }
      files.clear()
      throw new Fault(
        "Conflict",
        "No iteration is running.",
        "Call claude from an iteration of the loop.",
      )
    },
    async turnEnded(id, code, ms) {
      // What a claude printed that refused to start says why, and may still be on its way through
      // the loop's pipes.
      if (code !== 0 && iterations.turn()?.unheard) await sleep(printedMs)
      const turn = iterations.turn()
      if (turn?.id !== id) return
      await turnEnd.said(turn, () => iterationEnded(id, code, id === adoptedTurn ? ms : undefined))
    },
    mcp: servers.call,
    hook: hooks.hook,
    given: hooks.given,
    openingPart: hooks.part,
    logs(logs, nested) {
      const mainBeganAtMs = iterations.metered(logs)
      if (!nested) for (const atMs of mainBeganAtMs) hooks.answered(atMs)
    },
  }
}
