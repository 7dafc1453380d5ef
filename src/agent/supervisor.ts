import { randomBytes, randomUUID } from "node:crypto"
import type { Exit, Problem } from "../core/instance.ts"
import { type Beat, type Directive, type Emitted, noUsage, type Usage } from "../core/link.ts"
import { oneLine } from "../core/view.ts"
import { alive, end, freeze, ofInstance, ofTurn, processId, stopped, thaw } from "../processes.ts"
import type { RunDirectory, TurnFile } from "../run-directory.ts"
import { connect } from "./connection.ts"
import { createDoors } from "./doors.ts"
import { holdFor } from "./failures.ts"
import { adoptLoop, startLoop, writeSettings } from "./launch.ts"
import { listen } from "./loopback.ts"
import { countedMax, meter } from "./meter.ts"
import { captureOutput } from "./output.ts"
import type { Grant } from "./turnstile.ts"

/** A beat is sent at once on a change, else this often. */
const beatMs = 5000
/** How often a process that is not our child is looked at. */
const watchMs = 500
/** One question of the turnstile waits at most this long. */
const askMsMax = 50_000
/** From SIGTERM to SIGKILL when the loop ends and leaves something behind, or is told to stop. */
const graceSeconds = 8
/** What the last beats, receipts and events may take at the end; the gateway is started again within this. */
const flushMs = 20_000

export interface SupervisorOptions {
  readonly directory: RunDirectory
  /** Nobody answers at the gateway's socket: called after some failed attempts. */
  revive(): void
  /** Aborted when the supervisor is told to stop its instance. */
  readonly stop: AbortSignal
}

/** Supervises one run, from its start or from where a predecessor left it, until not one process of it is left. */
export async function supervise({ directory, revive, stop }: SupervisorOptions): Promise<void> {
  const run = directory.get("run")
  if (!run) throw new Error(`${directory.path} is no run directory`)
  const nowMs = (): number => Date.now()
  const self = new Set([process.pid])
  const processes = ofInstance(run.uid)
  let turn: TurnFile | undefined = directory.get("turn")
  let wanted: { id: string; pid: number; sinceMs: number; grant: (grant: Grant | undefined) => void } | undefined
  let usage = directory.get("usage") ?? { used: noUsage, counted: [] }
  let directive: Directive | undefined // what the fleet said to this supervisor; until it speaks nothing is frozen, let go or begun
  let remembered = directory.get("directive")
  let frozen = false
  let activity: Beat["activity"]
  let last: Beat["last"]
  let hold: Beat["hold"]
  let failures = 0
  let said: { marker: NonNullable<Beat["last"]>["outcome"]; text: string } | undefined

  const output = captureOutput(directory, nowMs)
  let timer: NodeJS.Timeout | undefined
  let loopback: Awaited<ReturnType<typeof listen>> | undefined

  // ── the end
  let finishing = false
  const finish = async (exit: Omit<Exit, "atMs">, problem?: Problem): Promise<void> => {
    if (finishing) return
    finishing = true
    clearInterval(timer)
    await end(processes, self, graceSeconds)
    if (turn) turnEnded(turn.id, exit.code, nowMs() - turn.sinceMs)
    wanted = undefined
    await output.finish()
    beat()
    await connection.flushed(AbortSignal.timeout(flushMs))
    directory.set("exit", { exit: { ...exit, atMs: nowMs() }, ...(problem && { problem }) })
    loopback?.close()
    connection.close()
    done()
  }
  let done = (): void => {}
  const over = new Promise<void>((resolve) => {
    done = resolve
  })

  // ── what the fleet hears
  const emit = (kind: Emitted["kind"], message: string): void =>
    connection.send({ type: "event", event: { id: randomUUID(), kind, message: message.slice(0, 4000), atMs: nowMs() } })
  const beat = (): void => {
    const atMs = nowMs()
    const used: Usage = turn ? { ...usage.used, ms: usage.used.ms + Math.max(0, atMs - turn.sinceMs) } : usage.used
    const asked = turn
      ? { id: turn.id, state: "Running" as const, sinceMs: turn.sinceMs }
      : wanted && { id: wanted.id, state: "Wanted" as const, sinceMs: wanted.sinceMs }
    connection.beat({
      place: run.place,
      ...(asked && { turn: asked }),
      frozen,
      used: { ...used, ms: Math.round(used.ms) },
      ...(activity && { activity }),
      ...(last && { last }),
      ...(hold && { hold }),
      atMs,
    })
  }

  // ── turns
  const keepTurn = (next: TurnFile): void => {
    turn = next
    directory.set("turn", next)
  }
  const keepUsage = (): void => directory.set("usage", usage)
  const granted = (): Grant => ({ settings: directory.settings, ...(run.model !== undefined && { model: run.model }) })
  const grantTurn = (): void => {
    if (!wanted || turn || frozen || directive?.freeze || directive?.turn !== wanted.id) return
    const turnstile = processId(wanted.pid)
    const { id, grant } = wanted
    wanted = undefined
    if (!turnstile) {
      beat()
      return
    }
    said = undefined
    const iteration = run.iterationsBefore + usage.used.iterations + 1
    keepTurn({ id, turnstile, iteration, sinceMs: nowMs(), stops: 0, offered: [] })
    emit("IterationStarted", `Iteration ${iteration} began.`)
    grant(granted())
    beat()
  }
  const turnEnded = (id: string, code: number, ms: number): void => {
    if (turn?.id !== id) return
    const outcome =
      said?.marker === "COMPLETE" || said?.marker === "BLOCKED" || said?.marker === "PARTIAL"
        ? said.marker
        : code === 0
          ? "NONE"
          : "FAILED"
    last = { iteration: turn.iteration, outcome, text: (said?.text ?? "").slice(0, 4000), atMs: nowMs() }
    emit(
      "IterationEnded",
      `Iteration ${turn.iteration} ended after ${Math.round(ms / 1000)} s: ${outcome}, exit code ${code}. ${oneLine(last.text, 500)}`,
    )
    usage = { ...usage, used: { ...usage.used, iterations: usage.used.iterations + 1, ms: usage.used.ms + ms } }
    keepUsage()
    if (code === 0) {
      failures = 0
      hold = undefined
    }
    turn = undefined
    directory.remove("turn")
    doors.iterationEnded()
    beat()
    if (run.mode === "once") void finish({ code, outcome: code === 0 ? "Complete" : "Failed" })
  }

  // ── what the fleet wants
  const apply = (): void => {
    if (!directive) return
    const still = directive.freeze !== undefined || (turn !== undefined && directive.turn !== turn.id)
    if (still !== frozen) {
      if (still) {
        if (!freeze(processes, self)) emit("Warning", "Not every process could be stopped; it is tried again.")
      } else thaw(processes, self)
      frozen = still
      beat()
    }
    grantTurn()
  }
  const connection = connect({
    ...run,
    directive(next) {
      directive = next
      if (JSON.stringify(remembered) !== JSON.stringify(next)) {
        remembered = next
        directory.set("directive", next)
      }
      apply()
    },
    mail: (mail) => doors.mail(mail),
    replaced: () => void finish({ code: 143 }),
    away: revive,
  })

  // ── what claude says
  const doors = createDoors({
    nowMs,
    nonce: () => randomBytes(6).toString("hex"),
    directive: () => directive ?? remembered ?? { orders: [] },
    turn: () => turn,
    keep: keepTurn,
    receipt: (receipt) => connection.send({ type: "receipt", receipt }),
    activity(next) {
      activity = next
      beat()
    },
    said(marker, text) {
      said = { marker, text }
    },
    failed(error, details) {
      hold = holdFor(error, details, ++failures, nowMs())
      if (hold) emit("Warning", hold.message)
      beat()
    },
  })
  const before = directory.get("supervisor")
  const token = before?.token ?? randomBytes(32).toString("hex")
  const door = await listen(before?.port ?? 0, token, {
    turn: (id, pid, signal) =>
      new Promise((resolve) => {
        if (turn?.id === id) return resolve(granted()) // granted before, but the answer was lost
        wanted?.grant(undefined)
        const settle = (grant: Grant | undefined): void => {
          clearTimeout(asking)
          resolve(grant)
        }
        const asking = setTimeout(() => settle(undefined), askMsMax)
        signal.addEventListener("abort", () => settle(undefined), { once: true })
        wanted = { id, pid, sinceMs: wanted?.id === id ? wanted.sinceMs : nowMs(), grant: settle }
        beat()
        grantTurn()
      }),
    turnEnded,
    hook: (input) => doors.hook(input),
    logs(logs) {
      const { used, counted, mainBeganAtMs } = meter(logs, usage.counted)
      if (counted.length === 0) return
      usage = {
        used: { ...usage.used, usd: usage.used.usd + used.usd, tokens: usage.used.tokens + used.tokens },
        counted: [...usage.counted, ...counted].slice(-countedMax),
      }
      keepUsage()
      for (const atMs of mainBeganAtMs) doors.answered(atMs)
      beat()
    },
  })
  loopback = door
  const own = processId(process.pid)
  if (own) directory.set("supervisor", { ...own, port: door.port, token })

  // ── the loop
  writeSettings(directory, door.port, token)
  const loopEnded = (code: number): void =>
    void finish({ code, ...(code === 0 && run.mode !== "continuous" && { outcome: "Complete" as const }) })

  const known = directory.get("loop")
  if (known) frozen = stopped(known)
  const loop = known
    ? adoptLoop(directory, known, loopEnded)
    : startLoop(directory, output, { port: door.port, token }, loopEnded)
  if ("problem" in loop) void finish({ code: 127 }, loop.problem)

  // ── what nobody tells: a turnstile that died, and a loop that is not our child
  let sinceBeatMs = 0
  timer = setInterval(() => {
    if ("check" in loop) loop.check()
    if (turn && !alive(turn.turnstile)) {
      // Whoever was its claude has no parent to report its end, and must not go on without a turn.
      const { id, sinceMs } = turn
      void end(ofTurn(id), self, graceSeconds).then(() => turnEnded(id, 137, nowMs() - sinceMs))
    } else if (wanted && !processId(wanted.pid)) {
      wanted.grant(undefined)
      wanted = undefined
      beat()
    }
    sinceBeatMs += watchMs
    if (sinceBeatMs >= beatMs) {
      sinceBeatMs = 0
      if (frozen) freeze(processes, self) // whoever was started from outside meanwhile
      beat()
    }
  }, watchMs)
  stop.addEventListener("abort", () => void finish({ code: 143 }), { once: true })
  if (stop.aborted) void finish({ code: 143 })
  beat()
  await over
}
