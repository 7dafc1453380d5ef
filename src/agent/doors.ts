import { createHash } from "node:crypto"
import { z } from "zod"
import { summaryOf } from "../core/activity.ts"
import { choose, opening, stopsMax, wordsOf } from "../core/delivery.ts"
import type { Beat, Directive, Door, Mail, Marker, Receipt } from "../core/link.ts"
import { oneLine } from "../core/view.ts"
import type { TurnFile } from "../run-directory.ts"

/** What Claude Code posts to a hook of type "http" (code.claude.com/docs, "Hooks"); only what is read here. `agent_id` is a sub-agent's. */
export const hookInputSchema = z.looseObject({
  hook_event_name: z.string(),
  agent_id: z.string().optional(),
  transcript_path: z.string().optional(),
  tool_name: z.string().optional(),
  tool_input: z.unknown().optional(),
  last_assistant_message: z.string().optional(),
  error: z.unknown().optional(),
  error_details: z.unknown().optional(),
})
export type HookInput = z.output<typeof hookInputSchema>
/** A hook's answer; empty means: go on. */
export type HookAnswer = Record<string, unknown>

export interface DoorsOptions {
  nowMs(): number
  /** Unforgeable by what it fences. */
  nonce(): string
  directive(): Pick<Directive, "goal" | "orders">
  /** The iteration that runs, as the run directory keeps it. */
  turn(): TurnFile | undefined
  /** What the last finished iteration had been told. */
  toldBefore(): string | undefined
  /** Keeps it, before the answer goes out: a successor must know what was offered. */
  keep(turn: TurnFile): void
  receipt(receipt: Receipt): void
  /** Where Claude Code keeps its own record of the iteration. */
  transcript(path: string): void
  activity(activity: Beat["activity"]): void
  said(marker: Marker, text: string): void
  failed(error: string, details: string): void
}
export interface Doors {
  /** A mail that the fleet wants delivered; a repeat of one that is known changes nothing. */
  mail(mail: Mail): void
  hook(input: HookInput): HookAnswer
  /** What the next iteration would hear that the last one did not. */
  news(): Beat["news"]
  /** A request of the main agent that began then was answered: it proves what was offered before. */
  answered(beganAtMs: number): void
}

export const markerOf = (text: string): Marker =>
  /<promise>\s*COMPLETE\s*<\/promise>/.test(text)
    ? "COMPLETE"
    : /Status:\s*BLOCKED/.test(text)
      ? "BLOCKED"
      : /Status:\s*PARTIAL/.test(text)
        ? "PARTIAL"
        : "NONE"

/** How many delivered mails are remembered: the link repeats only what was not acknowledged a moment ago. */
const deliveredMax = 1000

/** The doors by which mail gets into a running claude: its hooks. Only the main agent of the outer session takes mail. */
export function createDoors(options: DoorsOptions): Doors {
  const waiting = new Map<string, Mail>()
  /** What was proved, also in iterations before: their file is gone, and the link may still repeat such a mail. */
  const delivered = new Map<string, Receipt>()
  /** When all tools of one answer were done: the next tool is proof of a request after that. */
  let batchAtMs = 0

  const prove = (holds: (offered: TurnFile["offered"][number]) => boolean): void => {
    const turn = options.turn()
    const proved = turn?.offered.filter((one) => !one.proved && holds(one)) ?? []
    if (!turn || proved.length === 0) return
    options.keep({ ...turn, offered: turn.offered.map((one) => (proved.includes(one) ? { ...one, proved: true } : one)) })
    for (const { mail, door } of proved) {
      const receipt: Receipt = { mail, state: "Delivered", iteration: turn.iteration, door }
      waiting.delete(mail)
      delivered.set(mail, receipt)
      options.receipt(receipt)
    }
    for (const mail of [...delivered.keys()].slice(0, -deliveredMax)) delivered.delete(mail)
  }
  /** The receipt of a mail that was delivered before, also by a predecessor in the iteration that runs. */
  const receiptOf = (mail: string): Receipt | undefined => {
    const turn = options.turn()
    const offered = turn?.offered.find((one) => one.mail === mail && one.proved)
    return delivered.get(mail) ?? (turn && offered && { mail, state: "Delivered", iteration: turn.iteration, door: offered.door })
  }
  const offer = (door: Door): readonly Mail[] => {
    const turn = options.turn()
    if (!turn) return []
    const known = new Set(turn.offered.map(({ mail }) => mail))
    const mails = choose(
      [...waiting.values()].filter(({ id }) => !known.has(id)).toSorted((a, b) => a.atMs - b.atMs),
      door,
    )
    if (mails.length > 0) {
      const atMs = options.nowMs()
      options.keep({
        ...turn,
        stops: turn.stops + (door === "Stop" ? 1 : 0),
        offered: [...turn.offered, ...mails.map(({ id }) => ({ mail: id, door, atMs, proved: false }))],
      })
    }
    return mails
  }
  const context = (event: string, text: string | undefined): HookAnswer =>
    text === undefined ? {} : { hookSpecificOutput: { hookEventName: event, additionalContext: text } }
  const words = (mails: readonly Mail[]): string | undefined => {
    const nonce = options.nonce()
    return mails.length > 0 ? mails.map((mail) => wordsOf(mail, nonce)).join("\n\n") : undefined
  }

  const toldNow = (): string => {
    const { goal, orders } = options.directive()
    return createHash("sha256")
      .update(JSON.stringify([goal, orders]))
      .digest("base64url")
  }
  const open = (): HookAnswer => {
    const mails = offer("UserPromptSubmit")
    const turn = options.turn()
    if (turn) options.keep({ ...turn, told: toldNow(), unheard: false })
    return context("UserPromptSubmit", opening(options.directive(), mails, options.nonce()))
  }
  const stop = (input: HookInput): HookAnswer => {
    const text = input.last_assistant_message ?? ""
    prove(() => true) // the model has spoken its last word after all that was offered
    options.said(markerOf(text), text)
    options.activity(undefined)
    const reason = (options.turn()?.stops ?? stopsMax) < stopsMax ? words(offer("Stop")) : undefined
    return reason === undefined ? {} : { decision: "block", reason }
  }

  return {
    mail(mail) {
      // Told before but not acknowledged in time: it is told again instead of given again.
      const before = receiptOf(mail.id)
      if (before) options.receipt(before)
      else if (!waiting.has(mail.id)) waiting.set(mail.id, mail)
    },
    hook(input) {
      const main = input.agent_id === undefined
      switch (input.hook_event_name) {
        case "UserPromptSubmit":
          if (main && input.transcript_path !== undefined) options.transcript(input.transcript_path)
          return main ? open() : {}
        case "PreToolUse":
          options.activity({
            tool: oneLine(input.tool_name ?? "tool", 120),
            summary: summaryOf(input.tool_input),
            sinceMs: options.nowMs(),
          })
          // No tool runs before the model has answered the prompt. Of what was given after a tool, only that from before the last batch of
          // tools is proved: tools of one answer run side by side.
          if (main) prove(({ door, atMs }) => door === "UserPromptSubmit" || atMs <= batchAtMs)
          return {}
        case "PostToolUse":
        case "PostToolUseFailure":
        case "PostToolBatch": {
          if (!main) return {}
          const answer = context(input.hook_event_name, words(offer("PostToolUse")))
          if (input.hook_event_name === "PostToolBatch") {
            batchAtMs = options.nowMs()
            options.activity(undefined)
          }
          return answer
        }
        case "Stop":
          return main ? stop(input) : {}
        case "StopFailure":
          if (main)
            options.failed(
              String(input.error ?? "unknown"),
              `${JSON.stringify(input.error_details ?? "")} ${input.last_assistant_message ?? ""}`,
            )
          return {}
        default:
          return {}
      }
    },
    news() {
      const mails = [...waiting.values()]
      const told = options.toldBefore()
      if (mails.some(({ authority }) => authority === "operator") || (told !== undefined && told !== toldNow()))
        return "instruction"
      return mails.length > 0 ? "mail" : undefined
    },
    answered(beganAtMs) {
      prove(({ atMs }) => atMs <= beganAtMs)
    },
  }
}
