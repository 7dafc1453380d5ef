/**
 * The control plane below its faces: scheduler and operator, pass by pass, the tools as a face
 * calls them, and a runtime that does at once what it is told.
 */
import { cronWindows } from "../../src/adapters/cron/windows.ts"
import { reconcileInstance } from "../../src/control/operator.ts"
import { reconcileFleet } from "../../src/control/scheduler.ts"
import type { Defaults } from "../../src/core/instance.ts"
import { invokeHere } from "../../src/core/invoke.ts"
import { policyDefaults } from "../../src/core/limits.ts"
import type {
  Clock,
  Instances,
  Ledger,
  Mailboxes,
  Observed,
  Reports,
  Runtime,
  Timeline,
  Turns,
} from "../../src/core/ports.ts"
import { may, type Principal } from "../../src/core/principal.ts"
import { topic } from "../../src/core/source.ts"
import type { Limits, ToolContext } from "../../src/core/tool.ts"
import { sha256 } from "../../src/settings/config.ts"
import { tools } from "../../tools/index.ts"

export interface PlanePorts {
  readonly store: Instances
  readonly mailboxes: Mailboxes
  readonly timeline: Timeline
  readonly reports: Reports
  readonly turns: Turns
  readonly ledger: Ledger
  readonly runtime: Runtime
  readonly clock: Clock
}

/** Of processes and pods: they outlive the control plane that started them. */
export function instantRuntime(clock: Clock) {
  const runs = new Map<string, Observed>()
  const starts: string[] = []
  const { source, changed } = topic(async () => runs.keys())
  const put = (name: string, run: Observed): Observed => {
    runs.set(name, run)
    changed(name)
    return run
  }
  const exit = (name: string, outcome?: "Complete" | "Failed"): void => {
    const run = runs.get(name)
    if (!run || run.phase === "Exited") return
    const atMs = clock.nowMs()
    put(name, { ...run, phase: "Exited", exit: { code: 0, atMs, ...(outcome && { outcome }) } })
  }
  const runtime: Runtime = {
    watch: source,
    get: async (name) => runs.get(name),
    lives: (name) => runs.get(name)?.phase === "Running",
    async start({ name, uid, revision, number, spec }) {
      const known = runs.get(name)
      if (known && (known.phase !== "Exited" || (known.uid === uid && known.number >= number)))
        return known
      starts.push(`${name} ${number} ${spec.model ?? "no model"}`)
      const place = `${name}-${number}`
      const startedAtMs = clock.nowMs()
      return put(name, { uid, number, revision, place, phase: "Running", startedAtMs })
    },
    stop: async (name) => exit(name),
    async clean(name) {
      if (runs.get(name)?.phase === "Exited") runs.delete(name)
      return undefined
    },
  }
  return { runtime, runs, starts, exit }
}

export const somePolicy: Limits = {
  instancesMax: 10,
  turnsMax: 2,
  loops: ["ralf"],
  defaultLoop: "ralf",
  budget: { usd: 8, iterations: 40 },
  children: { depth: 2, total: 3, running: 2 },
  model: "m-1",
  isolation: { kind: "pod" },
  billing: "metered",
}

export const schedulerPorts = (ports: PlanePorts, limits: () => Limits = () => somePolicy) => ({
  ...ports,
  windows: cronWindows(),
  policy: limits,
  defaults: (): Defaults => policyDefaults(limits()),
  async *policyChanged() {},
})
export const operatorPorts = (ports: PlanePorts) => {
  let ids = 0
  return { ...ports, newId: (prefix: string) => `${prefix}-${++ids}` }
}

/** All loops, over and over, until nothing changes any more. `snapshot` tells what there is. */
export async function settle(
  ports: PlanePorts,
  term: number,
  names: () => Iterable<string>,
  snapshot: () => Promise<unknown>,
): Promise<void> {
  const { signal } = new AbortController()
  const fleet = reconcileFleet(schedulerPorts(ports), term)
  const instance = reconcileInstance(operatorPorts(ports), term)
  for (let before = ""; ; ) {
    await fleet("fleet", signal)
    const all = [...ports.store.replica.snapshot().values()].map(({ name }) => name)
    for (const name of new Set([...all, ...names()])) await instance(name, signal)
    const after = JSON.stringify(await snapshot())
    if (after === before) return
    before = after
  }
}

const unused = async (): Promise<never> => {
  throw new Error("no tool of this test calls it")
}
/** The tools over these ports, in a code root with one project. */
export function callsOver(ports: PlanePorts, limits: () => Limits = () => somePolicy) {
  let ids = 0
  const foreseen = { sharedWith: [], loop: "built-in", at: () => ({ path: "/code/shop" }) }
  const context: Omit<
    ToolContext,
    "who" | "targets" | "visible" | "signal" | "progress" | "codeRoot"
  > = {
    ...ports,
    logs: unused,
    projects: {
      list: async () => ["shop"],
      shared: async () => new Map(),
      named: unused,
      rootOf: async () => undefined,
      foresee: async () => foreseen,
    },
    keptTrees: { list: async () => [], remove: unused },
    windows: cronWindows(),
    tokens: { create: unused, list: unused, revoke: unused, find: unused, async *watch() {} },
    auditTrail: { last: unused, following: unused },
    limits,
    newId: (prefix) => `${prefix}-${++ids}`,
    sha256,
  }
  const asCaller = invokeHere({
    tools: new Map(tools.map((tool) => [tool.name, tool])),
    ports: { ...context, store: ports.store },
    may,
    offered: () => true,
    nonce: () => "nonce",
    secretPrefixes: () => [],
    audit: async () => {},
  })
  const { signal } = new AbortController()
  return (who: Principal, tool: string, input: object = {}): Promise<unknown> =>
    asCaller(who)(tool, input, { signal, progress: () => {} })
}
