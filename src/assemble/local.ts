/** A long file: the one place where all parts of a machine's control plane are put together. */
import { randomBytes } from "node:crypto"
import { join } from "node:path"
import { tools } from "../../tools/index.ts"
import { cronWindows } from "../adapters/cron/windows.ts"
import { directoryIn, type Launch, launchOf, projectsIn } from "../adapters/local/code-root.ts"
import { createCodeRoots, noCodeRoot } from "../adapters/local/code-roots.ts"
import { createKeptTrees } from "../adapters/local/kept-trees.ts"
import { localLogs } from "../adapters/local/logs.ts"
import { createLocalRuntime } from "../adapters/local/runtime.ts"
import { createTrees } from "../adapters/local/trees.ts"
import { sqliteAudit } from "../adapters/sqlite/audit.ts"
import { sqliteLead } from "../adapters/sqlite/lead.ts"
import { sqliteLedger } from "../adapters/sqlite/ledger.ts"
import { sqliteMailboxes } from "../adapters/sqlite/mailboxes.ts"
import { diskOf, openDatabase } from "../adapters/sqlite/open.ts"
import { sqliteReports } from "../adapters/sqlite/reports.ts"
import { sqliteStore } from "../adapters/sqlite/store.ts"
import { sqliteTimeline } from "../adapters/sqlite/timeline.ts"
import { sqliteTokens } from "../adapters/sqlite/tokens.ts"
import { sqliteTurns } from "../adapters/sqlite/turns.ts"
import { type App, createApp } from "../api/app.ts"
import {
  firstOf,
  localAuthenticate,
  ownerByCredential,
  ownerByToken,
  readToken,
} from "../api/auth.ts"
import { watchCredentials } from "../api/credential-watch.ts"
import { createGateway, type Gateway } from "../api/gateway.ts"
import { type Credentials, createCredentials } from "../api/link.ts"
import { createMetrics } from "../api/metrics.ts"
import { issuedBy } from "../api/oidc.ts"
import { limitRate } from "../api/rate.ts"
import { mountSupervisorServers } from "../api/supervisor-servers.ts"
import { keepAuditBounded } from "../control/audit-retention.ts"
import { operate } from "../control/operator.ts"
import { schedule } from "../control/scheduler.ts"
import { type AuditedCall, auditEntryOf } from "../core/audit.ts"
import { type Invoke, invokeHere } from "../core/invoke.ts"
import { secretsVariable } from "../core/mcp-servers.ts"
import { createPace, paced } from "../core/pace.ts"
import type { Clock, Projects } from "../core/ports.ts"
import { may, type Principal } from "../core/principal.ts"
import { machineTokenPrefix, withoutWordsOf, wordsWith } from "../core/secrets.ts"
import { offers } from "../core/tool.ts"
import { guard, makeGuarded } from "../host/agent-view.ts"
import { findClaude } from "../host/find-claude.ts"
import { codeRootOf, isDirectory } from "../host/find-code-root.ts"
import { type Isolation, probeIsolation, warningOf } from "../host/isolation.ts"
import { keepReserve, takeReserve } from "../host/reserve.ts"
import {
  boundsEnvironment,
  type Config,
  installationOf,
  lastingEnvironment,
  newId,
  sha256,
  userName,
} from "../settings/config.ts"
import { createReporter, type Log } from "../settings/log.ts"
import { followOutsideServers, secretsOf, serversFor } from "../settings/outside-servers.ts"
import { followPolicy, type Policy, type PolicyFile } from "../settings/policy.ts"

/**
 * There is one for each instance, and it makes little garbage: a small young generation keeps it
 * from growing (3 MiB at once, 16 in time).
 */
const supervisorFlags = ["--max-semi-space-size=1"]

/**
 * A look at a large fleet takes a millisecond or two; what steers, and what supervisors say, waits
 * for no more of them than these.
 */
const looksPerTurn = 4

/** The only file that names concrete adapters: the control plane of one machine, put together. */
export interface ControlPlane {
  readonly app: App
  readonly gateway: Gateway
  readonly credentials: Credentials
  readonly policy: PolicyFile
  readonly projects: Projects
  /** Measured, as every face calls it. */
  readonly invokeAs: (who: Principal) => Invoke
  /** How words begin that are secrets here. */
  secretPrefixes(): readonly string[]
  readonly codeRoot: string | undefined
  /**
   * Whether anybody but this machine's admin could say who they are: by a valid token, or an
   * issuer.
   */
  knowsPeople(): Promise<boolean>
  /** Scheduler, operator and gateway, until the signal. */
  run(): Promise<void>
  /** Gives the database up: from then on another serve may begin. */
  close(): void
}

export const systemClock: Clock = {
  nowMs: () => Date.now(),
  after(ms, then) {
    const timer = setTimeout(then, ms)
    return () => clearTimeout(timer)
  },
}

/**
 * A code root as serve would have it under that policy, for those who only look. `resolve` throws
 * why a loop could not be started.
 */
export const codeRootFor = (path: string, { loops, claude }: Policy) => ({
  list(): readonly string[] {
    if (!isDirectory(path)) throw noCodeRoot(path)
    return projectsIn(path)
  },
  resolve(spec: { project: string; loop: string }): Launch {
    const project = directoryIn(path, spec.project)
    const tree = { own: false, path: project, project, autonomous: false }
    return launchOf({ loops: () => loops, claude: () => claude, builtIn: [] }, spec, path, tree)
  },
})

/** @throws Fault, with what to do, when the database is in use, damaged or cannot be written. */
export async function assembleLocal(
  config: Config,
  version: string,
  entry: readonly string[],
  log: Log,
  signal: AbortSignal,
): Promise<ControlPlane> {
  const [node = process.execPath, ...main] = entry
  const installation = installationOf(config, [node, main.at(-1) ?? node])
  makeGuarded(installation)
  const [database, strongest] = await Promise.all([
    openDatabase(join(config.stateDirectory, "blackbox5.db"), () =>
      takeReserve(config.stateDirectory),
    ),
    probeIsolation({ stateDirectory: config.stateDirectory, guarded: guard(installation) }),
  ])
  keepReserve(config.stateDirectory, signal)
  const clock = systemClock
  const store = sqliteStore(database, clock)
  const mailboxes = sqliteMailboxes(database)
  const timeline = sqliteTimeline(database, clock)
  const reports = sqliteReports(database, clock)
  const turns = sqliteTurns(database)
  const ledger = sqliteLedger(database, clock)
  const lead = sqliteLead(database)
  const tokens = sqliteTokens(database, clock)
  const windows = cronWindows()
  const policy = followPolicy(config.configDirectory, (message) => log.warn(message), signal)
  const outside = followOutsideServers(
    config.configDirectory,
    (message) => log.warn(message),
    signal,
  )
  const trail = sqliteAudit(database, clock, { room: () => policy.current().audit, newId })
  const credentials = createCredentials(config.stateDirectory)
  const report = createReporter(log)
  const codeRootPath = codeRootOf(config)
  const codeRoots = createCodeRoots({
    stateDirectory: config.stateDirectory,
    first: codeRootPath,
    loops: () => policy.current().loops,
    claude: () => policy.current().claude,
    builtIn: [...entry, "loop"],
  })
  const isolation = (): Isolation =>
    policy.current().isolation === "off"
      ? { kind: "process tree", why: "The policy says isolation: off." }
      : strongest
  const trusted = () => policy.current().trustedFilters
  const keptTrees = createKeptTrees({
    stateDirectory: config.stateDirectory,
    trusted,
    nowMs: clock.nowMs,
  })
  const trees = createTrees({
    stateDirectory: config.stateDirectory,
    codeRoots,
    trusted,
    kept: keptTrees,
    repositories: () => policy.current().repositories,
  })
  const projects: Projects = {
    list: async (root) => codeRoots.list(root),
    shared: async () => codeRoots.shared(),
    named: async (root) => codeRoots.named(root),
    rootOf: async ({ project, repository }, callers) =>
      repository === undefined ? codeRoots.find(project, callers) : codeRoots.usual(callers),
    async foresee(spec, others) {
      findClaude(policy.current().claude) // an agent that is there would wait for it; one that is spawned now is told at once
      return trees.foresee(spec, others)
    },
  }
  const runtime = createLocalRuntime(
    {
      stateDirectory: config.stateDirectory,
      socketPath: config.socketPath,
      codeRoots,
      trees,
      clock,
      supervisor: [node, ...supervisorFlags, ...main, "agent"],
      // A supervisor that finds no serve starts one: it must be this one again.
      environment: () => ({
        ...lastingEnvironment(),
        BLACKBOX5_STATE: config.stateDirectory,
        BLACKBOX5_CONFIG: config.configDirectory,
        ...(codeRootPath !== undefined && { BLACKBOX5_CODE_ROOT: codeRootPath }),
        ...(config.port.demanded && { BLACKBOX5_PORT: String(config.port.number) }),
        ...boundsEnvironment(config),
        // It keeps the secrets themselves: a serve that it starts needs them.
        [secretsVariable]: secretsOf(outside.current()).join(","),
      }),
      isolation: () => isolation().kind,
      credential: credentials.mint,
      report: report("runtime"),
    },
    signal,
  )
  const token = readToken(config.stateDirectory)
  // One of before the machine's token had a prefix is known by all of it.
  const formerTokens = token.startsWith(machineTokenPrefix) ? [] : [token]
  const secretPrefixes = (): readonly string[] => [...policy.current().redact, ...formerTokens]
  const gateway = createGateway({
    store,
    mailboxes: {
      ...mailboxes,
      // Supervisors take out what is known everywhere; what the policy names they do not know.
      async *inbox(uid, ended) {
        for await (const mail of mailboxes.inbox(uid, ended))
          yield { ...mail, text: withoutWordsOf(mail.text, wordsWith(secretPrefixes())) }
      },
    },
    timeline,
    reports,
    turns,
    ledger,
    clock,
    policy: policy.current,
    policyChanged: policy.changed,
    report: report("gateway"),
  })
  const metrics = createMetrics(tools)
  const offered = offers(config.offer)
  const audit = async (call: AuditedCall): Promise<void> => {
    const entry = auditEntryOf(call)
    // What was done is done: a call must not look as if it had failed. The log has what the audit
    // cannot take.
    await trail
      .append(entry)
      .catch((error: unknown) => log.error({ err: error, entry }, "the audit could not be written"))
  }
  const invokeHereAs = invokeHere({
    tools: new Map(tools.map((tool) => [tool.name, tool])),
    ports: {
      store,
      mailboxes,
      timeline,
      reports,
      turns,
      ledger,
      clock,
      logs: localLogs(config.stateDirectory),
      projects,
      keptTrees,
      windows,
      tokens,
      auditTrail: trail,
      limits() {
        const warning = warningOf(isolation())
        const disk = diskOf(database)
        const refused = [policy.refused(), outside.refused()]
          .filter((why) => why !== undefined)
          .join("; ")
        return {
          ...policy.limits(),
          ...(refused !== "" && { refused }),
          ...(disk && { disk }),
          isolation: { kind: isolation().kind, ...(warning !== undefined && { warning }) },
        }
      },
      newId,
      sha256,
    },
    may,
    offered,
    nonce: () => randomBytes(6).toString("hex"),
    secretPrefixes,
    audit,
  })
  let leading = false
  const admin: Principal = { kind: "human", id: userName(), role: "admin" }
  const limited = limitRate({
    invokeAs: invokeHereAs,
    isLocal: (who) => who === admin,
    // This far a caller may name a tool that there is none of, in any words.
    refused: (call) =>
      audit(tools.some(({ name }) => name === call.tool) ? call : { ...call, tool: "unknown" }),
  })
  const looks = new Set(tools.filter(({ hints }) => hints.readOnlyHint).map(({ name }) => name))
  const begin = createPace({ perTurn: looksPerTurn, nextTurn: setImmediate })
  const invokeAs = (who: Principal): Invoke =>
    metrics.measured(paced(limited(who), (name) => looks.has(name), begin))
  const authenticate = localAuthenticate({
    token,
    admin,
    owner: firstOf(
      ownerByToken(tokens),
      issuedBy(() => policy.current().oidc, clock.nowMs),
      ownerByCredential(credentials, store),
    ),
  })
  const app = createApp({
    tools,
    offered,
    invokeAs,
    authenticate,
    standing: watchCredentials(authenticate, tokens.watch, signal),
    publicUrl: () => policy.current().publicUrl,
    issuer: () => policy.current().oidc?.issuer,
    ready: async () => ({
      ready: leading,
      why: leading ? "The controllers run." : "The controllers are starting.",
    }),
    metrics,
    admitCodeRoot: codeRoots.admit,
    version,
    log,
  })
  mountSupervisorServers(app, store, (project) => serversFor(project, outside.current()))
  return {
    app,
    gateway,
    credentials,
    policy,
    projects,
    invokeAs,
    secretPrefixes,
    codeRoot: codeRootPath,
    async knowsPeople() {
      const nowMs = clock.nowMs()
      const tokensNow = await tokens.list()
      const valid = tokensNow.some(
        (one) => one.revokedAtMs === undefined && (one.expiresAtMs ?? nowMs + 1) > nowMs,
      )
      return valid || policy.current().oidc !== undefined
    },
    async run() {
      keepAuditBounded(trail, clock, report("audit"), signal)
      const controllers = lead(signal, async (term, until) => {
        leading = true
        await Promise.all([
          operate(
            { store, runtime, mailboxes, timeline, reports, clock, newId },
            term,
            report("operator"),
            until,
          ),
          schedule(
            {
              store,
              timeline,
              reports,
              turns,
              ledger,
              clock,
              windows,
              policy: policy.current,
              policyChanged: policy.changed,
            },
            term,
            report("scheduler"),
            until,
          ),
        ])
      })
      await Promise.all([controllers, gateway.run(signal)])
    },
    close: database.close,
  }
}
