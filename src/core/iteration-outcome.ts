import { z } from "zod"
import { type Last, type Marker, markerSchema } from "./beat.ts"
import { oneLine } from "./view.ts"

/**
 * How an iteration ended: by the model's last word, by a failure that came after it, or by the exit
 * of a claude that said nothing.
 */

/** As Claude Code's hook StopFailure tells it. */
export const failureSchema = z.strictObject({
  /**
   * Its kind, in Claude Code's own word: `rate_limit`, `authentication_failed`, `invalid_request`,
   * `unknown`, ...
   */
  error: z.string().max(100),
  /** What claude printed for people: the API's error. */
  message: z.string().max(2000),
  /** What the API said besides, where claude's own words hide it. */
  details: z.string().max(1000),
})
export type Failure = z.output<typeof failureSchema>

export const finalMessageSchema = z.strictObject({
  marker: markerSchema,
  text: z.string().max(4000),
  /** The model went on working after it: it is not its last word any more. */
  superseded: z.boolean(),
})
export type FinalMessage = z.output<typeof finalMessageSchema>

/** Claude's own words, and the API's where these say more. */
export function describeFailure({ error, message, details }: Failure): string {
  const said = oneLine(message, 2000)
  const more = oneLine(apiMessage(details), 500)
  if (said === "") return more === "" ? `claude gave no reason but "${oneLine(error, 100)}".` : more
  return more === "" || said.includes(more) ? said : `${said} (${more})`
}

/** The sentence in `413 {"type":"error","error":{"message":"..."}}`, with the status in front. */
function apiMessage(details: string): string {
  const status = /\b[45]\d\d\b/.exec(details)?.[0]
  const message = /"message":\s*"((?:[^"\\]|\\.)*)"/.exec(details)?.[1]
  if (message === undefined) return details
  return `${status === undefined ? "" : `${status}: `}${message.replace(/\\(["\\/])/g, "$1")}`
}

/** Numbers of Linux (signal(7)); a process that one ended has 128 more as its exit code. */
const signals: Readonly<Record<number, string>> = {
  1: "SIGHUP",
  2: "SIGINT",
  3: "SIGQUIT",
  6: "SIGABRT",
  9: "SIGKILL",
  11: "SIGSEGV",
  13: "SIGPIPE",
  15: "SIGTERM",
}
const likelyCauses: Readonly<Record<string, string>> = {
  SIGKILL: " Somebody killed it, or the machine ran out of memory.",
  SIGTERM: " Somebody ended it, or a time limit such as timeout(1) did.",
  SIGSEGV: " It crashed.",
  SIGABRT: " It crashed.",
}

export interface ExitReport {
  readonly code: number
  /** It ended before it had asked any hook. */
  readonly unheard: boolean
  /** The last lines that it or its loop printed. */
  readonly printed: readonly string[]
}

/** Why claude ended, as far as its exit tells. */
export function describeExit({ code, unheard, printed }: ExitReport): string {
  const signal = signals[code - 128]
  if (signal !== undefined)
    return `claude was ended by ${signal} (exit code ${code}) before the model had finished.${likelyCauses[signal] ?? ""}`
  if (!unheard)
    return `claude ended with exit code ${code} before the model had finished; the log has its own words.`
  const words = oneLine(printed.join(" "), 500)
  return `claude refused to start (exit code ${code}). ${words === "" ? "Its own words are in the log." : `It printed: ${words}`}`
}

export function concludeIteration(
  said: FinalMessage | undefined,
  failure: Failure | undefined,
  exited: ExitReport,
): { readonly outcome: Marker; readonly text: string } {
  if (failure) return { outcome: "FAILED", text: describeFailure(failure) }
  const ended = exited.code !== 0
  if (!said || said.superseded)
    return ended
      ? { outcome: "FAILED", text: describeExit(exited) }
      : { outcome: "NONE", text: said?.text ?? "" }
  // A claude that had said its last word and was ended by a signal has not failed: only its exit
  // was missing.
  const failed = said.marker === "NONE" && ended && signals[exited.code - 128] === undefined
  return failed
    ? {
        outcome: "FAILED",
        text: `claude ended with exit code ${exited.code} after its last message: ${said.text}`,
      }
    : { outcome: said.marker, text: said.text }
}

/** As the timeline tells it. `note` is what was done to it from outside. */
export function describeEnd(
  ended: Last & {
    readonly ms: number
    readonly code: number
    readonly refused: boolean
    readonly note: string
  },
): string {
  const { iteration, outcome, text, ms, code, refused, note } = ended
  const seconds = Math.round(ms / 1000)
  const how = refused
    ? `was refused after ${seconds} s and does not count`
    : `ended after ${seconds} s: ${outcome}, exit code ${code}`
  return `Iteration ${iteration} ${how}. ${note === "" ? "" : `${note} `}${oneLine(text, 500)}`
}
