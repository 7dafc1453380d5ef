/**
 * A fleet in memory: the ports, honest about conflicts and versions, and the tools called on them
 * as any face would.
 */

import { cronWindows } from "../../src/adapters/cron/windows.ts"
import { type AuditRecord, auditEntryOf } from "../../src/core/audit.ts"
import type { Audit } from "../../src/core/audit-port.ts"
import type { Beat } from "../../src/core/beat.ts"
import type { Event, EventKind } from "../../src/core/event.ts"
import { Fault } from "../../src/core/faults.ts"
import type { Instance, Run, Spec, Status, Uid } from "../../src/core/instance.ts"
import { type Invoke, invokeHere } from "../../src/core/invoke.ts"
import type { Receipt } from "../../src/core/mail.ts"
import type {
  Account,
  Instances,
  KeptTree,
  LogLine,
  Posted,
  Token,
  Tokens,
  Turn,
} from "../../src/core/ports.ts"
import { may, type Principal } from "../../src/core/principal.ts"
import { soleReplica } from "../../src/core/replica.ts"
import { revisionOf } from "../../src/core/revision.ts"
import { tokenPrefix } from "../../src/core/secrets.ts"
import { topic } from "../../src/core/source.ts"
import type { Limits, Tool } from "../../src/core/tool.ts"
import { noUsage, type Usage } from "../../src/core/usage.ts"
import type { Wait } from "../../src/core/waits.ts"
import { ownTree } from "../../src/core/workspace.ts"
import { sha256 } from "../../src/settings/config.ts"
import { tools } from "../../tools/index.ts"
import { aBirth, aSpec, type ManualClock, manualClock, uid } from "../contract/harness.ts"
import { type Bus, portsOf } from "../contract/sqlite-bus.ts"

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

const unused = async (): Promise<never> => {
  throw new Error("No tool calls this.")
}

function memoryStore(clock: ManualClock) {
  const names = topic(async () => byName.keys())
  const byName = new Map<string, Instance>()
  let count = 0
  const hooks: {
    beforeWrite?: (() => void) | undefined
    failWrite?: ((name: string) => Fault | undefined) | undefined
  } = {}
  const current = (seen: Instance): Instance => {
    hooks.beforeWrite?.()
    const failure = hooks.failWrite?.(seen.name)
    if (failure) throw failure
    const now = byName.get(seen.name)
    if (now?.uid !== seen.uid)
      throw new Fault("NotFound", `The instance ${seen.name} is gone.`, "List them.")
    if (now.version !== seen.version)
      throw new Fault("Conflict", `The spec of ${seen.name} changed meanwhile.`, "Read it again.")
    return now
  }
  const put = (instance: Omit<Instance, "version">): Instance => {
    const kept = { ...instance, version: String(++count) }
    byName.set(kept.name, kept)
    names.changed(kept.name)
    return kept
  }
  const store: Instances = {
    replica: soleReplica<string, Instance>([]),
    read: async (name) => byName.get(name),
    watch: names.source,
    get: async (name) => byName.get(name),
    list: async () => [...byName.values()],
    async create(name, spec) {
      hooks.beforeWrite?.()
      if (byName.has(name))
        throw new Fault("Conflict", `The name ${name} is taken.`, "Choose another.")
      return put({ name, uid: uid(`u${count + 1}`), createdAtMs: clock.nowMs(), spec, status: {} })
    },
    updateSpec: async (seen, spec) => put({ ...current(seen), spec }),
    updateStatus: unused,
    async delete(seen) {
      put({ ...current(seen), deletedAtMs: clock.nowMs() })
    },
    release: unused,
  }
  return { store, byName, put, hooks }
}

function memoryBus(clock: ManualClock) {
  const posts: Posted[] = []
  const events: Event[] = []
  const beats = new Map<Uid, Beat>()
  const turns = new Map<Uid, Turn>()
  const waits = new Map<Uid, readonly Wait[]>()
  const beatsChanged = topic<Uid>(async () => beats.keys())
  const waiters = new Set<(event: Event) => void>()
  const hooks: { full?: Uid | undefined; silent?: boolean; waiting?: (() => void) | undefined } = {}
  const fits =
    ({
      uids,
      kinds,
    }: {
      uids?: readonly Uid[] | undefined
      kinds?: readonly EventKind[] | undefined
    }) =>
    ({ uid: of, kind }: Event): boolean =>
      (!uids || (of !== undefined && uids.includes(of))) && (!kinds || kinds.includes(kind))
  const bus: Bus = {
    async send(to, mail) {
      if (posts.some((one) => one.mail.id === mail.id)) return "Duplicate"
      if (to === hooks.full)
        throw new Fault("RateLimited", "200 messages wait there already.", "Send again later.")
      const answered = posts.find(({ mail: { id } }) => id === mail.replyTo)
      if (answered) await bus.receipt(answered.to, { mail: answered.mail.id, state: "Answered" })
      posts.unshift({ to, mail, receipt: { mail: mail.id, state: "Queued" } })
      return "Accepted"
    },
    async *inbox() {},
    posted: async ({ to, from, mails, waiting, limit }) =>
      posts
        .filter((one) => to === undefined || one.to === to)
        .filter((one) => from === undefined || one.mail.from === from)
        .filter((one) => !mails || mails.includes(one.mail.id))
        .filter((one) => !waiting || one.receipt.state === "Queued")
        .slice(0, limit),
    async receipt(of, receipt: Receipt) {
      const index = posts.findIndex(({ to, mail }) => to === of && mail.id === receipt.mail)
      const post = posts[index]
      if (!post) return undefined
      const now = { ...post.receipt, ...receipt }
      posts[index] = { ...post, receipt: now }
      return now
    },
    returnAll: unused,
    async append(event) {
      if (hooks.silent) throw new Fault("Unavailable", "The timeline is away.", "Try again.")
      if (events.some(({ id, uid }) => id === event.id && uid === event.uid)) return
      const told = { ...event, cursor: String(events.length + 1) }
      events.push(told)
      for (const wake of [...waiters]) wake(told)
    },
    async events({ after, uids, kinds, limit, waitMs }, signal) {
      const from = after === "$" ? events.length : Number(after || 0)
      const found = () => {
        const page = events.slice(from).filter(fits({ uids, kinds })).slice(0, limit)
        return { events: page, cursor: page.at(-1)?.cursor ?? String(events.length) }
      }
      if (found().events.length > 0 || waitMs === 0 || signal?.aborted) return found()
      await new Promise<void>((resolve) => {
        const done = (): void => {
          waiters.delete(waiter)
          cancel()
          resolve()
        }
        const waiter = (event: Event): void => {
          if (fits({ uids, kinds })(event)) done()
        }
        const cancel = clock.after(waitMs, done)
        waiters.add(waiter)
        signal?.addEventListener("abort", done)
        hooks.waiting?.()
      })
      return found()
    },
    async lastEvents({ uids, kinds, before, sinceMs, limit }) {
      const page = events
        .slice(0, before === undefined ? undefined : Number(before) - 1)
        .filter(fits({ uids, kinds }))
        .filter(({ atMs }) => atMs >= (sinceMs ?? 0))
      return { events: page.toReversed().slice(0, limit), cursor: String(events.length) }
    },
    async beat(of, beat) {
      beats.set(of, beat)
      beatsChanged.changed(of)
    },
    beats: async () => beats,
    turns: async () => turns,
    turnsReplica: soleReplica<Uid, Turn>([]),
    setTurns: unused,
    wait: async (of, wait) =>
      void waits.set(of, [...(waits.get(of) ?? []).filter(({ kind }) => kind !== wait.kind), wait]),
    waits: async () => waits,
    watch: beatsChanged.source,
  }
  return { bus, posts, events, beats, turns, hooks }
}

function memoryTokens(clock: ManualClock): Tokens {
  const tokens: Token[] = []
  const valid = ({ revokedAtMs, expiresAtMs }: Token): boolean =>
    revokedAtMs === undefined && (expiresAtMs ?? Number.POSITIVE_INFINITY) > clock.nowMs()
  return {
    async create(asked) {
      if (tokens.some((one) => one.name === asked.name && valid(one)))
        throw new Fault("Conflict", `${asked.name} has a valid token already.`, "Revoke it.")
      const token = { ...asked, createdAtMs: clock.nowMs() }
      tokens.unshift(token)
      return { token, bearer: `${tokenPrefix}${"x".repeat(43)}` }
    },
    list: async () => tokens,
    async revoke(name) {
      const index = tokens.findIndex((one) => one.name === name && valid(one))
      const token = tokens[index]
      if (!token) throw new Fault("NotFound", `${name} has no valid token.`, "List them.")
      const after = { ...token, revokedAtMs: clock.nowMs() }
      tokens[index] = after
      return after
    },
    find: unused,
    async *watch() {},
  }
}

/** The audit as a list: every call is a record, oldest first, and its cursor is its number. */
function memoryAudit(clock: ManualClock): Audit {
  const records: AuditRecord[] = []
  const fits =
    ({ who = "", tool, refused, sinceMs = 0 }: Parameters<Audit["last"]>[0]) =>
    (one: AuditRecord): boolean =>
      one.who.includes(who) &&
      [one.tool, undefined].includes(tool) &&
      !(refused && one.verdict === "done") &&
      one.atMs >= sinceMs
  const pageOf = (found: readonly AuditRecord[], limit: number, end: string) => {
    const page = found.slice(0, limit)
    const more = found.length > limit
    return { records: page, more, cursor: more ? (page.at(-1)?.cursor ?? end) : end }
  }
  return {
    async append({ audited }) {
      const [cursor, atMs] = [String(records.length + 1), clock.nowMs()]
      records.push({
        ...audited,
        id: `a-${cursor}`,
        cursor,
        atMs,
        lastAtMs: atMs,
        count: 1,
        isSum: false,
      })
    },
    last: async ({ before, limit, ...query }) =>
      pageOf(
        records
          .slice(0, before === undefined ? undefined : Number(before) - 1)
          .filter(fits({ limit, ...query }))
          .toReversed(),
        limit,
        "0",
      ),
    following: async ({ after, limit, ...query }) =>
      pageOf(
        records.slice(Number(after)).filter(fits({ limit, ...query })),
        limit,
        String(records.length),
      ),
    trim: async () => false,
  }
}

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
  const { store, byName, put, hooks: storeHooks } = memoryStore(clock)
  const memory = memoryBus(clock)
  const spent = new Map<Uid, Account>()
  const audits: {
    who: string
    tool: string
    targets: readonly string[]
    made: readonly string[]
    code: string | undefined
  }[] = []
  const trail = memoryAudit(clock)
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
      ...{ store, ...portsOf(memory.bus), clock },
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
        record: unused,
        accounts: soleReplica<Uid, Account>([]),
        open: unused,
        spent: async () => new Map(spent),
        spentSince: async (ms) => {
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
      tokens: memoryTokens(clock),
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
  /** With an account, as the scheduler opens it. With a place, so that it lives; `iteration` puts it into one. */
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
    ...{ clock, store, byName, put, storeHooks, memory, audits, logs, progress, world, spent },
    ...{ add, running, ended, inIteration, use, call, specOf, asCaller },
  }
}
export type Fleet = ReturnType<typeof makeFleet>
