import type { Beat, Marker } from "../core/beat.ts"
import { closed, judgeCircuit } from "../core/circuit.ts"
import type { Directive } from "../core/directive.ts"
import type { Reported } from "../core/event.ts"
import { describeEnd } from "../core/iteration-outcome.ts"
import { cut } from "../core/view.ts"
import type { ClaudeSearch } from "../host/find-claude.ts"
import { identify, isAlive, type ProcessId, type Search } from "../host/processes.ts"
import {
  type RunDirectory,
  type RunFile,
  type TurnFile,
  transcriptsMax,
} from "../run/run-directory.ts"
import type { Grant } from "./claude-shim.ts"
import { watchClaude } from "./claude-watch.ts"
import type { DiskRetry } from "./disk-retry.ts"
import { uncontrolledAfter } from "./failures.ts"
import {
  clockSetMs,
  createIterationTime,
  type IterationTime,
  runningSinceMs,
} from "./iteration-time.ts"
import {
  createFinalMessageReader,
  type FinalMessageContext,
  type FinalMessageReader,
} from "./last-word.ts"
import type { TelemetryLogs } from "./meter.ts"
import type { IterationEnd } from "./run-state.ts"
import { createTurnQueue } from "./turn-queue.ts"
import { createUsageBook, transcriptStart } from "./usage-book.ts"

/** What a turn gives claude of the run's own; the servers of the moment are added to it. */
export type Granted = Omit<Grant, "mcp">

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
  ask(id: string, self: ProcessId, signal: AbortSignal): Promise<Granted | undefined>
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
   * True once an iteration ran without its doors: what the loop says of itself then is not
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
export interface IterationsOptions extends FinalMessageContext {
  readonly directory: RunDirectory
  readonly keeper: DiskRetry
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
  granted(): Omit<Granted, "claude">
  emit(kind: Reported["kind"], message: string): void
  /** Something that a beat says has changed. */
  changed(): void
  /**
   * After an iteration; how its claude ended decides a run of mode `once`, unless it `waits` for a
   * limit or a person.
   */
  over(end: IterationEnd): void
}
/**
 * Claude asks its hook within two seconds; slow MCP servers and a busy machine may cost it half a
 * minute.
 */
const unheardMsMax = 60_000

export function createIterations(options: IterationsOptions): Iterations {
  const { directory, keeper, adopted, run, search, nowMs, steadyMs, granted, emit, changed } =
    options
  let turn = directory.get("turn")
  const found = adopted ? turn?.id : undefined
  const warn = (message: string): void => emit("Warning", message)
  const book = createUsageBook({
    iterationsBefore: run.iterationsBefore,
    directory,
    keeper,
    warn,
    changed,
  })
  const queue = createTurnQueue<Granted>()
  const claude = watchClaude(options.claude, nowMs, changed)
  const grantOf = (path: string): Granted => ({ ...granted(), claude: path })
  const before = directory.get("last")
  let last = before?.last
  let toldBefore = before?.told
  let hold = before?.hold
  let circuit = before?.circuit ?? closed
  const keepLast = (): void => {
    if (last)
      keeper.set("last", {
        last,
        circuit,
        ...(toldBefore !== undefined && { told: toldBefore }),
        ...(hold && { hold }),
      })
  }
  /** What people were told of the failure that lasts: a repeat is no news. */
  let toldHold: string | undefined
  let unheardMs = 0
  /** The turn that was told to end because nothing was heard of it. */
  let deaf: string | undefined
  /**
   * Not of a run before, whose last word is carried over: iterations are counted through all runs.
   */
  const lastHere = (): typeof last =>
    last && last.iteration > run.iterationsBefore ? last : undefined
  let offsetMs = nowMs() - steadyMs()

  const keep = (next: TurnFile): boolean => {
    turn = next
    return keeper.set("turn", next)
  }
  const time = createIterationTime({ turn: () => turn, keep, nowMs, steadyMs, emit })
  /**
   * False when it could not be written down: an iteration that no successor would know does not
   * begin.
   */
  const begin = (id: string, shim: ProcessId): boolean => {
    const iteration = run.iterationsBefore + book.used().iterations + 1
    if (!keep({ id, shim, iteration, sinceMs: nowMs(), stops: 0, unheard: true, offered: [] })) {
      turn = undefined
      keeper.remove("turn")
      return false
    }
    hold = undefined // its turn was granted: what held it is over
    unheardMs = 0
    time.begin()
    emit("IterationStarted", `Iteration ${iteration} began.`)
    return true
  }

  const word = createFinalMessageReader({
    ...options,
    turn: () => turn,
    keep,
    met(next) {
      hold = next
      if (hold && hold.message !== toldHold) emit("Warning", hold.message)
      toldHold = hold?.message
    },
  })

  return {
    time,
    word,
    turn: () => turn,
    toldBefore: () => toldBefore,
    keep,
    async ask(id, self, signal) {
      const path = claude.path()
      if (turn?.id === id) return path === undefined ? undefined : grantOf(path) // granted before, but the answer was lost
      const shim = identify(self, search)
      if (!shim) throw new Error("who asks is no process of this instance")
      const answer = queue.ask({ id, shim, sinceMs: nowMs() }, signal)
      changed()
      return answer
    },
    grant(directive) {
      const wanted = queue.first()
      if (!wanted || turn || directive.freeze !== undefined || directive.turn?.id !== wanted.id)
        return
      const path = claude.path()
      if (path === undefined) return // it is looked for while somebody waits
      const asks = isAlive(wanted.shim)
      if (asks && !begin(wanted.id, wanted.shim)) return // asked again while it waits
      queue.answer(asks ? grantOf(path) : undefined)
      changed()
    },
    ended(id, exit, ms = time.ms()) {
      if (turn?.id !== id) return
      const { overdue } = turn
      const code = overdue?.why === "Stopped" ? 0 : exit // all was done, only the exit was missing
      const ranMs = Math.min(ms, time.ms())
      // A claude that failed before it asked says itself what is wrong, and the loop tries again.
      const lost =
        turn.unheard === true && ((code === 0 && found !== id) || deaf === id)
          ? uncontrolledAfter(turn.iteration, deaf === id)
          : undefined
      const failed = lost ?? (overdue?.why === "TooLong" ? overdue : undefined)
      const { iteration, told } = turn
      const end = word.conclude(turn, code)
      // It was there when its turn was granted, and gone when it was to begin.
      const gone =
        turn.unheard && code === 127 && claude.path() === undefined ? claude.hold() : undefined
      const obstacle = failed ?? gone
      const { outcome, text } = obstacle
        ? { outcome: "FAILED" as const, text: obstacle.message }
        : end
      const refused = end.refused || gone !== undefined
      if (outcome !== "FAILED") toldHold = undefined
      last = { turn: id, iteration, outcome, text: cut(text, 4000), atMs: nowMs() }
      if (!refused) toldBefore = told // the model of a refused one was told nothing
      hold = lost ?? gone ?? end.hold
      keepLast()
      const note = overdue && overdue !== failed ? overdue.message : ""
      emit("IterationEnded", describeEnd({ ...last, ms: ranMs, code: exit, refused, note }))
      book.iterationEnded(turn, {
        ms: ranMs,
        endedAtMs: nowMs(),
        adopted: found === id,
        counted: !refused,
      })
      turn = undefined
      keeper.remove("turn")
      changed()
      const waits = hold !== undefined
      if (!lost) options.over({ code, failed: outcome === "FAILED", waits, text: last.text })
    },
    judge(commits) {
      if (!last) return
      const waits = hold !== undefined && hold.reason !== "CircuitOpen"
      const after = judgeCircuit(circuit, last, commits, waits)
      circuit = after.circuit
      if (after.hold) {
        hold = after.hold
        emit("Warning", hold.message)
      }
      keepLast()
      changed()
    },
    metered: book.metered,
    transcript(path, fresh) {
      if (turn?.transcript?.path === path) return
      if (turn) keep({ ...turn, transcript: fresh ? transcriptStart(path) : { path, offset: 0 } })
      const before = directory.get("transcripts")?.paths.filter((one) => one !== path) ?? []
      keeper.set("transcripts", { paths: [...before, path].slice(-transcriptsMax) })
    },
    reconcile: book.reconcile,
    unheard(passedMs) {
      if (!turn?.unheard || deaf === turn.id) return undefined
      unheardMs += passedMs
      if (unheardMs < unheardMsMax) return undefined
      deaf = turn.id
      return turn
    },
    knows: (id) => turn?.id === id || queue.has(id),
    ran: () => turn !== undefined || lastHere() !== undefined,
    lastOutcome: () => lastHere()?.outcome,
    uncontrolled: () => hold?.reason === "Uncontrolled",
    orphaned: () => (turn && !isAlive(turn.shim) ? turn : undefined),
    look() {
      const backMs = offsetMs - (nowMs() - steadyMs())
      offsetMs -= backMs
      if (time.look()) changed()
      if (backMs > clockSetMs) {
        queue.shift(backMs)
        if (hold?.untilMs !== undefined)
          hold = { ...hold, untilMs: Math.round(hold.untilMs - backMs) }
        changed()
      }
      if (queue.dropDead()) changed()
      if (queue.first()) claude.path()
    },
    report(grantedTurn) {
      const wanted = queue.first()
      const withheld = (wanted && claude.hold()) ?? hold
      const running = turn && {
        id: turn.id,
        sinceMs: runningSinceMs(turn),
        state: "Running" as const,
      }
      const asked = running ?? (wanted && { ...wanted, state: "Wanted" as const })
      const used = book.used()
      return {
        ...(asked && {
          turn: {
            id: asked.id,
            state: asked.state,
            sinceMs: asked.sinceMs,
            ...(grantedTurn?.id === asked.id && { grantedAtMs: grantedTurn.grantedAtMs }),
          },
        }),
        used: { ...used, ms: Math.round(used.ms + (turn ? time.ms() : 0)) },
        ...(last && { last }),
        ...(withheld && { hold: withheld }),
      }
    },
  }
}
