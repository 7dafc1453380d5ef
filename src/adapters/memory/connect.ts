import type { Audit } from "../../core/audit-port.ts"
import type {
  Instances,
  Lead,
  Ledger,
  Mailboxes,
  Reports,
  Timeline,
  Tokens,
  Turns,
} from "../../core/ports.ts"
import { memoryAudit } from "./audit.ts"
import type { MemoryBackend } from "./backend.ts"
import { type ConnectionOptions, createConnection } from "./connection.ts"
import { memoryInstances } from "./instances.ts"
import { memoryLead } from "./lead.ts"
import { memoryLedger } from "./ledger.ts"
import { memoryMailboxes } from "./mailboxes.ts"
import { memoryReports } from "./reports.ts"
import { memoryTimeline } from "./timeline.ts"
import { memoryTokens } from "./tokens.ts"
import { createWire, type Wire } from "./truth.ts"
import { memoryTurns } from "./turns.ts"

/** The ports of one process, over a backend that others use too. */
export interface MemoryPorts {
  readonly instances: Instances
  readonly mailboxes: Mailboxes
  readonly timeline: Timeline
  readonly reports: Reports
  readonly turns: Turns
  readonly ledger: Ledger
  readonly lead: Lead
  readonly tokens: Tokens
  readonly audit: Audit
  /** What its feeds and inboxes come through: cut it, and its replicas become stale. */
  readonly wire: Pick<Wire, "cut" | "resume">
  /** Resolves when each replica has its first list. */
  ready(): Promise<void>
  /** As if the process were gone: feeds and inboxes end, and its lease is free. */
  close(): void
}

export function connectMemory(backend: MemoryBackend, options: ConnectionOptions): MemoryPorts {
  const stop = new AbortController()
  const wire = createWire()
  const connection = createConnection(backend, wire, options, stop.signal)
  const instances = memoryInstances(connection)
  const reports = memoryReports(connection)
  const turns = memoryTurns(connection)
  const ledger = memoryLedger(connection)
  return {
    instances,
    mailboxes: memoryMailboxes(connection),
    timeline: memoryTimeline(connection),
    reports,
    turns,
    ledger,
    lead: memoryLead(backend, stop.signal),
    tokens: memoryTokens(connection),
    audit: memoryAudit(connection),
    wire,
    async ready() {
      const replicas = [
        instances.replica,
        reports.beats,
        reports.waits,
        reports.links,
        turns.replica,
        ledger.accounts,
      ]
      await Promise.all(replicas.map((replica) => replica.ready(stop.signal)))
    },
    close: () => stop.abort(),
  }
}
