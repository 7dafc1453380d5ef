import type { Beat } from "../core/beat.ts"
import { choose, stopsMax } from "../core/delivery.ts"
import type { Hook, Mail, Receipt } from "../core/mail.ts"
import type { TurnFile } from "../run/run-directory.ts"

/**
 * Which mail a running claude gets at which of its hooks, and what proves that the model read it.
 * Pure: `hooks.ts` keeps the session, and writes its turn down before an answer goes out.
 */
export interface HookSession {
  /**
   * The iteration that runs, as the run directory keeps it: what was offered in it, when, at which
   * hook, and what of it is proved.
   */
  readonly turn: TurnFile | undefined
  /** Mail that nobody has proved to be read, in the order of the inbox. */
  readonly waiting: readonly Mail[]
  /**
   * What was proved, also in iterations before: their file is gone, and the link may still repeat
   * such a mail.
   */
  readonly delivered: readonly Receipt[]
  /** When all tools of one answer were done: the next tool is proof of a request after that. */
  readonly batchAtMs: number
}
export type MailOffer = TurnFile["offered"][number]

/**
 * How many delivered mails are remembered: the link repeats only what was not acknowledged a moment
 * ago.
 */
const deliveredMax = 1000

export const newSession = (delivered: readonly Receipt[]): HookSession => ({
  turn: undefined,
  waiting: [],
  delivered,
  batchAtMs: 0,
})

/**
 * A mail from the fleet. One that was delivered before, but not acknowledged in time, gets its
 * receipt again instead of being given again.
 */
export function receive(
  session: HookSession,
  mail: Mail,
): readonly [HookSession, Receipt | undefined] {
  const { turn, waiting, delivered } = session
  const offer = turn?.offered.find((one) => one.mail === mail.id && one.proved)
  const receipt =
    // By a predecessor, in the iteration that runs.
    delivered.find((one) => one.mail === mail.id) ?? (turn && offer && deliveredBy(turn, offer))
  if (receipt) return [session, receipt]
  if (waiting.some(({ id }) => id === mail.id)) return [session, undefined]
  return [{ ...session, waiting: [...waiting, mail] }, undefined]
}

const deliveredBy = ({ iteration }: TurnFile, { mail, hook }: MailOffer): Receipt => ({
  mail,
  state: "Delivered",
  iteration,
  hook,
})

/**
 * The mail that goes out at a hook. `takenCharacters` of what the hook's answer holds are used
 * already.
 */
export function offer(
  session: HookSession,
  hook: Hook,
  atMs: number,
  takenCharacters = 0,
): readonly [HookSession, readonly Mail[]] {
  const { turn, waiting } = session
  // Later mail must not overtake mail whose answer may not have gone out.
  if (!turn || turn.offered.some(({ given, proved }) => !given && !proved)) return [session, []]
  if (hook === "Stop" && turn.stops >= stopsMax) return [session, []]
  const known = new Set(turn.offered.map(({ mail }) => mail))
  // In the order of the link, which is that of the inbox; the moments in the mails may go back with
  // the clock.
  const mails = choose(
    waiting.filter(({ id }) => !known.has(id)),
    hook,
    takenCharacters,
  )
  if (mails.length === 0) return [session, []]
  const offered = mails.map(({ id }) => ({ mail: id, hook, atMs, given: false, proved: false }))
  return [
    {
      ...session,
      turn: {
        ...turn,
        stops: turn.stops + (hook === "Stop" ? 1 : 0),
        offered: [...turn.offered, ...offered],
      },
    },
    mails,
  ]
}

/**
 * These mails went out whole. What is not known to have gone out proves nothing: it is given again
 * in the next iteration.
 */
export function confirm(session: HookSession, mails: readonly Mail[]): HookSession {
  const { turn } = session
  if (!turn || mails.length === 0) return session
  const ids = new Set(mails.map(({ id }) => id))
  const offered = turn.offered.map((one) => (ids.has(one.mail) ? { ...one, given: true } : one))
  return { ...session, turn: { ...turn, offered } }
}

/** The model is known to have read what was offered so. */
export function prove(
  session: HookSession,
  isRead: (offer: MailOffer) => boolean,
): readonly [HookSession, readonly Receipt[]] {
  const { turn } = session
  const read = turn?.offered.filter((one) => one.given && !one.proved && isRead(one)) ?? []
  if (!turn || read.length === 0) return [session, []]
  const receipts = read.map((one) => deliveredBy(turn, one))
  const ids = new Set(read.map(({ mail }) => mail))
  return [
    {
      ...session,
      turn: {
        ...turn,
        offered: turn.offered.map((one) => (read.includes(one) ? { ...one, proved: true } : one)),
      },
      waiting: session.waiting.filter(({ id }) => !ids.has(id)),
      delivered: [...session.delivered, ...receipts].slice(-deliveredMax),
    },
    receipts,
  ]
}

/** The model has spoken its last word, after all that was offered. */
export const proveAll = (session: HookSession): ReturnType<typeof prove> =>
  prove(session, () => true)

/**
 * No tool runs before the model has answered the prompt. Of what was given after a tool, only that
 * from before the last batch of tools is proved: tools of one answer run side by side.
 */
export const proveByTool = (session: HookSession): ReturnType<typeof prove> =>
  prove(session, ({ hook, atMs }) => hook === "UserPromptSubmit" || atMs <= session.batchAtMs)

/** Mail for the next iteration, if any waits. */
export function waitingNews({ waiting }: HookSession): Beat["news"] {
  if (waiting.some(({ authority }) => authority === "operator")) return "instruction"
  return waiting.length > 0 ? "mail" : undefined
}
