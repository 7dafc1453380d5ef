import { createHash } from "node:crypto"
import { summaryOf } from "../core/activity.ts"
import type { Beat, Marker } from "../core/beat.ts"
import { opening, renderMail, standstillWords } from "../core/delivery.ts"
import type { Directive } from "../core/directive.ts"
import { markerOf } from "../core/final-message.ts"
import type { Failure } from "../core/iteration-outcome.ts"
import type { Hook, Mail, Receipt } from "../core/mail.ts"
import { cut, oneLine } from "../core/view.ts"
import type { TurnFile } from "../run/run-directory.ts"
import type { HookAnswer, HookInput } from "./hook-input.ts"
import { type HookSession, type prove, proveAll, proveByTool } from "./hook-session.ts"

/** What each of Claude Code's hooks is answered, and what it shows of the agent. */

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
/** What an answer gave, until it is known to have gone out. */
export interface AnswerContent {
  readonly mails: readonly Mail[]
  /** It tells of all standstills of the turn. */
  readonly standstills: boolean
}

/** The session as it is kept, and what happens to it. */
export interface HookContext {
  readonly options: HooksOptions
  session(): HookSession
  /** False while its turn cannot be written down. */
  keep(session: HookSession): boolean
  /** Gives mail, or none where that cannot be written down. */
  offer: (hook: Hook, takenCharacters?: number) => readonly Mail[]
  prove(proved: ReturnType<typeof prove>): void
  /** Remembers what an answer gives. */
  answer(answer: HookAnswer, content: AnswerContent): HookAnswer
}

const describeDetails = (details: unknown = ""): string =>
  typeof details === "string" ? details : JSON.stringify(details)

/** The end of a last message in which its marker is looked for. */
const lastCharactersMax = 262_144
/** As the run directory keeps it. */
const pathCharactersMax = 4096

/** Of the goal and the orders that the model is given at its prompt. */
export function instructionsDigest({ directive }: HooksOptions): string {
  const { goal, orders } = directive()
  return createHash("sha256")
    .update(JSON.stringify([goal, orders]))
    .digest("base64url")
}

export const contextAnswer = (event: string, parts: readonly string[]): HookAnswer =>
  parts.length === 0
    ? {}
    : { hookSpecificOutput: { hookEventName: event, additionalContext: parts.join("\n\n") } }

function renderMails({ nonce }: HooksOptions, mails: readonly Mail[]): readonly string[] {
  const fence = nonce()
  return mails.map((mail) => renderMail(mail, fence))
}

export function answerHook(context: HookContext, input: HookInput, isUnheard: boolean): HookAnswer {
  const { options } = context
  const isMain = input.agent_id === undefined
  options.goesOn()
  const turn = options.turn()
  // Whichever comes first: the hook of the prompt may have found nobody.
  if (turn?.unheard) options.keep({ ...turn, unheard: false })
  const { transcript_path: transcript, hook_event_name: event } = input
  if (isMain && transcript !== undefined && transcript.length <= pathCharactersMax)
    options.transcript(transcript, event === "UserPromptSubmit")
  if (event === "PreToolUse") return answerTool(context, input, isMain)
  if (!isMain) return {} // a sub-agent takes no mail, and its end is none
  switch (event) {
    case "UserPromptSubmit":
      return answerPrompt(context)
    case "PostToolUse":
    case "PostToolUseFailure":
    case "PostToolBatch":
      return answerResult(context, event, isUnheard)
    case "Stop":
      return answerStop(context, input)
    case "StopFailure":
      options.stopped("Failed")
      options.failed({
        error: cut(String(input.error ?? "unknown"), 100),
        message: cut(input.last_assistant_message ?? "", 2000),
        details: cut(describeDetails(input.error_details), 1000),
      })
      return {}
    default:
      return {}
  }
}

/** The prompt: goal, orders, and all mail. */
function answerPrompt({ options, offer, answer }: HookContext): HookAnswer {
  const { withMail } = opening(options.directive())
  const mails = offer("UserPromptSubmit", withMail?.length)
  const turn = options.turn()
  if (turn) options.keep({ ...turn, told: instructionsDigest(options) })
  const parts = [...(withMail === undefined ? [] : [withMail]), ...renderMails(options, mails)]
  return answer(contextAnswer("UserPromptSubmit", parts), { mails, standstills: false })
}

/** Before a tool: what the agent does now, and proof of what it has read. */
function answerTool(
  { options, session, prove }: HookContext,
  input: HookInput,
  isMain: boolean,
): HookAnswer {
  options.activity({
    tool: oneLine(input.tool_name ?? "tool", 120),
    summary: summaryOf(input.tool_input),
    sinceMs: options.nowMs(),
  })
  if (!isMain) return {}
  options.working()
  prove(proveByTool(session()))
  return {}
}

/** After a tool, or all tools of one answer: urgent mail, and how long everything stood still. */
function answerResult(
  { options, session, keep, offer, answer }: HookContext,
  event: string,
  isUnheard: boolean,
): HookAnswer {
  const stood = standstillWords(options.turn()?.stood ?? [])
  // Claude has given up waiting: a later hook may still give the mail.
  const mails = isUnheard ? [] : offer("PostToolUse", stood.join("\n\n").length)
  if (event === "PostToolBatch") {
    keep({ ...session(), batchAtMs: options.nowMs() })
    options.activity(undefined)
  }
  const parts = [...stood, ...renderMails(options, mails)]
  return answer(contextAnswer(event, parts), { mails, standstills: stood.length > 0 })
}

/** The model has spoken its last word: mail makes it go on. */
function answerStop(
  { options, session, offer, prove, answer }: HookContext,
  input: HookInput,
): HookAnswer {
  const text = (input.last_assistant_message ?? "").slice(-lastCharactersMax)
  prove(proveAll(session())) // it spoke after all that was offered
  options.said(markerOf(text), text)
  options.activity(undefined)
  const mails = offer("Stop")
  if (mails.length === 0) {
    const waits = (input.background_tasks?.length ?? 0) + (input.session_crons?.length ?? 0) > 0
    if (!waits) options.stopped("Stopped")
    return {}
  }
  options.working()
  const reason = renderMails(options, mails).join("\n\n")
  return answer({ decision: "block", reason }, { mails, standstills: false })
}
