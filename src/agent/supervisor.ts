/**
 * A long file: it wires together what supervises one run; the parts themselves are files of their
 * own.
 */
import { randomBytes, randomUUID } from "node:crypto"
import { setTimeout as sleep } from "node:timers/promises"
import type { Beat } from "../core/beat.ts"
import { type Directive, iterationMinutesMaxDefault } from "../core/directive.ts"
import type { Endpoint } from "../core/endpoint.ts"
import { Fault } from "../core/faults.ts"
import type { Exit, Problem } from "../core/instance.ts"
import { ranNoClaude } from "../core/loop.ts"
import { portTokenPrefix } from "../core/secrets.ts"
import { counted, cut } from "../core/view.ts"
import type { Guarded } from "../host/agent-view.ts"
import { searchClaude } from "../host/find-claude.ts"
import { treeSearch } from "../host/process-search.ts"
import {
  end,
  find,
  freeze,
  isAlive,
  members,
  processesOfRun,
  processesOfTurn,
  processId,
  type Search,
  standsStill,
  thaw,
  tickMs,
} from "../host/processes.ts"
import { writePressing } from "../host/reserve.ts"
import { type RunDirectory, transcriptsMax } from "../run/run-directory.ts"
import { createBeats } from "./beats.ts"
import { createClaudeProgram } from "./claude-program.ts"
import { connectLink } from "./connection.ts"
import { createDiskRetry, whenThereIsRoom } from "./disk-retry.ts"
import { createHooks } from "./hooks.ts"
import { createIterations } from "./iterations.ts"
import { adoptedExit, graceSeconds, startLoop } from "./launch.ts"
import { type LoopbackHandlers, listenWhenFree } from "./loopback.ts"
import { createAgentServers } from "./mcp-servers.ts"
import { captureOutput } from "./output.ts"
import { createReports } from "./reports.ts"
import { sinceBootMs } from "./running-time.ts"
import { settingsFor } from "./settings.ts"
import { removeSockets } from "./sockets.ts"
import { createSpool } from "./spool.ts"
import { createTurnEnd } from "./turn-end.ts"
import { createTurnFiles } from "./turn-files.ts"
import { createWorkspace } from "./workspace.ts"

/** A beat is sent at once on a change, else this often. */
const beatMs = 5000
/** How often processes that are not our children are looked at. */
const lookMs = 500
/**
 * What the last beats, receipts and events may take at the end; a gateway that is away is started
 * again within this.
 */
const flushMs = 20_000
/**
 * A transcript is a local file of some megabytes; a file system that hangs may not keep a run from
 * its end.
 */
const reconcileMs = 5000

/** What goes through a loop's `tee` takes milliseconds. */
const printedMs = 150
/** Agents that met a limit together try again within a minute of one another. */
const jitterMsMax = 60_000

export interface SupervisorOptions {
  readonly directory: RunDirectory
  /** Nobody answers at the gateway's socket: called after some failed attempts. */
  revive(): void
  /** The control plane, as the instance of this run. */
  readonly endpoint: Endpoint
  /** Asks the control plane for the MCP servers of this instance. */
  servers(): Promise<unknown>
  /** The environment of this process. */
  readonly environment: NodeJS.ProcessEnv
  /** What the instance's processes must not change. */
  guarded(): Guarded
  /** Aborted when the supervisor is told to stop its instance. */
  readonly stop: AbortSignal
}

/**
 * Supervises one run, from its start or from where a predecessor left it, until not one process of
 * it is left.
 */
export async function supervise(options: SupervisorOptions): Promise<void> {
  const { directory, endpoint, revive, servers: askServers, environment, guarded, stop } = options
  const run = directory.get("run")
  if (!run) throw new Error(`${directory.path} is no run directory`)
  const nowMs = (): number => Date.now()
  const self = new Set([process.pid])
  const processes = processesOfRun(run.uid, run.place)
  const predecessor = directory.get("supervisor")
  if (predecessor && predecessor.pid !== process.pid && isAlive(predecessor)) return // it was only slow to say that it is there
  const token = predecessor?.token ?? `${portTokenPrefix}${randomBytes(32).toString("hex")}`
  const known = directory.get("loop")
  // What a predecessor's run has elsewhere is looked for once.
  const below = treeSearch(
    processes,
    self,
    () => directory.get("loop"),
    predecessor ? find(processes, self) : [],
  )
  const everywhere: Search = () => members(processes, self)
  /**
   * In a PID namespace nothing leaves the tree. Elsewhere a look at all of the machine follows the
   * stop of what is below the loop.
   */
  const search = run.isolation === "process tree" ? everywhere : below
  const halt = (): boolean => freeze(below) && (search === below || freeze(search))
  let frozen = known !== undefined && standsStill(everywhere)
  /**
   * A predecessor may have been killed between two signals: the first directive is carried out
   * whatever was found.
   */
  let inherited = known !== undefined
  let activity: Beat["activity"]
  /**
   * What the fleet said to this supervisor; until it speaks, nothing is frozen, let go or begun.
   */
  let directive: Directive | undefined
  /** What it said last, also to a predecessor: goal and orders for an iteration that runs. */
  let remembered = directory.get("directive")

  const beats = createBeats(
    () => {
      const atMs = nowMs()
      const news = doors.news()
      return {
        place: run.place,
        frozen,
        ...iterations.report(directive?.turn),
        ...workspace.report(),
        ...(activity && { activity }),
        ...(news && { news }),
        atMs,
      }
    },
    (beat) => connection.beat(beat),
  )
  const emit = createReports((kind, message) =>
    connection.send({
      type: "event",
      event: { id: randomUUID(), kind, message: cut(message, 4000), atMs: nowMs() },
    }),
  )

  let warned = false
  const full = (error: unknown): void => {
    if (warned) return
    warned = true
    emit(
      "Warning",
      `The run directory cannot be written (${error instanceof Error ? error.message : error}): make room on its disk.`,
    )
  }
  const keeper = createDiskRetry(directory, full)
  let dropped = 0
  const spool = createSpool({
    left: directory.get("spool")?.frames ?? [],
    keep: (frames) => void keeper.set("spool", { frames: [...frames] }),
    dropped(count) {
      dropped += count
    },
  })
  const servers = createAgentServers({
    run,
    stateDirectory: directory.stateDirectory,
    environment,
    ask: askServers,
    warn: (message) => emit("Warning", message),
  })
  /** Where the claude is that turns were given to last. */
  let claudePath = run.claude
  const findClaude = (): ReturnType<typeof searchClaude> => {
    const found = searchClaude(run.claudeNamed ? { named: run.claude } : { known: run.claude })
    if ("path" in found) claudePath = found.path
    return found
  }
  const iterations = createIterations({
    directory,
    keeper,
    adopted: predecessor !== undefined,
    run,
    nowMs,
    search,
    steadyMs: sinceBootMs,
    claude: findClaude,
    granted: () => ({
      settings: settingsFor({ port, token }),
      ...(run.model !== undefined && { model: run.model }),
    }),
    emit,
    changed() {
      beats.changed()
      if (directive && !frozen) iterations.grant(directive)
    },
    zone: () => Intl.DateTimeFormat().resolvedOptions().timeZone,
    jitterMs: () => Math.round(Math.random() * jitterMsMax),
    printed: (sinceMs) => output.printedSince(sinceMs),
    over({ code, failed, waits }) {
      activity = undefined
      void workspace.look().then(() => iterations.judge(workspace.report().work?.commits))
      // What waits for a limit has not had its iteration yet.
      if (run.mode === "once" && !waits)
        void finish(
          { code, outcome: failed ? "Failed" : "Complete" },
          failed ? failedOnce() : undefined,
        )
    },
  })
  iterations.time.still(frozen)
  const failedOnce = (): Problem => ({
    reason: "IterationFailed",
    message: cut(
      `Its only iteration failed: ${iterations.report(undefined).last?.text ?? ""}`,
      2000,
    ),
  })
  const files = createTurnFiles(directory)
  if (!iterations.turn()) files.clear()
  const iterationEnded: typeof iterations.ended = (id, code, ms) => {
    if (iterations.turn()?.id === id) files.clear()
    iterations.ended(id, code, ms)
    void iterations.reconcile()
    void servers.iterationOver()
  }
  /**
   * Of a turn that began under a predecessor, its turnstile knows better how long its claude was
   * there.
   */
  const adoptedTurn = predecessor && iterations.turn()?.id
  const turnEnd = createTurnEnd({
    search,
    below,
    self,
    program: createClaudeProgram(),
    loop: () => directory.get("loop"),
    claude: () => claudePath,
    running: iterations.turn,
    isFrozen: () => frozen,
    warn: (message) => emit("Warning", message),
    ended: iterationEnded,
  })
  const workspace = createWorkspace({
    run,
    directory: directory.path,
    nowMs,
    changed: beats.changed,
    warn: (message) => emit("Warning", message),
  })
  const doors = createHooks({
    nowMs,
    nonce: () => randomBytes(6).toString("hex"),
    directive: () => directive ?? remembered ?? { orders: [] },
    turn: iterations.turn,
    toldBefore: iterations.toldBefore,
    keep: iterations.keep,
    delivered: spool.receipts(),
    receipt: (receipt) => connection.send({ type: "receipt", receipt }),
    ...iterations.word,
    stopped: iterations.time.stopped,
    goesOn: iterations.time.goesOn,
    standstillTold: iterations.time.standstillTold,
    transcript(path, fresh) {
      if (iterations.turn()?.transcript?.path === path) return
      iterations.transcript(path, fresh)
      const before = directory.get("transcripts")?.paths.filter((one) => one !== path) ?? []
      keeper.set("transcripts", { paths: [...before, path].slice(-transcriptsMax) })
    },
    activity(next) {
      activity = next
      beats.changed()
    },
  })

  /**
   * A running iteration whose turn is no longer granted stands still, like one that the fleet
   * freezes.
   */
  const apply = (wanted: Directive): void => {
    const turn = iterations.turn()
    const still = wanted.freeze !== undefined || (turn !== undefined && wanted.turn?.id !== turn.id)
    const changes = still !== frozen
    if (changes || inherited) {
      if (!still) thaw(search)
      else if (!halt()) emit("Warning", "Not every process could be stopped; it is tried again.")
      inherited = false
    }
    if (changes) {
      frozen = still
      const stoodMs = iterations.time.still(still)
      if (activity) activity = { ...activity, sinceMs: activity.sinceMs + stoodMs }
      beats.now()
    }
    if (!frozen) iterations.grant(wanted)
  }
  const connection = connectLink({
    endpoint,
    spool,
    directive(next) {
      const regranted = next.turn?.grantedAtMs !== directive?.turn?.grantedAtMs
      directive = next
      const changed = JSON.stringify(remembered) !== JSON.stringify(next)
      if (changed) {
        remembered = next
        keeper.set("directive", next)
      }
      apply(next)
      if (regranted || changed) beats.changed()
    },
    mail(mail) {
      doors.mail(mail)
      beats.changed()
    },
    replaced: () => void finish({ code: 143 }),
    away: revive,
    connected() {
      if (dropped > 0)
        emit("Warning", `${counted(dropped, "event")} found no room while the gateway was away.`)
      dropped = 0
    },
  })
  const output = await whenThereIsRoom(() => captureOutput(directory, nowMs), full)

  const over = Promise.withResolvers<void>()
  let timer: NodeJS.Timeout | undefined
  let finishing = false
  const finish = async (exit: Omit<Exit, "atMs">, problem?: Problem): Promise<void> => {
    if (finishing) return
    finishing = true
    clearInterval(timer)
    await end(processes, self, graceSeconds, search)
    const turn = iterations.turn()
    if (turn) iterationEnded(turn.id, exit.code)
    files.clear()
    removeSockets(directory)
    await output.finish()
    activity = undefined
    iterations.look()
    await workspace.end()
    await Promise.race([iterations.reconcile(), sleep(reconcileMs, undefined, { ref: false })])
    beats.now()
    await connection.flushed(AbortSignal.timeout(flushMs))
    const last = { exit: { ...exit, atMs: nowMs() }, ...(problem && { problem }) }
    // A removal, which makes room, waits for this.
    while (!writePressing(directory.stateDirectory, () => directory.set("exit", last)))
      await new Promise((resolve) => setTimeout(resolve, lookMs))
    loopback?.close()
    beats.close()
    connection.close()
    over.resolve()
  }
  let loopback: { port: number; close(): void } | undefined
  /** The agent's last word, or the loop's exit code, as the loop's author chose. */
  const isComplete = (code: number): boolean =>
    run.completion === "marker" ? iterations.lastOutcome() === "COMPLETE" : code === 0
  const loopEnded = (code: number): void => {
    const complete = isComplete(code) && run.mode !== "continuous" && !iterations.uncontrolled()
    if (iterations.ran())
      return void finish({ code, ...(complete && { outcome: "Complete" as const }) })
    void finish(
      { code },
      {
        reason: ranNoClaude,
        message: `Its loop ended without running claude (exit code ${code}).`,
      },
    )
  }
  /**
   * A loop that knows no markers asks for one more turn after the agent has said that it is
   * complete: that is its end.
   */
  const isThrough = (id: string): boolean =>
    run.completion === "marker" &&
    run.mode === "until-complete" &&
    iterations.lastOutcome() === "COMPLETE" &&
    !iterations.knows(id)

  const told = stop.aborted || directory.get("stop") !== undefined
  const handlers: LoopbackHandlers = {
    fleet: endpoint,
    async turn(id, pid, signal) {
      if (isThrough(id)) {
        await finish({ code: 0, outcome: "Complete" })
        return undefined
      }
      const granted = await iterations.ask(id, pid, signal)
      if (!granted) return undefined
      const configuration = await servers.configuration({ port, token })
      return { ...granted, mcp: await whenThereIsRoom(() => files.write(configuration), full) }
    },
    async settings(text) {
      const path = await whenThereIsRoom(() => files.write(text), full)
      const turn = iterations.turn()
      if (turn) return { path, turn: turn.id }
      files.clear()
      throw new Fault(
        "Conflict",
        "No iteration runs.",
        "Call claude from an iteration of the loop.",
      )
    },
    async turnEnded(id, code, ms) {
      // What a claude printed that refused to start says why, and may still be on its way through
      // the loop's pipes.
      if (code !== 0 && iterations.turn()?.unheard) await sleep(printedMs)
      const turn = iterations.turn()
      if (turn?.id === id)
        await turnEnd.said(turn, () =>
          iterationEnded(id, code, id === adoptedTurn ? ms : undefined),
        )
    },
    mcp: servers.call,
    hook: doors.hook,
    given: doors.given,
    openingPart: doors.part,
    logs(logs, nested) {
      const mainBeganAtMs = iterations.metered(logs)
      if (!nested) for (const atMs of mainBeganAtMs) doors.answered(atMs)
    },
  }
  try {
    loopback = await listenWhenFree(predecessor?.port ?? 0, token, handlers)
  } catch (error) {
    // The loop and its claude know that port alone: they cannot go on, and are started again with
    // another.
    void finish(
      { code: 75 },
      {
        reason: "PortTaken",
        message: `The port of its supervisor is taken (${error}). It is started again.`,
      },
    )
    return over.promise
  }
  const { port } = loopback
  const own = processId(process.pid)
  await whenThereIsRoom(() => {
    if (own) directory.set("supervisor", { ...own, port, token })
  }, full)
  const begin = async (): Promise<void> => {
    const problem = await workspace.prepare()
    if (finishing) return
    const outside = { guarded, warn: (message: string) => emit("Warning", message) }
    const start = () => startLoop(directory, keeper, output, { port, token }, loopEnded, outside)
    const failure = problem ?? (await whenThereIsRoom(start, full))
    if (failure === "Rival") {
      clearInterval(timer)
      beats.close()
      connection.close()
      over.resolve()
    } else if (failure) await finish({ code: 127 }, failure)
  }
  // A loop is started once in a run: whoever dies between its start and the note of it leaves a run
  // that is over.
  const lost = !known && directory.get("launched") !== undefined
  if (lost) void finish({ code: 137 })
  else if (known) void workspace.look()
  else if (!told) begin().catch(over.reject)

  void iterations.reconcile() // of iterations that ended under a predecessor

  // What nobody tells: a turnstile that died, a loop that is not our child, processes that were
  // started from outside meanwhile.
  let quietMs = 0
  let ending: string | undefined
  const minutesMax = (): number =>
    (directive ?? remembered)?.iterationMinutesMax ?? iterationMinutesMaxDefault
  const beganSince = (turn: string, sinceBootMs: number): boolean =>
    find(processesOfTurn(turn), self).some(({ startTicks }) => startTicks * tickMs >= sinceBootMs)
  const look = (): void => {
    const code = known && adoptedExit(directory, known)
    if (code !== undefined) loopEnded(code)
    // Its turnstile tells its end, like any other's.
    const deaf = frozen ? undefined : iterations.unheard(lookMs)
    if (deaf) void turnEnd.force(deaf)
    const late = frozen ? undefined : iterations.time.overdue(minutesMax(), beganSince)
    if (late) void turnEnd.force(late)
    const orphan = iterations.orphaned()
    // Its claude has no parent that could report its end, and must not go on without a turn.
    if (orphan && orphan.id !== ending) {
      ending = orphan.id
      void turnEnd.force(orphan)
    }
    if (keeper.retry()) warned = false
    if (directive && !frozen) iterations.grant(directive)
    iterations.look()
    quietMs += lookMs
    if (quietMs < beatMs) return
    quietMs = 0
    if (frozen) halt()
    else turnEnd.sweep()
    beats.now()
  }
  timer = setInterval(look, lookMs)
  stop.addEventListener("abort", () => void finish({ code: 143 }), { once: true })
  if (told) void finish({ code: 143 })
  beats.now()
  await over.promise
}
