import type { Beat } from "../core/beat.ts"
import type { Directive } from "../core/directive.ts"
import type { Reported } from "../core/event.ts"
import { describeEnd } from "../core/iteration-outcome.ts"
import type { ClaudeSearch } from "../host/find-claude.ts"
import { identify, isAlive, type ProcessId, type Search } from "../host/processes.ts"
import { type RunDirectory, type RunFile, transcriptsMax } from "../run/run-directory.ts"
import type { Grant } from "./claude-shim.ts"
import type { ClaudeWatch } from "./claude-watch.ts"
import type { DiskRetry } from "./disk-retry.ts"
import { claudeExitCode, concludeTurn } from "./iteration-end.ts"
import type { IterationRecord } from "./iteration-record.ts"
import { type IterationTime, runningSinceMs } from "./iteration-time.ts"
import type { FinalMessageContext, FinalMessageReader } from "./last-word.ts"
import type { IterationEnd } from "./run-state.ts"
import type { RunningTurn } from "./running-turn.ts"
import type { TurnQueue } from "./turn-queue.ts"
import { transcriptStart, type UsageBook } from "./usage-book.ts"

/** How an iteration asks for its turn, begins, and ends. */

/** What a turn gives claude of the run's own; the servers of the moment are added to it. */
export type TurnGrant = Omit<Grant, "mcp">

export interface IterationsOptions extends FinalMessageContext {
  readonly directory: RunDirectory
  readonly diskRetry: DiskRetry
  /**
   * A predecessor was there, and then for a while nobody: what runs may have asked a hook that
   * nobody answered.
   */
  readonly adopted: boolean
  readonly run: RunFile
  /** The run's processes. */
  readonly search: Search
  /** A clock that nobody sets and that also counts while the machine sleeps. */
  steadyMs(): number
  /** Looks for the real claude. */
  claude(): ClaudeSearch
  /** What a claude shim is given with its turn, with where claude is. */
  granted(): Omit<TurnGrant, "claude">
  emit(kind: Reported["kind"], message: string): void
  /** Something that a beat says has changed. */
  changed(): void
  /**
   * After an iteration; how its claude ended decides a run of mode `once`, unless it `waits` for a
   * limit or a person.
   */
  over(end: IterationEnd): void
}

/** What acts for the iterations of one run, and what it knows of the one that runs. */
export interface IterationContext {
  readonly options: IterationsOptions
  readonly time: IterationTime
  readonly reader: FinalMessageReader
  readonly book: UsageBook
  readonly queue: TurnQueue<TurnGrant>
  readonly claude: ClaudeWatch
  readonly record: IterationRecord
  /** The turn that was there when this supervisor began, of its predecessor. */
  readonly inherited: string | undefined
  readonly turn: RunningTurn
  /** For how long the iteration ran without asking a hook. */
  unheardMs: number
  /** The turn that was ended because it asked none. */
  endedUnheard: string | undefined
  /** What the clock shows beyond a clock that nobody sets. */
  offsetMs: number
}

const grantAt = ({ options }: IterationContext, claude: string): TurnGrant => ({
  ...options.granted(),
  claude,
})

export async function ask(
  context: IterationContext,
  id: string,
  self: ProcessId,
  signal: AbortSignal,
): Promise<TurnGrant | undefined> {
  const { options, queue, claude } = context
  const path = claude.path()
  // Granted before, but the answer was lost.
  if (context.turn.now()?.id === id) return path === undefined ? undefined : grantAt(context, path)
  const shim = identify(self, options.search)
  if (!shim) throw new Error("the caller is not a process of this instance")
  const answer = queue.ask({ id, shim, sinceMs: options.nowMs() }, signal)
  options.changed()
  return answer
}

export function grant(context: IterationContext, directive: Directive): void {
  const { options, queue, claude, turn } = context
  const wanted = queue.first()
  if (!wanted || turn.now() || directive.freeze !== undefined || directive.turn?.id !== wanted.id)
    return
  const path = claude.path()
  if (path === undefined) return // it is looked for while somebody waits
  const isWaiting = isAlive(wanted.shim)
  if (isWaiting && !begin(context, wanted.id, wanted.shim)) return // it is granted again
  queue.answer(isWaiting ? grantAt(context, path) : undefined)
  options.changed()
}

/** False where it could not be written down: no successor would know the iteration. */
function begin(context: IterationContext, id: string, shim: ProcessId): boolean {
  const { options, book, record, time } = context
  const iteration = options.run.iterationsBefore + book.used().iterations + 1
  const sinceMs = options.nowMs()
  const turn = { id, shim, iteration, sinceMs, stops: 0, unheard: true, offered: [] }
  if (!context.turn.keep(turn)) {
    context.turn.forget()
    return false
  }
  record.begin()
  context.unheardMs = 0
  time.begin()
  options.emit("IterationStarted", `Iteration ${iteration} began.`)
  return true
}

export function finishIteration(
  context: IterationContext,
  id: string,
  exit: number,
  givenMs?: number,
): void {
  const { options, time, reader, book, claude, record } = context
  const turn = context.turn.now()
  if (turn?.id !== id) return
  const ms = givenMs ?? time.ms()
  const ranMs = Math.min(ms, time.ms())
  const code = claudeExitCode(turn, exit)
  const inherited = context.inherited === id
  const word = reader.conclude(turn, code)
  const isMissing = turn.unheard && code === 127 && claude.path() === undefined
  const conclusion = concludeTurn(turn, {
    code,
    word,
    endedUnheard: context.endedUnheard === id,
    inherited,
    missing: isMissing ? claude.hold() : undefined,
    atMs: options.nowMs(),
  })
  const { last, hold, refused, note } = conclusion
  record.end({ last, hold, refused, instructions: turn.told })
  options.emit("IterationEnded", describeEnd({ ...last, ms: ranMs, code: exit, refused, note }))
  const counted = !refused
  book.iterationEnded(turn, { ms: ranMs, endedAtMs: options.nowMs(), adopted: inherited, counted })
  context.turn.forget()
  options.changed()
  const failed = last.outcome === "FAILED"
  const waits = hold !== undefined
  if (!conclusion.uncontrolled) options.over({ code, failed, waits, text: last.text })
}

export function keepTranscript(context: IterationContext, path: string, fresh: boolean): void {
  const { options } = context
  const turn = context.turn.now()
  if (turn?.transcript?.path === path) return
  const transcript = fresh ? transcriptStart(path) : { path, offset: 0 }
  if (turn) context.turn.keep({ ...turn, transcript })
  const before = options.directory.get("transcripts")?.paths.filter((one) => one !== path) ?? []
  options.diskRetry.set("transcripts", { paths: [...before, path].slice(-transcriptsMax) })
}

export function report(
  context: IterationContext,
  granted: Directive["turn"],
): Pick<Beat, "turn" | "used" | "last" | "hold"> {
  const { time, book, queue, claude, record } = context
  const turn = context.turn.now()
  const wanted = queue.first()
  const hold = (wanted && claude.hold()) ?? record.hold()
  const last = record.last()
  const used = book.used()
  const running = turn && {
    id: turn.id,
    sinceMs: runningSinceMs(turn),
    state: "Running" as const,
  }
  const current = running ?? (wanted && { ...wanted, state: "Wanted" as const })
  return {
    ...(current && {
      turn: {
        id: current.id,
        state: current.state,
        sinceMs: current.sinceMs,
        ...(granted?.id === current.id && { grantedAtMs: granted.grantedAtMs }),
      },
    }),
    used: { ...used, ms: Math.round(used.ms + (turn ? time.ms() : 0)) },
    ...(last && { last }),
    ...(hold && { hold }),
  }
}
