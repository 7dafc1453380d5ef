import type { Beat } from "../core/beat.ts"
import { opening } from "../core/delivery.ts"
import type { Mail } from "../core/mail.ts"
import {
  type AnswerContent,
  answerHook,
  contextAnswer,
  type HookContext,
  type HooksOptions,
  instructionsDigest,
} from "./hook-answers.ts"
import type { HookAnswer, HookInput } from "./hook-input.ts"
import {
  confirm,
  type HookSession,
  newSession,
  offer,
  prove,
  receive,
  waitingNews,
} from "./hook-session.ts"

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

/**
 * Claude Code's hooks, by which mail gets into a running claude. Only the main agent of the outer
 * session takes mail.
 */
export function createHooks(options: HooksOptions): Hooks {
  let kept = newSession(options.delivered)
  const contents = new WeakMap<HookAnswer, AnswerContent>()
  const session = (): HookSession => ({ ...kept, turn: options.turn() })
  const keep = (next: HookSession): boolean => {
    kept = { ...next, turn: undefined }
    return next.turn === undefined || next.turn === options.turn() || options.keep(next.turn)
  }
  const context: HookContext = {
    options,
    session,
    keep,
    offer(hook, takenCharacters) {
      const before = session()
      const [after, mails] = offer(before, hook, options.nowMs(), takenCharacters)
      if (mails.length === 0 || keep(after)) return mails
      if (before.turn) options.keep(before.turn)
      return []
    },
    prove([after, receipts]) {
      // The receipts first: they are kept until the gateway has them, while the turn's file goes
      // with the iteration.
      for (const receipt of receipts) options.receipt(receipt)
      keep(after)
    },
    answer(answer, content) {
      contents.set(answer, content)
      return answer
    },
  }
  return {
    mail(mail) {
      const [after, receipt] = receive(session(), mail)
      if (receipt) options.receipt(receipt)
      keep(after)
    },
    hook: (input, isUnheard = false) => answerHook(context, input, isUnheard),
    news() {
      const before = options.toldBefore()
      if (before !== undefined && before !== instructionsDigest(options)) return "instruction"
      return waitingNews(session())
    },
    given(answer) {
      const { mails = [], standstills = false } = contents.get(answer) ?? {}
      if (standstills) options.standstillTold()
      keep(confirm(session(), mails))
    },
    part(index) {
      const text = opening(options.directive()).parts[index]
      return text === undefined ? {} : contextAnswer("UserPromptSubmit", [text])
    },
    answered(beganAtMs) {
      const stopped = options.turn()?.stopped
      if (stopped && beganAtMs > stopped.atMs) options.goesOn()
      context.prove(prove(session(), ({ atMs }) => atMs <= beganAtMs))
    },
  }
}
