import type { Beat, Marker } from "../core/beat.ts"
import type { Directive } from "../core/directive.ts"
import { isAlive, type ProcessId } from "../host/processes.ts"
import type { TurnFile } from "../run/run-directory.ts"
import { watchClaude } from "./claude-watch.ts"
import { createIterationRecord } from "./iteration-record.ts"
import {
  ask,
  finishIteration,
  grant,
  type IterationContext,
  type IterationsOptions,
  keepTranscript,
  report,
  type TurnGrant,
} from "./iteration-steps.ts"
import { clockSetMs, createIterationTime, type IterationTime } from "./iteration-time.ts"
import { createFinalMessageReader, type FinalMessageReader } from "./last-word.ts"
import type { TelemetryLogs } from "./meter.ts"
import { createRunningTurn } from "./running-turn.ts"
import { createTurnQueue } from "./turn-queue.ts"
import { createUsageBook } from "./usage-book.ts"

/**
 * The iterations of a run: who asks for a turn, what runs, what it used, how it ended. Kept in the
 * run directory, so a successor knows.
 */
export interface Iterations {
  readonly time: IterationTime
  turn(): TurnFile | undefined
  /** False while it could not be written down: no successor would know. */
  keep(turn: TurnFile): boolean
  /** Digest of what the last finished iteration was told. */
  toldBefore(): string | undefined
  /**
   * Waits in line until the turn is granted; undefined when the wait was too long for one call, or
   * the caller is gone. `self` is the claude shim as it sees itself. @throws Error when it is no
   * process of this run, Fault when too many wait.
   */
  ask(id: string, self: ProcessId, signal: AbortSignal): Promise<TurnGrant | undefined>
  /** Begins the iteration that asks, if the fleet has granted its turn. */
  grant(directive: Directive): void
  /** `ms` is how long its claude was there, the time that it stood still included. */
  ended(id: string, code: number, ms?: number): void
  /**
   * After each iteration, with the commits of its branch, if they are known: whether what it
   * brought is worth another one.
   */
  judge(commits: number | undefined): void
  readonly word: Pick<FinalMessageReader, "said" | "failed" | "working">
  /** Counts an export of telemetry; returns when the main agent's answered requests began. */
  metered(logs: TelemetryLogs): readonly number[]
  /**
   * Where Claude Code keeps its own record of the iteration; `fresh` when nothing of the iteration
   * can be in it yet.
   */
  transcript(path: string, fresh: boolean): void
  /** Counts what telemetry did not tell of finished iterations, from their transcripts. */
  reconcile(): Promise<void>
  /**
   * Counts the time that an iteration runs unfrozen and unheard; the turn that is to be ended for
   * it, once.
   */
  unheard(passedMs: number): TurnFile | undefined
  /** True for a claude that has its turn or waits in line for it. */
  knows(id: string): boolean
  /** True once claude ran in this run. */
  ran(): boolean
  /** How the last iteration of this run ended; undefined while none has. */
  lastOutcome(): Marker | undefined
  /**
   * True once an iteration ran without its hooks: what the loop says of itself then is not
   * believed.
   */
  uncontrolled(): boolean
  /** The claude shim of the running iteration, if it died without a word. */
  orphaned(): TurnFile | undefined
  /** Forgets a claude shim that asked and died; follows a clock that was set back. */
  look(): void
  /** What a beat says of them. */
  report(granted: Directive["turn"]): Pick<Beat, "turn" | "used" | "last" | "hold">
}
/**
 * Claude asks its hook within two seconds; slow MCP servers and a busy machine may cost it half a
 * minute.
 */
const unheardMsMax = 60_000

export function createIterations(options: IterationsOptions): Iterations {
  const context = createContext(options)
  const { turn, time, reader, book, queue, claude, record } = context
  const { changed, steadyMs, nowMs } = options
  return {
    time,
    word: reader,
    turn: turn.now,
    toldBefore: record.instructions,
    keep: turn.keep,
    ask: (id, self, signal) => ask(context, id, self, signal),
    grant: (directive) => grant(context, directive),
    ended: (id, code, ms) => finishIteration(context, id, code, ms),
    judge(commits) {
      record.judge(commits)
      changed()
    },
    metered: book.metered,
    transcript: (path, fresh) => keepTranscript(context, path, fresh),
    reconcile: book.reconcile,
    unheard(passedMs) {
      const running = turn.now()
      if (!running?.unheard || context.endedUnheard === running.id) return undefined
      context.unheardMs += passedMs
      if (context.unheardMs < unheardMsMax) return undefined
      context.endedUnheard = running.id
      return running
    },
    knows: (id) => turn.now()?.id === id || queue.has(id),
    ran: () => turn.now() !== undefined || record.lastOfRun() !== undefined,
    lastOutcome: () => record.lastOfRun()?.outcome,
    uncontrolled: () => record.hold()?.reason === "Uncontrolled",
    orphaned() {
      const running = turn.now()
      return running && !isAlive(running.shim) ? running : undefined
    },
    look() {
      const backMs = context.offsetMs - (nowMs() - steadyMs())
      context.offsetMs -= backMs
      if (time.look()) changed()
      if (backMs > clockSetMs) {
        queue.shift(backMs)
        record.shift(backMs)
        changed()
      }
      if (queue.dropDead()) changed()
      if (queue.first()) claude.path()
    },
    report: (granted) => report(context, granted),
  }
}

function createContext(options: IterationsOptions): IterationContext {
  const { directory, diskRetry, adopted, run, nowMs, steadyMs, emit, changed } = options
  const warn = (message: string): void => emit("Warning", message)
  const turn = createRunningTurn(directory, diskRetry)
  const record = createIterationRecord(directory, diskRetry, run, warn)
  const { iterationsBefore } = run
  return {
    options,
    turn,
    record,
    time: createIterationTime({ turn: turn.now, keep: turn.keep, nowMs, steadyMs, emit }),
    reader: createFinalMessageReader({
      ...options,
      turn: turn.now,
      keep: turn.keep,
      met: record.meet,
    }),
    book: createUsageBook({ iterationsBefore, directory, diskRetry, warn, changed }),
    queue: createTurnQueue<TurnGrant>(),
    claude: watchClaude(options.claude, nowMs, changed),
    inherited: adopted ? turn.now()?.id : undefined,
    unheardMs: 0,
    endedUnheard: undefined,
    offsetMs: nowMs() - steadyMs(),
  }
}
