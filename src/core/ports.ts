/** A long file: all that the control plane needs of the world stands in one place. */
import type { Beat } from "./beat.ts"
import type { Emitted, Event, EventKind } from "./event.ts"
import type {
  Defaults,
  Exit,
  Instance,
  Problem,
  Run,
  Schedule,
  Section,
  Spec,
  Status,
  Uid,
} from "./instance.ts"
import type { Linked } from "./link.ts"
import type { Mail, Receipt } from "./mail.ts"
import type { Replica } from "./replica.ts"
import type { Role } from "./role.ts"
import type { Source } from "./source.ts"
import type { Usage } from "./usage.ts"
import type { Wait } from "./waits.ts"

/**
 * The interfaces between the control plane and the world. Adapters implement them; one contract
 * suite runs against every adapter.
 */

export interface Clock {
  nowMs(): number
  /** Calls `then` once after `ms`; the result cancels it. */
  after(ms: number, then: () => void): () => void
}

/**
 * Instances as declared and seen. A write with a stale `seen` is a Conflict on its section, never a
 * lost update.
 */
export interface Instances {
  /** By name. What this process wrote is in it when the write resolves. */
  readonly replica: Replica<string, Instance>
  /**
   * From the truth itself: for the few decisions that no replica may make, like whether a name is
   * free.
   */
  read(name: string): Promise<Instance | undefined>
  /** @throws Conflict when the name is taken. */
  create(name: string, spec: Spec): Promise<Instance>
  updateSpec(seen: Instance, spec: Spec): Promise<Instance>
  /** @throws Conflict also when the section carries a newer term. */
  updateStatus<S extends Section>(
    seen: Instance,
    section: S,
    value: NonNullable<Status[S]>,
  ): Promise<Instance>
  /**
   * Marks it; it vanishes when nothing of it runs. @throws Conflict when `seen` has a stale spec.
   */
  delete(seen: Instance): Promise<void>
  /**
   * By the operator, when nothing of it runs. A store with foreground deletion does nothing here.
   */
  release(seen: Instance): Promise<void>
}

/**
 * What the operator asks a Runtime to run. `revision` is a hash of all that a start uses, `attempt`
 * included.
 */
export interface Workload {
  readonly name: string
  readonly uid: Uid
  readonly revision: string
  /** Orders the runs of one instance: each is greater than the one before. */
  readonly number: number
  readonly spec: Spec
}
export interface Observed {
  readonly uid: Uid
  readonly number: number
  /** Where the run is: opaque, and never used for another run. */
  readonly place: string
  readonly revision: string
  readonly phase: Run["phase"]
  readonly startedAtMs: number
  /** Which loop was taken, and from where, in words; undefined where none could be. */
  readonly loop?: string
  readonly exit?: Exit
  readonly problem?: Problem
}
/** Pods or processes; the operator's alone. `Exited` means that not one process of it is left. */
export interface Runtime {
  /** Names. */
  readonly watch: Source
  get(name: string): Promise<Observed | undefined>
  /** Whether something of it may run now. */
  lives(name: string): boolean
  /**
   * Returns the place at once. Idempotent: replaces an exited run only by one with a greater
   * number, and a live run by none.
   */
  start(workload: Workload): Promise<Observed>
  /** Returns when the end has begun; the end itself is observed. */
  stop(name: string, uid: Uid): Promise<void>
  /**
   * Forgets what is left of an instance where nothing runs any more: run directories, and a work
   * tree of its own where that loses no work. Returns what was kept for the sake of its work, in
   * words.
   */
  clean(name: string, uid: Uid): Promise<string | undefined>
}

/** What the loop printed, or Claude Code's own record of its iterations. */
export type LogSource = "loop" | "transcript"
export interface LogLine {
  readonly atMs: number
  readonly text: string
  /** Goes on after this line. */
  readonly cursor: string
}
export interface LogPage {
  /** Oldest first. */
  readonly lines: readonly LogLine[]
  /** Goes on after all that was looked at, also where nothing was found. */
  readonly cursor: string
  /**
   * What stood after the cursor that was given is gone: the lines begin with the oldest that is
   * left.
   */
  readonly lost: boolean
  /** There are lines after these. */
  readonly more: boolean
}
/**
 * Lines of one instance: the last `lines` of them, or the first `lines` after a cursor ("" is the
 * oldest line there is). A line that is not whole yet comes with a later call. @throws Invalid for
 * what is no cursor.
 */
export type Logs = (
  instance: { name: string; uid: Uid },
  query: { source: LogSource; lines: number; after?: string; sinceMs?: number },
) => Promise<LogPage>

/** The permission to run one iteration, limited for the whole fleet. */
export interface Turn {
  readonly uid: Uid
  readonly id: string
  readonly place: string
  readonly grantedAtMs: number
}

export const operators = "@operators"
export type Address = Uid | typeof operators

/** A mail with where it went and what became of it. */
export interface Posted {
  readonly to: Address
  readonly mail: Mail
  readonly receipt: Receipt
}

/** Without `uids` those of all and of the fleet itself; without `kinds` all kinds. */
export interface EventQuery {
  readonly uids?: readonly Uid[]
  readonly kinds?: readonly EventKind[]
  readonly limit: number
}

export interface EventPage {
  readonly events: readonly Event[]
  readonly cursor: string
}

/** Inboxes and receipts, keyed by uid: a name used again inherits nothing. */
export interface Mailboxes {
  /**
   * `mail.id` makes it idempotent. @throws RateLimited when the inbox is full: an inbox is never
   * trimmed.
   */
  send(to: Address, mail: Mail): Promise<"Accepted" | "Duplicate">
  /** All mail without a Delivered receipt, oldest first; then what comes. */
  inbox(of: Uid, signal: AbortSignal): AsyncIterable<Mail>
  /** Newest first. `waiting`: only those still Queued. */
  posted(query: {
    to?: Address
    from?: string
    mails?: readonly string[]
    waiting?: boolean
    limit: number
  }): Promise<readonly Posted[]>
  /**
   * Only for mail of that inbox. A receipt never goes back: Queued, Delivered or Returned,
   * Answered. Resolves with the one that stands then.
   */
  receipt(of: Address, receipt: Receipt): Promise<Receipt | undefined>
  /** Returns all that waits for an instance that will not run again. */
  returnAll(of: Uid): Promise<number>
}

/** What happened in the fleet. */
export interface Timeline {
  /** `id` makes it idempotent. */
  append(event: Emitted & { uid?: Uid }): Promise<void>
  /**
   * Events after a cursor ("" is the oldest that is kept, "$" the end), waiting up to `waitMs` for
   * the first. `cursor` goes on from there, also where none was found. Of an instance that told
   * more than its share the oldest are missing. @throws NotFound when all that is older than some
   * moment after that cursor is gone, Invalid when it is none.
   */
  events(
    query: EventQuery & { after: string; waitMs: number },
    signal?: AbortSignal,
  ): Promise<EventPage>
  /**
   * Newest first; `before` is the cursor of an event. `cursor` goes on after all that there was.
   */
  lastEvents(query: EventQuery & { before?: string; sinceMs?: number }): Promise<EventPage>
}

/** What instances say of themselves. */
export interface Reports {
  /** The latest beat of each. `watch` tells only of those that say something new. */
  readonly beats: Replica<Uid, Beat>
  /**
   * What instances wait for after their iteration: one wait of each kind, the last counts. Those
   * whose time is over may still be there: `currentWaits` leaves them out.
   */
  readonly waits: Replica<Uid, readonly Wait[]>
  /**
   * Which gateway each supervisor is linked to. A gateway that is gone takes all its entries with
   * it.
   */
  readonly links: Replica<Uid, Linked>
  beat(uid: Uid, beat: Beat): Promise<void>
  wait(uid: Uid, wait: Wait): Promise<void>
  linked(uid: Uid, link: Linked): Promise<void>
  /** Takes out this very link: one that another gateway has taken since stays. */
  unlinked(uid: Uid, link: Linked): Promise<void>
}
/** The permission to run an iteration. */
export interface Turns {
  /** Of those that have one. */
  readonly replica: Replica<Uid, Turn>
  /** The leading scheduler's alone. @throws Conflict for an older term. */
  set(term: number, grant: readonly Turn[], end: readonly Turn[]): Promise<void>
}

/** Accounts: births and spend. They outlive instances. */
export interface Ledger {
  /** The account of each uid, its places added up. */
  readonly accounts: Replica<Uid, Account>
  /** Keeps the maximum of each (uid, place), so a repeat counts once. */
  record(uid: Uid, place: string, used: Usage): Promise<void>
  /**
   * Opens the account of an instance and ranks its birth. The leading scheduler calls it for every
   * instance that has none, whoever created it. Idempotent: the first birth counts.
   */
  open(uid: Uid, birth: Omit<Birth, "rank">): Promise<void>
  /** Usage of the whole fleet recorded since a moment. */
  spentSince(ms: number): Promise<Usage>
}
export interface Birth {
  readonly name: string
  readonly lineage: readonly Uid[]
  readonly bornAtMs: number
  /** Place in the order of births, given by the ledger: it grows, and no two are alike. */
  readonly rank: number
  readonly defaults: Defaults
}
/** `birth` is absent while only the usage of an instance is known. */
export interface Account {
  readonly birth?: Birth
  readonly used: Usage
}

/** Runs `work` while leading; terms only grow. */
export type Lead = (
  signal: AbortSignal,
  work: (term: number, signal: AbortSignal) => Promise<void>,
) => Promise<void>

/** The projects of the code roots, and where an instance would work on one. */
export interface Projects {
  /** Of all code roots, or of one. */
  list(codeRoot?: string): Promise<readonly string[]>
  /** Names that several code roots have a project of, each with these roots. */
  shared(): Promise<ReadonlyMap<string, readonly string[]>>
  /** The code root that a caller names by its path. @throws NotFound for one that is not known. */
  named(codeRoot: string): Promise<string>
  /**
   * The code root in which a project is; for a repository, which need not be in any, the one whose
   * loop works on it. In a collision of names `callers` wins, the root of who is calling. @throws
   * NotFound, Conflict.
   */
  rootOf(
    at: { project: string; repository?: string | undefined },
    callers: string | undefined,
  ): Promise<string | undefined>
  /**
   * Where an instance of this spec would work now. `others`: instances that may come before it.
   * @throws NotFound or Invalid with what to do, when a loop of this spec could not be started
   * here.
   */
  foresee(spec: Spec, others: readonly Instance[]): Promise<Foreseen>
}
export interface Foreseen {
  /** Names of others that work in the same tree. */
  readonly sharedWith: readonly string[]
  /** Which loop is taken, and from where, in words. */
  readonly loop: string
  /** `path` once the uid is known; `branch` for a tree of its own. */
  at(name: string, uid?: Uid): { readonly path?: string; readonly branch?: string }
}

/**
 * What the removal of an instance left, because work in it stands nowhere else: a tree with its
 * branch, or a branch alone.
 */
export interface KeptTree {
  /** Tells them apart: the tree's directory name. */
  readonly name: string
  /** The instance that worked in it; unknown of what an older version left. */
  readonly instance?: string
  /** Absent where only the branch is left. */
  readonly path?: string
  readonly branch?: string
  readonly repository?: string
  readonly why: string
  /** On the disk; absent of a branch, and where there was too much to count. */
  readonly bytes?: number
  readonly sinceMs: number
}
export interface KeptTrees {
  /** The oldest first. */
  list(signal: AbortSignal): Promise<readonly KeptTree[]>
  /**
   * Removes what is reachable elsewhere by now. `discard`: also the tree with what only it holds;
   * where that is gone, the branch. What is still kept, and what was lost, in words. @throws
   * NotFound.
   */
  remove(
    name: string,
    how: { readonly discard: boolean },
  ): Promise<{ readonly kept?: string; readonly lost?: string }>
}

/** What a schedule means. */
export interface Windows {
  /** @throws Invalid when it is none. */
  check(schedule: Schedule): void
  /** Whether a window is open then; and until when it stays so, or stays closed. */
  at(schedule: Schedule, nowMs: number): { readonly open: boolean; readonly untilMs: number }
}

/** A person's token as it is shown: without its secret, which is nowhere. */
export interface Token {
  /** Who it stands for, as mail and audit name them. */
  readonly name: string
  readonly role: Role
  readonly createdAtMs: number
  readonly expiresAtMs?: number
  readonly revokedAtMs?: number
}

/** People's tokens; at most one that is valid for each name. */
export interface Tokens {
  /**
   * The bearer is in this answer and never again. @throws Conflict when the name has a valid one,
   * TooLarge when there are too many.
   */
  create(
    token: Pick<Token, "name" | "role" | "expiresAtMs">,
  ): Promise<{ readonly token: Token; readonly bearer: string }>
  /** Newest first, those that ended too. */
  list(): Promise<readonly Token[]>
  /** @throws NotFound when the name has no valid one. */
  revoke(name: string): Promise<Token>
  /** The valid token with that bearer. */
  find(bearer: string): Promise<Token | undefined>
  /** Names of those that were revoked. */
  readonly watch: Source
}
