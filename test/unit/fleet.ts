/** A small fleet over the memory adapter, and the tools called on it as any face would. */

import { cronWindows } from "../../src/adapters/cron/windows.ts"
import { createMemoryBackend } from "../../src/adapters/memory/backend.ts"
import { connectMemory } from "../../src/adapters/memory/connect.ts"
import type { Truth } from "../../src/adapters/memory/truth.ts"
import { auditEntryOf } from "../../src/core/audit.ts"
import type { Beat } from "../../src/core/beat.ts"
import { Fault } from "../../src/core/faults.ts"
import type { Instance, Run, Spec, Status, Uid } from "../../src/core/instance.ts"
import { type Invoke, invokeHere } from "../../src/core/invoke.ts"
import type { Instances, KeptTree, LogLine, Mailboxes, Timeline } from "../../src/core/ports.ts"
import { may, type Principal } from "../../src/core/principal.ts"
import { revisionOf } from "../../src/core/revision.ts"
import type { Limits, Tool } from "../../src/core/tool.ts"
import { noUsage, type Usage } from "../../src/core/usage.ts"
import { ownTree } from "../../src/core/workspace.ts"
import { sha256 } from "../../src/settings/config.ts"
import { tools } from "../../tools/index.ts"
import { aBirth, aSpec, type ManualClock, manualClock, uid } from "../contract/harness.ts"

export const operator: Principal = { kind: "human", id: "ann", role: "operator" }
export const admin: Principal = { kind: "human", id: "root", role: "admin" }
export const viewer: Principal = { kind: "human", id: "eve", role: "viewer" }
export const agent = ({ name, uid, spec }: Instance): Principal => ({
  kind: "instance",
  id: name,
  uid,
  lineage: spec.lineage,
})

/** As a face of a program sees a result: JSON. */
// biome-ignore lint/suspicious/noExplicitAny: a test reads fields of many shapes, and a missing one fails its assertion
export type Result = any

/** What a test may do to the memory that a fleet is in, besides what the ports do. */
function memoryFleet(clock: ManualClock) {
  const hooks: {
    beforeWrite?: (() => void) | undefined
    failWrite?: ((name: string) => Fault | undefined) | undefined
    full?: Uid | undefined
    silent?: boolean
    waiting?: (() => void) | undefined
  } = {}
  const backend = createMemoryBackend(clock)
  const waitingClock = {
    ...clock,
    after(ms: number, then: () => void) {
      const cancel = clock.after(ms, then)
      queueMicrotask(() => hooks.waiting?.())
      return cancel
    },
  }
  const ports = connectMemory(backend, { clock: waitingClock, isImmediate: true })
  const interposed = (name: string): void => {
    hooks.beforeWrite?.()
    const failure = hooks.failWrite?.(name)
    if (failure) throw failure
  }
  const store: Instances = {
    ...ports.instances,
    async create(name, spec) {
      hooks.beforeWrite?.()
      return ports.instances.create(name, spec)
    },
    async updateSpec(seen, spec) {
      interposed(seen.name)
      return ports.instances.updateSpec(seen, spec)
    },
    async delete(seen) {
      interposed(seen.name)
      return ports.instances.delete(seen)
    },
  }
  const mailboxes: Mailboxes = {
    ...ports.mailboxes,
    async send(to, mail) {
      const isFull = to === hooks.full && !backend.mail.has(mail.id)
      if (isFull) throw new Fault("RateLimited", "200 messages wait there already.", "Send later.")
      return ports.mailboxes.send(to, mail)
    },
  }
  const timeline: Timeline = {
    ...ports.timeline,
    async append(event) {
      if (hooks.silent) throw new Fault("Unavailable", "The timeline is away.", "Try again.")
      return ports.timeline.append(event)
    },
  }
  return { backend, ports: { ...ports, store, mailboxes, timeline }, hooks }
}

/** A truth as the map that a test reads and writes. */
const mapOver = <K extends string, V>(truth: Truth<K, V>) => ({
  get: (key: K): V | undefined => truth.get(key),
  set: (key: K, value: V): void => void truth.put(key, value),
  has: (key: K): boolean => truth.get(key) !== undefined,
  delete: (key: K): void => void truth.gone(key),
  keys: (): K[] => [...truth.entries()].map(([key]) => key),
  values: (): V[] => [...truth.entries()].map(([, value]) => value),
  get size(): number {
    return [...truth.entries()].length
  },
  [Symbol.iterator]: () => truth.entries()[Symbol.iterator](),
})

const someLimits: Limits = {
  instancesMax: 10,
  turnsMax: 4,
  loops: ["ralf", "builtin"],
  defaultLoop: "ralf",
  budget: { usd: 10, iterations: 50 },
  children: { depth: 2, total: 20, running: 4 },
  isolation: { kind: "pod" },
  billing: "metered",
}

export function makeFleet(more: readonly Tool[] = tools) {
  const clock = manualClock()
  const { backend, ports, hooks } = memoryFleet(clock)
  const { store, mailboxes, timeline, reports, turns, tokens } = ports
  const byName = mapOver(backend.instances)
  const spent = mapOver(backend.accounts)
  const memory = {
    hooks,
    mailboxes,
    timeline,
    beats: mapOver(backend.beats),
    turns: mapOver(backend.turns),
    events: backend.events,
    /** Newest first. */
    get posts() {
      return [...backend.mail.values()].reverse()
    },
  }
  /** As somebody else writes it: whoever saw it before has seen another. */
  const put = (instance: Omit<Instance, "version">): Instance => {
    const number = backend.nextNumber() * 1000 // beyond what writes have counted up to
    const kept = { ...instance, version: `${number}.${number}.${number}` }
    byName.set(kept.name, kept)
    return kept
  }
  const audits: {
    who: string
    tool: string
    targets: readonly string[]
    made: readonly string[]
    code: string | undefined
  }[] = []
  const trail = ports.audit
  const logs: Omit<LogLine, "cursor">[] = []
  const progress: string[] = []
  const world = {
    limits: someLimits,
    projects: ["shop"] as readonly string[],
    secretPrefixes: [] as readonly string[],
    roots: new Map<string, readonly string[]>(),
    today: noUsage,
    spentSinceMs: Number.NaN,
    keptTrees: [] as readonly KeptTree[],
  }
  let ids = 0
  const asCaller = invokeHere({
    tools: new Map(more.map((tool) => [tool.name, tool])),
    ports: {
      ...{ store, mailboxes, timeline, reports, turns, clock },
      async logs(_, { lines: count, after, sinceMs }) {
        // A line's cursor is its number.
        const numbered = logs.map((line, index) => ({ ...line, cursor: String(index + 1) }))
        const recent = numbered.filter(({ atMs }) => atMs >= (sinceMs ?? 0))
        if (after === undefined)
          return {
            lines: recent.slice(-count),
            cursor: String(logs.length),
            lost: false,
            more: false,
          }
        const rest = recent.filter(({ cursor }) => Number(cursor) > Number(after))
        const page = rest.slice(0, count)
        const more = rest.length > count
        return {
          lines: page,
          cursor: (more ? page.at(-1)?.cursor : undefined) ?? String(logs.length),
          lost: false,
          more,
        }
      },
      ledger: {
        ...ports.ledger,
        async spentSince(ms) {
          world.spentSinceMs = ms
          return world.today
        },
      },
      projects: {
        list: async (root) =>
          root === undefined ? world.projects : (world.roots.get(root) ?? world.projects),
        async shared() {
          const all = [...world.roots].flatMap(([root, names]) =>
            names.map((name) => ({ name, root })),
          )
          const roots = Map.groupBy(all, ({ name }) => name)
          return new Map(
            [...roots]
              .filter(([, of]) => of.length > 1)
              .map(([name, of]) => [name, of.map(({ root }) => root)]),
          )
        },
        async named(root) {
          if (world.roots.has(root)) return root
          throw new Fault("NotFound", `No code root ${root} is known here.`, "Give another.")
        },
        rootOf: async (_, callers) => callers,
        async foresee(spec, others) {
          if (spec.repository === undefined && !world.projects.includes(spec.project))
            throw new Fault(
              "NotFound",
              `There is no project ${spec.project}.`,
              `Give one of: ${world.projects.join(", ")}.`,
            )
          const here = others.filter(({ spec: { project } }) => project === spec.project)
          const own = ownTree(spec, { git: true, taken: here.length > 0 })
          return {
            loop: "built-in",
            sharedWith: own ? [] : here.map(({ name }) => name),
            at: (name, of) =>
              own
                ? { branch: `ralf/${name}`, ...(of && { path: `/trees/${name}` }) }
                : { path: "/code/shop" },
          }
        },
      },
      keptTrees: {
        list: async () => world.keptTrees,
        async remove(name, { discard }) {
          const found = world.keptTrees.find((one) => one.name === name)
          if (!found)
            throw new Fault(
              "NotFound",
              `No tree ${name} was kept.`,
              "`blackbox5 trees` lists those that were.",
            )
          const holds = found.why !== "nothing"
          if (holds && !discard) return { kept: found.why }
          world.keptTrees = world.keptTrees.filter((one) => one !== found)
          return holds ? { lost: found.why } : {}
        },
      },
      windows: cronWindows(),
      tokens,
      auditTrail: trail,
      limits: () => world.limits,
      newId: (prefix) => `${prefix}-${++ids}`,
      sha256,
    },
    may,
    offered: () => true,
    nonce: () => "nonce",
    secretPrefixes: () => world.secretPrefixes,
    async audit(call) {
      const entry = auditEntryOf(call)
      audits.push({
        who: entry.audited.who,
        tool: call.tool,
        targets: call.on,
        made: call.made ?? [],
        code: call.fault?.code,
      })
      await trail.append(entry)
    },
  })
  /**
   * With an account, as the scheduler opens it. With a place, so that it lives; `iteration` puts it
   * into one.
   */
  const add = (name: string, spec: Partial<Spec> = {}, status: Status = {}): Instance => {
    clock.advance(1000)
    const whole = aSpec(spec)
    const birth = aBirth(name, { lineage: whole.lineage, rank: spent.size + 1 })
    spent.set(uid(`u-${name}`), { birth, used: noUsage })
    return put({ name, uid: uid(`u-${name}`), createdAtMs: clock.nowMs(), spec: whole, status })
  }
  const runOf = (spec: Spec, more: Partial<Run> = {}): Run => ({
    ...{
      phase: "Running",
      revision: revisionOf(spec),
      place: "p1",
      startedAtMs: clock.nowMs(),
      restarts: 0,
      term: 1,
    },
    ...more,
  })
  const running = (name: string, spec: Partial<Spec> = {}, beat: Partial<Beat> = {}): Instance => {
    const admission = {
      verdict: "Admitted" as const,
      reason: "Admitted" as const,
      message: "Admitted.",
      term: 1,
    }
    const instance = add(name, spec, { admission, run: runOf(aSpec(spec)) })
    memory.beats.set(instance.uid, {
      place: "p1",
      frozen: false,
      used: noUsage,
      atMs: clock.nowMs(),
      ...beat,
    })
    return instance
  }
  const ended = (name: string, run: Partial<Run>, spec: Partial<Spec> = {}): Instance =>
    add(name, spec, {
      run: runOf(aSpec(spec), {
        phase: "Exited",
        lastExit: { code: 1, atMs: clock.nowMs() },
        ...run,
      }),
    })
  const inIteration = (): Partial<Beat> => ({
    turn: { id: "t1", state: "Running", sinceMs: clock.nowMs() },
  })
  const use = (of: Instance, used: Partial<Usage>): void =>
    void spent.set(of.uid, { ...spent.get(of.uid), used: { ...noUsage, ...used } })
  const call = (
    who: Principal,
    signal: AbortSignal = new AbortController().signal,
  ): ((tool: string, input?: unknown) => Promise<Result>) => {
    const invoke: Invoke = asCaller(who)
    return (tool, input = {}) =>
      invoke(tool, input, { signal, progress: (_, message) => void progress.push(message) })
  }
  const specOf = (name: string): Spec | undefined => byName.get(name)?.spec
  return {
    ...{
      clock,
      store,
      byName,
      put,
      storeHooks: hooks,
      memory,
      audits,
      logs,
      progress,
      world,
      spent,
    },
    ...{ add, running, ended, inIteration, use, call, specOf, asCaller },
  }
}
export type Fleet = ReturnType<typeof makeFleet>
