import type { Endpoint } from "../core/endpoint.ts"
import type { Guarded } from "../host/guarded.ts"
import { standsStill } from "../host/process-signals.ts"
import { processId } from "../host/processes.ts"
import type { RunDirectory } from "../run/run-directory.ts"
import { endRun } from "./end-run.ts"
import { listenWhenFree } from "./loopback.ts"
import { captureOutput, type Output } from "./output.ts"
import { createPortHandlers } from "./port-handlers.ts"
import { createRunEffects } from "./run-effects.ts"
import { createRunMachine, type RunMachine } from "./run-machine.ts"
import { createRunParts, nowMs, type RunParts } from "./run-parts.ts"
import { initialState } from "./run-state.ts"
import type { PortAccess } from "./settings.ts"
import { findRun, type SupervisedRun } from "./supervised-run.ts"

/** How often processes that are not our children are looked at. */
const lookMs = 500

export interface SupervisorOptions {
  readonly directory: RunDirectory
  /** Nobody answers at the gateway's socket: called after some failed attempts. */
  revive(): void
  /** The control plane, as the instance of this run. */
  readonly endpoint: Endpoint
  /** Asks the control plane for the MCP servers of this instance. */
  servers(): Promise<unknown>
  /** The environment of this process. */
  readonly environment: NodeJS.ProcessEnv
  /** What the instance's processes must not change. */
  guarded(): Guarded
  /** Aborted when the supervisor is told to stop its instance. */
  readonly stop: AbortSignal
}

/**
 * Supervises one run, from its start or from where a predecessor left it, until not one process of
 * it is left. `run-step.ts` decides; this gathers what happens and has the effects performed.
 */
export async function supervise(options: SupervisorOptions): Promise<void> {
  const found = findRun(options.directory)
  if (!found) return // its supervisor was only slow to say that it is there
  const over = Promise.withResolvers<void>()
  const shell = createShell(options, found, over)
  const { machine, parts } = shell
  const stop = (): void => machine.take({ type: "stopRequested" })
  options.stop.addEventListener("abort", stop, { once: true })
  let timer: NodeJS.Timeout | undefined
  try {
    if (await shell.open()) {
      const launchLost = !found.loop && found.directory.get("launched") !== undefined
      // It is written before the signal, which may have come before anybody listened.
      const stopRequested = options.stop.aborted || found.directory.get("stop") !== undefined
      machine.take({ type: "opened", launchLost, stopRequested })
      void parts.iterations.reconcile() // of iterations that ended under a predecessor
      timer = setInterval(() => machine.take({ type: "look", nowMs: performance.now() }), lookMs)
      parts.link.beat()
    }
    await over.promise
    machine.take({ type: "finished" })
  } finally {
    clearInterval(timer)
    shell.close()
  }
}

interface Shell {
  readonly machine: RunMachine
  readonly parts: RunParts
  /** Opens the loop's output and the port. False when the port stays taken. */
  open(): Promise<boolean>
  close(): void
}

function createShell(
  { endpoint, environment, guarded, revive, servers }: SupervisorOptions,
  found: SupervisedRun,
  over: PromiseWithResolvers<void>,
): Shell {
  const { directory, run, predecessor, token } = found
  let output: Output | undefined
  let loopback: Awaited<ReturnType<typeof listenWhenFree>> | undefined
  const access = (): PortAccess => ({ port: loopback?.port ?? 0, token })
  const initial = initialState({
    terms: { mode: run.mode, completion: run.completion },
    hasLoop: found.loop !== undefined,
    standsStill: found.loop !== undefined && standsStill(found.everywhere),
    lastDirective: directory.get("directive"),
    nowMs: performance.now(),
  })
  const machine = createRunMachine(initial, (effect) => perform(effect))
  const { state, take } = machine
  const parts = createRunParts({
    found,
    endpoint,
    environment,
    state,
    take,
    revive,
    askServers: servers,
    port: () => access().port,
    printed: (sinceMs) => output?.printedSince(sinceMs) ?? [],
  })
  const openForLoop = (): number => {
    if (!output) throw new Error("the loop's output is not open yet")
    return output.openForLoop()
  }
  const perform = createRunEffects({
    found,
    parts,
    take,
    state,
    guarded,
    openForLoop,
    access,
    lookMs,
    endRun: (exit, problem) =>
      void endRun(found, parts, output, exit, problem).then(over.resolve, over.reject),
    leave: over.resolve,
    failed: over.reject,
  })
  return {
    machine,
    parts,
    async open() {
      output = await parts.disk.whenThereIsRoom(() => captureOutput(directory, nowMs))
      const handlers = createPortHandlers({
        found,
        endpoint,
        machine,
        parts,
        access,
        over: over.promise,
      })
      try {
        loopback = await listenWhenFree(predecessor?.port ?? 0, token, handlers)
      } catch (error) {
        take({ type: "portTaken", cause: String(error) })
        return false
      }
      const own = processId(process.pid)
      await parts.disk.whenThereIsRoom(() => {
        if (own) directory.set("supervisor", { ...own, ...access() })
      })
      return true
    },
    close() {
      loopback?.close()
      parts.link.close()
    },
  }
}
