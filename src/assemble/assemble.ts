import { randomBytes } from "node:crypto"
import type { Server } from "node:http"
import { tools } from "../../tools/index.ts"
import { type App, createApp } from "../api/app.ts"
import { watchCredentials } from "../api/credential-watch.ts"
import { createGateway, type Gateway } from "../api/gateway.ts"
import { acceptLinks } from "../api/link.ts"
import { createMetrics, type Metrics } from "../api/metrics.ts"
import { limitRate } from "../api/rate.ts"
import { mountSupervisorServers } from "../api/supervisor-servers.ts"
import { keepAuditBounded } from "../control/audit-retention.ts"
import { operate } from "../control/operator.ts"
import { schedule } from "../control/scheduler.ts"
import { type AuditedCall, auditEntryOf } from "../core/audit.ts"
import type { Audit } from "../core/audit-port.ts"
import type { Authenticate } from "../core/authenticate-port.ts"
import { type Invoke, type InvokeOptions, invokeHere } from "../core/invoke.ts"
import { policyDefaults } from "../core/limits.ts"
import type { McpServers } from "../core/mcp-servers.ts"
import { createPace, paced } from "../core/pace.ts"
import type {
  Clock,
  Instances,
  KeptTrees,
  Lead,
  Ledger,
  Logs,
  Mailboxes,
  Projects,
  Reports,
  Runtime,
  Timeline,
  Tokens,
  Turns,
  Windows,
} from "../core/ports.ts"
import { may, type Principal } from "../core/principal.ts"
import { withoutWordsOf, wordsWith } from "../core/secrets.ts"
import type { Source } from "../core/source.ts"
import { type Limits, type Offer, offers } from "../core/tool.ts"
import { newId, sha256 } from "../settings/config.ts"
import type { Log } from "../settings/log.ts"
import type { Policy } from "../settings/policy.ts"

/** The world as the control plane needs it: each composition makes one, from its own adapters. */
export interface Ports {
  readonly store: Instances
  readonly mailboxes: Mailboxes
  readonly timeline: Timeline
  readonly reports: Reports
  readonly turns: Turns
  readonly ledger: Ledger
  readonly runtime: Runtime
  readonly authenticate: Authenticate
  readonly audit: Audit
  readonly lead: Lead
  readonly logs: Logs
  readonly projects: Projects
  readonly keptTrees: KeptTrees
  readonly windows: Windows
  readonly tokens: Tokens
  readonly clock: Clock
}

/** What people decided about this control plane, as far as the faces and loops use it. */
export interface PlaneSettings {
  readonly version: string
  readonly offer: Offer
  readonly log: Log
  /** Tells what a part of the control plane failed at. */
  report(part: string): (key: string, error: unknown) => void
  policy(): Policy
  readonly policyChanged: Source
  limits(): Limits
  /** Words that begin with one of these are secrets here. */
  secretPrefixes(): readonly string[]
  /** The MCP servers that people give the agents of a project, secrets included. */
  serversOfProject(project: string): McpServers
  /** The admin of the machine that the control plane runs on, if it is one person's machine. */
  readonly localAdmin?: Principal
  /** Remembers the code root that a client found where it runs; undefined when it is none. */
  admitCodeRoot?(path: string): string | undefined
}

/** The control plane, whatever it runs on. */
export interface ControlPlane {
  readonly app: App
  /** Lets supervisors link through a server. */
  acceptLinks(server: Server): void
  /** Calls as one caller: limited, measured and audited, as every face makes them. */
  readonly invokeAs: (who: Principal) => Invoke
  /** Runs the scheduler, the operator and the gateway until the signal. */
  run(): Promise<void>
}

/** Puts the faces and the loops of a control plane together. */
export function assemble(ports: Ports, settings: PlaneSettings, signal: AbortSignal): ControlPlane {
  const metrics = createMetrics(tools)
  const gateway = gatewayOver(ports, settings)
  const invokeAs = callers(ports, settings, metrics)
  const leadership = { held: false }
  const credentialWatch = watchCredentials(ports.authenticate, ports.tokens.watch, signal)
  const app = createApp({
    tools,
    offered: offers(settings.offer),
    invokeAs,
    authenticate: ports.authenticate,
    ...(settings.localAdmin && { localAdmin: settings.localAdmin }),
    credentialWatch,
    publicUrl: () => settings.policy().publicUrl,
    issuer: () => settings.policy().oidc?.issuer,
    ready: async () => ({
      ready: leadership.held,
      why: leadership.held ? "The controllers are running." : "The controllers are starting.",
    }),
    metrics,
    ...(settings.admitCodeRoot !== undefined && { admitCodeRoot: settings.admitCodeRoot }),
    version: settings.version,
    log: settings.log,
  })
  mountSupervisorServers(app, ports.store, settings.serversOfProject)
  return {
    app,
    invokeAs,
    acceptLinks: (server) =>
      acceptLinks(
        server,
        {
          gateway,
          authenticate: ports.authenticate,
          watch: credentialWatch,
          report: (error) => settings.report("link")("upgrade", error),
        },
        signal,
      ),
    async run() {
      keepAuditBounded(ports.audit, ports.clock, settings.report("audit"), signal)
      await Promise.all([runLoops(ports, settings, leadership, signal), gateway.run(signal)])
    },
  }
}

/** The leader's two loops. */
const runLoops = (
  ports: Ports,
  settings: PlaneSettings,
  leadership: { held: boolean },
  signal: AbortSignal,
): Promise<void> =>
  ports.lead(signal, async (term, until) => {
    leadership.held = true
    const { policy, policyChanged, report } = settings
    const defaults = () => policyDefaults(settings.limits())
    await Promise.all([
      operate({ ...ports, newId }, term, report("operator"), until),
      schedule({ ...ports, policy, defaults, policyChanged }, term, report("scheduler"), until),
    ])
  })

function gatewayOver(ports: Ports, settings: PlaneSettings): Gateway {
  const { mailboxes } = ports
  return createGateway({
    ...ports,
    id: newId("g"),
    mailboxes: {
      ...mailboxes,
      // Supervisors remove secrets that are known everywhere, but do not know those of the policy.
      async *inbox(uid, ended) {
        for await (const mail of mailboxes.inbox(uid, ended))
          yield { ...mail, text: withoutWordsOf(mail.text, wordsWith(settings.secretPrefixes())) }
      },
    },
    policy: settings.policy,
    policyChanged: settings.policyChanged,
    report: settings.report("gateway"),
  })
}

/**
 * How many calls that only read begin in one turn of the event loop. One takes a millisecond or two
 * in a large fleet, and neither a call that steers nor a supervisor's frame waits for more of them.
 */
const readsPerTurn = 4

/** From a caller to what it may invoke: rate limit, pace, metrics and audit included. */
function callers(
  ports: Ports,
  settings: PlaneSettings,
  metrics: Metrics,
): (who: Principal) => Invoke {
  const { log, limits, secretPrefixes, localAdmin } = settings
  const audit = async (call: AuditedCall): Promise<void> => {
    const entry = auditEntryOf(call)
    // The call has taken effect and must not look as if it had failed: the log keeps what the audit
    // cannot take.
    await ports.audit
      .append(entry)
      .catch((error: unknown) => log.error({ err: error, entry }, "the audit could not be written"))
  }
  const names = new Set(tools.map(({ name }) => name))
  const reads = new Set(tools.filter(({ hints }) => hints.readOnlyHint).map(({ name }) => name))
  const limited = limitRate({
    invokeAs: invokeHere({
      tools: new Map(tools.map((tool) => [tool.name, tool])),
      ports: toolPorts(ports, limits),
      may,
      offered: offers(settings.offer),
      nonce: () => randomBytes(6).toString("hex"),
      secretPrefixes,
      audit,
    }),
    isLocal: (who) => who === localAdmin,
    // So far a caller may have named a tool that does not exist, in any words.
    refused: (call) => audit(names.has(call.tool) ? call : { ...call, tool: "unknown" }),
  })
  const begin = createPace({ perTurn: readsPerTurn, nextTurn: setImmediate })
  return (who) => metrics.measured(paced(limited(who), (name) => reads.has(name), begin))
}

/**
 * What a tool may use of the ports, each named: a handler's context has fields of the call beside
 * them, and whatever else an object of ports holds must not pass for one of those.
 */
const toolPorts = (ports: Ports, limits: () => Limits): InvokeOptions["ports"] => ({
  store: ports.store,
  mailboxes: ports.mailboxes,
  timeline: ports.timeline,
  reports: ports.reports,
  turns: ports.turns,
  logs: ports.logs,
  ledger: ports.ledger,
  clock: ports.clock,
  projects: ports.projects,
  keptTrees: ports.keptTrees,
  windows: ports.windows,
  tokens: ports.tokens,
  auditTrail: ports.audit,
  limits,
  newId,
  sha256,
})
