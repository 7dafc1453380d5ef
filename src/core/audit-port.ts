import type { AuditEntry, AuditRecord } from "./audit.ts"

/** The port behind which the audit is kept. */

/**
 * Which records of the audit: by a part of the caller's name, by tool, only refusals, not older
 * than a moment.
 */
export interface AuditQuery {
  readonly who?: string
  readonly tool?: string
  readonly refused?: boolean
  readonly sinceMs?: number
  readonly limit: number
}
export interface AuditPage {
  readonly records: readonly AuditRecord[]
  /** Goes on after all that was looked at, in the same direction. */
  readonly cursor: string
  /** There are records after these. */
  readonly more: boolean
}

/**
 * Who changed what, and who was refused. A store of its own, which nobody can write but the control
 * plane. Equal calls within a minute are one record, which counts them and moves to the newest.
 */
export interface Audit {
  append(entry: AuditEntry): Promise<void>
  /** Newest first, older than the record of a cursor. @throws Invalid for what is no cursor. */
  last(query: AuditQuery & { readonly before?: string }): Promise<AuditPage>
  /**
   * Oldest first, behind a cursor ("" is the oldest that is kept): for an export, which goes on
   * later. @throws Invalid for what is no cursor.
   */
  following(query: AuditQuery & { readonly after: string }): Promise<AuditPage>
  /** Removes a bounded part of what is too old or too much. True while there may be more of it. */
  trim(): Promise<boolean>
}
/** How much the audit keeps. */
export interface AuditRoom {
  readonly keepDays: number
  readonly megabytesMax: number
}
