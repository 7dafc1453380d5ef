import { createHash } from "node:crypto"
import { z } from "zod"
import { summaryOf } from "../core/activity.ts"
import type { Beat, Marker } from "../core/beat.ts"
import { choose, opening, renderMail, standstillWords, stopsMax } from "../core/delivery.ts"
import type { Directive } from "../core/directive.ts"
import { markerOf } from "../core/final-message.ts"
import type { Failure } from "../core/iteration-outcome.ts"
import type { Hook, Mail, Receipt } from "../core/mail.ts"
import { cut, oneLine } from "../core/view.ts"
import type { TurnFile } from "../run/run-directory.ts"

/**
 * What Claude Code posts to a hook of type "http" (code.claude.com/docs, "Hooks"); only what is
 * read here. `agent_id` is a sub-agent's.
 */
export const hookInputSchema = z.looseObject({
  hook_event_name: z.string(),
  agent_id: z.string().optional(),
  transcript_path: z.string().optional(),
  tool_name: z.string().optional(),
  tool_input: z.unknown().optional(),
  last_assistant_message: z.string().optional(),
  error: z.unknown().optional(),
  error_details: z.unknown().optional(),
  /** Of a Stop: what may wake the session again. */
  background_tasks: z.array(z.unknown()).optional(),
  session_crons: z.array(z.unknown()).optional(),
})
export type HookInput = z.output<typeof hookInputSchema>
/** A hook's answer; empty means: go on. */
export type HookAnswer = Record<string, unknown>

export interface HooksOptions {
  nowMs(): number
  /** Unforgeable by what it fences. */
  nonce(): string
  directive(): Pick<Directive, "goal" | "orders">
  /** The iteration that runs, as the run directory keeps it. */
  turn(): TurnFile | undefined
  /** What the last finished iteration had been told. */
  toldBefore(): string | undefined
  /**
   * Keeps it, before the answer goes out: a successor must know what was offered. False while it
   * cannot be written down.
   */
  keep(turn: TurnFile): boolean
  /** Receipts that the gateway may not know yet, of a predecessor. */
  readonly delivered: readonly Receipt[]
  receipt(receipt: Receipt): void
  /**
   * Where Claude Code keeps its own record of the iteration; `fresh` when nothing of the iteration
   * can be in it yet.
   */
  transcript(path: string, fresh: boolean): void
  activity(activity: Beat["activity"]): void
  said(marker: Marker, text: string): void
  failed(failure: Failure): void
  /** The model works: what it said last is not its last word. */
  working(): void
  /** Claude has spoken its last word, or given up, and is expected to exit. */
  stopped(how: "Stopped" | "Failed"): void
  /** It works again. */
  goesOn(): void
  /** The model was told of all the standstills of its turn. */
  standstillTold(): void
}
export interface Hooks {
  /** A mail that the fleet wants delivered; a repeat of one that is known changes nothing. */
  mail(mail: Mail): void
  /**
   * `isUnheard`: claude has given up waiting for the answer. Then it gets no mail, which a later
   * hook may still give.
   */
  hook(input: HookInput, isUnheard?: boolean): HookAnswer
  /** What the next iteration would hear that the last one did not. */
  news(): Beat["news"]
  /**
   * That answer went out whole. What is not known to have gone out proves nothing: it is given
   * again in the next iteration.
   */
  given(answer: HookAnswer): void
  /** A further part of the opening, for which UserPromptSubmit has hooks of their own; from 0. */
  part(index: number): HookAnswer
  /**
   * A request of the main agent that began then was answered: it proves what was offered before.
   */
  answered(beganAtMs: number): void
}

const detailsOf = (details: unknown = ""): string =>
  typeof details === "string" ? details : JSON.stringify(details)

/** The end of a last message in which its marker is looked for. */
const lastWordsMax = 262_144
/** As the run directory keeps it. */
const pathCharactersMax = 4096

/**
 * How many delivered mails are remembered: the link repeats only what was not acknowledged a moment
 * ago.
 */
const deliveredMax = 1000

/**
 * The hooks by which mail gets into a running claude: its hooks. Only the main agent of the outer
 * session takes mail.
 */
export function createHooks(options: HooksOptions): Hooks {
  const waiting = new Map<string, Mail>()
  /**
   * What was proved, also in iterations before: their file is gone, and the link may still repeat
   * such a mail.
   */
  const delivered = new Map<string, Receipt>(
    options.delivered.map((receipt) => [receipt.mail, receipt]),
  )
  /** What each answer gave. */
  const answers = new WeakMap<HookAnswer, readonly Mail[]>()
  /** Those that tell of standstills. */
  const toldStandstills = new WeakSet<HookAnswer>()
  /** When all tools of one answer were done: the next tool is proof of a request after that. */
  let batchAtMs = 0

  const prove = (holds: (offered: TurnFile["offered"][number]) => boolean): void => {
    const turn = options.turn()
    const proved = turn?.offered.filter((one) => one.given && !one.proved && holds(one)) ?? []
    if (!turn || proved.length === 0) return
    // The receipts first: they are kept until the gateway has them, while the turn's file goes with
    // the iteration.
    for (const { mail, hook } of proved) {
      const receipt: Receipt = { mail, state: "Delivered", iteration: turn.iteration, hook }
      waiting.delete(mail)
      delivered.set(mail, receipt)
      options.receipt(receipt)
    }
    options.keep({
      ...turn,
      offered: turn.offered.map((one) => (proved.includes(one) ? { ...one, proved: true } : one)),
    })
    for (const mail of [...delivered.keys()].slice(0, -deliveredMax)) delivered.delete(mail)
  }
  /**
   * The receipt of a mail that was delivered before, also by a predecessor in the iteration that
   * runs.
   */
  const receiptOf = (mail: string): Receipt | undefined => {
    const turn = options.turn()
    const offered = turn?.offered.find((one) => one.mail === mail && one.proved)
    return (
      delivered.get(mail) ??
      (turn &&
        offered && { mail, state: "Delivered", iteration: turn.iteration, hook: offered.hook })
    )
  }
  const offer = (hook: Hook, taken = 0): readonly Mail[] => {
    const turn = options.turn()
    // Behind mail of which nobody knows whether it was given, other mail would overtake it.
    if (!turn || turn.offered.some(({ given, proved }) => !given && !proved)) return []
    const known = new Set(turn.offered.map(({ mail }) => mail))
    // In the order of the link, which is that of the inbox; the moments in the mails may go back
    // with the clock.
    const mails = choose(
      [...waiting.values()].filter(({ id }) => !known.has(id)),
      hook,
      taken,
    )
    if (mails.length === 0) return []
    const atMs = options.nowMs()
    const offered = mails.map(({ id }) => ({ mail: id, hook, atMs, given: false, proved: false }))
    const kept = options.keep({
      ...turn,
      stops: turn.stops + (hook === "Stop" ? 1 : 0),
      offered: [...turn.offered, ...offered],
    })
    if (kept) return mails
    options.keep(turn)
    return []
  }
  const words = (mails: readonly Mail[]): string[] => {
    const nonce = options.nonce()
    return mails.map((mail) => renderMail(mail, nonce))
  }
  const context = (event: string, parts: readonly string[], mails: readonly Mail[]): HookAnswer => {
    if (parts.length === 0) return {}
    const answer = {
      hookSpecificOutput: { hookEventName: event, additionalContext: parts.join("\n\n") },
    }
    answers.set(answer, mails)
    return answer
  }
  const toldNow = (): string => {
    const { goal, orders } = options.directive()
    return createHash("sha256")
      .update(JSON.stringify([goal, orders]))
      .digest("base64url")
  }
  const open = (): HookAnswer => {
    const { withMail } = opening(options.directive())
    const mails = offer("UserPromptSubmit", withMail?.length)
    const turn = options.turn()
    if (turn) options.keep({ ...turn, told: toldNow() })
    return context(
      "UserPromptSubmit",
      [...(withMail === undefined ? [] : [withMail]), ...words(mails)],
      mails,
    )
  }
  const stop = (input: HookInput): HookAnswer => {
    const text = (input.last_assistant_message ?? "").slice(-lastWordsMax)
    prove(() => true) // the model has spoken its last word after all that was offered
    options.said(markerOf(text), text)
    options.activity(undefined)
    const mails = (options.turn()?.stops ?? stopsMax) < stopsMax ? offer("Stop") : []
    if (mails.length === 0) {
      const waits = (input.background_tasks?.length ?? 0) + (input.session_crons?.length ?? 0) > 0
      if (!waits) options.stopped("Stopped")
      return {}
    }
    options.working()
    const answer = { decision: "block", reason: words(mails).join("\n\n") }
    answers.set(answer, mails)
    return answer
  }

  return {
    mail(mail) {
      // Told before but not acknowledged in time: it is told again instead of given again.
      const before = receiptOf(mail.id)
      if (before) options.receipt(before)
      else if (!waiting.has(mail.id)) waiting.set(mail.id, mail)
    },
    hook(input, isUnheard = false) {
      const main = input.agent_id === undefined
      options.goesOn()
      const turn = options.turn()
      if (turn?.unheard) options.keep({ ...turn, unheard: false }) // whichever comes first: that of the prompt may have found nobody
      if (
        main &&
        input.transcript_path !== undefined &&
        input.transcript_path.length <= pathCharactersMax
      )
        options.transcript(input.transcript_path, input.hook_event_name === "UserPromptSubmit")
      switch (input.hook_event_name) {
        case "UserPromptSubmit":
          return main ? open() : {}
        case "PreToolUse":
          options.activity({
            tool: oneLine(input.tool_name ?? "tool", 120),
            summary: summaryOf(input.tool_input),
            sinceMs: options.nowMs(),
          })
          // No tool runs before the model has answered the prompt. Of what was given after a tool,
          // only that from before the last batch of tools is proved: tools of one answer run side
          // by side.
          if (main) options.working()
          if (main) prove(({ hook, atMs }) => hook === "UserPromptSubmit" || atMs <= batchAtMs)
          return {}
        case "PostToolUse":
        case "PostToolUseFailure":
        case "PostToolBatch": {
          if (!main) return {}
          const stood = standstillWords(turn?.stood ?? [])
          const mails = isUnheard ? [] : offer("PostToolUse", stood.join("\n\n").length)
          const answer = context(input.hook_event_name, [...stood, ...words(mails)], mails)
          if (stood.length > 0) toldStandstills.add(answer)
          if (input.hook_event_name === "PostToolBatch") {
            batchAtMs = options.nowMs()
            options.activity(undefined)
          }
          return answer
        }
        case "Stop":
          return main ? stop(input) : {}
        case "StopFailure":
          if (main) {
            options.stopped("Failed")
            options.failed({
              error: cut(String(input.error ?? "unknown"), 100),
              message: cut(input.last_assistant_message ?? "", 2000),
              details: cut(detailsOf(input.error_details), 1000),
            })
          }
          return {}
        default:
          return {}
      }
    },
    news() {
      const mails = [...waiting.values()]
      const told = options.toldBefore()
      if (
        mails.some(({ authority }) => authority === "operator") ||
        (told !== undefined && told !== toldNow())
      )
        return "instruction"
      return mails.length > 0 ? "mail" : undefined
    },
    given(answer) {
      if (toldStandstills.has(answer)) options.standstillTold()
      const mails = new Set(answers.get(answer)?.map(({ id }) => id))
      const turn = options.turn()
      if (!turn || mails.size === 0) return
      options.keep({
        ...turn,
        offered: turn.offered.map((one) => (mails.has(one.mail) ? { ...one, given: true } : one)),
      })
    },
    part(index) {
      const text = opening(options.directive()).parts[index]
      return text === undefined ? {} : context("UserPromptSubmit", [text], [])
    },
    answered(beganAtMs) {
      const stopped = options.turn()?.stopped
      if (stopped && beganAtMs > stopped.atMs) options.goesOn()
      prove(({ atMs }) => atMs <= beganAtMs)
    },
  }
}
