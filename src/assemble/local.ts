import { join } from "node:path"
import { cronWindows } from "../adapters/cron/windows.ts"
import { localLogs } from "../adapters/local/logs.ts"
import { sqliteAudit } from "../adapters/sqlite/audit.ts"
import { sqliteLead } from "../adapters/sqlite/lead.ts"
import { sqliteLedger } from "../adapters/sqlite/ledger.ts"
import { sqliteMailboxes } from "../adapters/sqlite/mailboxes.ts"
import { type Database, diskOf, openDatabase } from "../adapters/sqlite/open.ts"
import { sqliteReports } from "../adapters/sqlite/reports.ts"
import { sqliteStore } from "../adapters/sqlite/store.ts"
import { sqliteTimeline } from "../adapters/sqlite/timeline.ts"
import { sqliteTokens } from "../adapters/sqlite/tokens.ts"
import { sqliteTurns } from "../adapters/sqlite/turns.ts"
import {
  authenticateByFirst,
  authenticateByMachineToken,
  authenticateByToken,
} from "../api/authenticate.ts"
import {
  authenticateByCredential,
  type Credentials,
  createCredentials,
} from "../api/credentials.ts"
import { readToken } from "../api/machine-token.ts"
import { authenticateByIssuer } from "../api/oidc.ts"
import type { Authenticate } from "../core/authenticate-port.ts"
import type { Projects, Tokens } from "../core/ports.ts"
import type { Principal } from "../core/principal.ts"
import { machineTokenPrefix } from "../core/secrets.ts"
import { isValidToken } from "../core/token-writes.ts"
import type { Limits } from "../core/tool.ts"
import { systemClock } from "../host/clock.ts"
import { warningOf } from "../host/isolation-probe.ts"
import { keepReserve, takeReserve } from "../host/reserve.ts"
import { type Config, newId, userName } from "../settings/config.ts"
import { createReporter, type Log } from "../settings/log.ts"
import {
  followOutsideServers,
  type OutsideServersFile,
  serversFor,
} from "../settings/outside-servers.ts"
import { followPolicy, type PolicyFile } from "../settings/policy.ts"
import { assemble, type ControlPlane, type PlaneSettings, type Ports } from "./assemble.ts"
import { findIsolation, type LocalMachine, openLocalMachine } from "./local-machine.ts"

/** The control plane of one machine: SQLite, files and processes. */
export interface LocalControlPlane extends ControlPlane {
  readonly credentials: Credentials
  readonly policy: PolicyFile
  readonly projects: Projects
  readonly codeRoot: string | undefined
  /** Words that begin with one of these are secrets here. */
  secretPrefixes(): readonly string[]
  /**
   * Whether anybody but this machine's admin can prove who they are: a valid token, or an issuer.
   */
  knowsPeople(): Promise<boolean>
  /** Gives the database up: from then on another serve may begin. */
  close(): void
}

/** @throws Fault, with what to do, when the database is in use, damaged or cannot be written. */
export async function assembleLocal(
  config: Config,
  version: string,
  entry: readonly string[],
  log: Log,
  signal: AbortSignal,
): Promise<LocalControlPlane> {
  const { stateDirectory, configDirectory } = config
  const [strongest, database] = await Promise.all([
    findIsolation(config, entry),
    openDatabase(join(stateDirectory, "blackbox5.db"), () => takeReserve(stateDirectory)),
  ])
  keepReserve(stateDirectory, signal)
  const warn = (message: string): void => log.warn(message)
  const policy = followPolicy(configDirectory, warn, signal)
  const outside = followOutsideServers(configDirectory, warn, signal)
  const credentials = createCredentials(stateDirectory)
  const report = createReporter(log)
  const machine = openLocalMachine(
    { config, entry, policy, outside, credentials, strongest, report: report("runtime") },
    signal,
  )
  const stores = openStores(database, policy)
  const admin: Principal = { kind: "human", id: userName(), role: "admin" }
  const token = readToken(stateDirectory)
  // A token that an older version made has no prefix: all of it is looked for.
  const formerTokens = token.startsWith(machineTokenPrefix) ? [] : [token]
  const secretPrefixes = (): readonly string[] => [...policy.current().redact, ...formerTokens]
  const ports: Ports = {
    ...stores,
    runtime: machine.runtime,
    projects: machine.projects,
    keptTrees: machine.keptTrees,
    authenticate: authenticateLocally({ token, admin, policy, credentials, stores }),
    logs: localLogs(stateDirectory),
    windows: cronWindows(),
    clock: systemClock,
  }
  const settings: PlaneSettings = {
    version,
    offer: config.offer,
    log,
    report,
    policy: policy.current,
    policyChanged: policy.changed,
    limits: () => limitsNow({ policy, outside, machine, database }),
    secretPrefixes,
    serversOfProject: (project) => serversFor(project, outside.current()),
    localAdmin: admin,
    admitCodeRoot: machine.admitCodeRoot,
  }
  return {
    ...assemble(ports, settings, signal),
    credentials,
    policy,
    projects: machine.projects,
    codeRoot: machine.codeRoot,
    secretPrefixes,
    knowsPeople: async () => policy.current().oidc !== undefined || (await hasToken(stores.tokens)),
    close: database.close,
  }
}

/** The ports that one SQLite file stands behind. */
function openStores(database: Database, policy: PolicyFile) {
  return {
    store: sqliteStore(database, systemClock),
    mailboxes: sqliteMailboxes(database),
    timeline: sqliteTimeline(database, systemClock),
    reports: sqliteReports(database, systemClock),
    turns: sqliteTurns(database),
    ledger: sqliteLedger(database, systemClock),
    lead: sqliteLead(database),
    tokens: sqliteTokens(database, systemClock),
    audit: sqliteAudit(database, systemClock, { room: () => policy.current().audit, newId }),
  }
}

const authenticateLocally = ({
  token,
  admin,
  policy,
  credentials,
  stores: { tokens, store },
}: {
  token: string
  admin: Principal
  policy: PolicyFile
  credentials: Credentials
  stores: Pick<Ports, "tokens" | "store">
}): Authenticate =>
  authenticateByFirst(
    authenticateByMachineToken(token, admin),
    authenticateByToken(tokens),
    authenticateByIssuer(() => policy.current().oidc, systemClock.nowMs),
    authenticateByCredential(credentials, store.read),
  )

function limitsNow({
  policy,
  outside,
  machine,
  database,
}: {
  policy: PolicyFile
  outside: OutsideServersFile
  machine: LocalMachine
  database: Database
}): Limits {
  const isolation = machine.isolation()
  const warning = warningOf(isolation)
  const disk = diskOf(database)
  const refused = [policy.refused(), outside.refused()]
    .filter((why) => why !== undefined)
    .join("; ")
  return {
    ...policy.limits(),
    ...(refused !== "" && { refused }),
    ...(disk && { disk }),
    isolation: { kind: isolation.kind, ...(warning !== undefined && { warning }) },
  }
}

async function hasToken(tokens: Tokens): Promise<boolean> {
  const nowMs = systemClock.nowMs()
  return (await tokens.list()).some((token) => isValidToken(token, nowMs))
}
