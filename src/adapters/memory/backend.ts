import type { AuditRecord } from "../../core/audit.ts"
import type { Beat } from "../../core/beat.ts"
import type { Event } from "../../core/event.ts"
import type { Instance, Uid } from "../../core/instance.ts"
import type { Linked } from "../../core/link.ts"
import type { Account, Clock, Posted, Token, Turn } from "../../core/ports.ts"
import type { Usage } from "../../core/usage.ts"
import type { Wait } from "../../core/waits.ts"
import { Leadership } from "./leadership.ts"
import { Truth } from "./truth.ts"

/** A record of the audit, and what tells which calls it may count. */
export interface AuditRow {
  readonly record: AuditRecord
  readonly holder: string
  readonly call: string
  readonly sumOf: string | undefined
}

/**
 * The one truth that several handles read and write: what a database server is to the replicas of a
 * control plane. It has a clock of its own, and keeps nothing beyond the process.
 */
export interface MemoryBackend {
  readonly clock: Clock
  readonly instances: Truth<string, Instance>
  readonly beats: Truth<Uid, Beat>
  readonly waits: Truth<Uid, readonly Wait[]>
  readonly links: Truth<Uid, Linked>
  readonly turns: Truth<Uid, Turn>
  readonly accounts: Truth<Uid, Account>
  readonly leadership: Leadership
  /** How many there were: the rank of the latest. */
  births: number
  /** The newest leader that wrote turns. */
  turnsTerm: number
  /** By uid and place. */
  readonly usage: Map<string, Usage>
  /** What each hour added, by its number since 1970. */
  readonly hours: Map<number, Usage>
  /** In the order of their sending. */
  readonly mail: Map<string, Posted>
  /** In the order of their cursors. */
  readonly events: Event[]
  readonly eventKeys: Set<string>
  /** By the digest of their bearer. */
  readonly tokens: Map<string, Token>
  /** By cursor. */
  readonly audit: Map<number, AuditRow>
  /** Records of a day, by holder and series. */
  readonly auditDays: Map<string, { readonly day: number; readonly records: number }>
  /** Calls its listeners after each change of mail or events; `listen` gives what ends it. */
  changed(of: Topic): void
  listen(to: Topic, listener: () => void): () => void
  /** A number that nobody has been given yet. */
  nextNumber(): number
}
export type Topic = "mail" | "events" | "tokens"

export function createMemoryBackend(clock: Clock): MemoryBackend {
  const listeners: Record<Topic, Set<() => void>> = {
    mail: new Set(),
    events: new Set(),
    tokens: new Set(),
  }
  let number = 0
  return {
    clock,
    instances: new Truth(),
    beats: new Truth(),
    waits: new Truth(),
    links: new Truth(),
    turns: new Truth(),
    accounts: new Truth(),
    leadership: new Leadership(),
    births: 0,
    turnsTerm: 0,
    usage: new Map(),
    hours: new Map(),
    mail: new Map(),
    events: [],
    eventKeys: new Set(),
    tokens: new Map(),
    audit: new Map(),
    auditDays: new Map(),
    changed(of) {
      for (const listener of [...listeners[of]]) listener()
    },
    listen(to, listener) {
      listeners[to].add(listener)
      return () => listeners[to].delete(listener)
    },
    nextNumber: () => ++number,
  }
}
