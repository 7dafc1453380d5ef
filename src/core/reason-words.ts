import { ranNoClaude } from "./loop.ts"
import type { Reason } from "./reason.ts"
import { oneLine } from "./view.ts"

/**
 * Our own words for what others report, so that nothing they wrote stands where a model takes it
 * for ours.
 */

/**
 * Why the system holds it, where a supervisor reported it or an agent said it: their words may be
 * anybody's, so the reason alone chooses ours.
 */
export const heldWords: Partial<Record<Reason, string>> = {
  RateLimited: "The model's rate limit is reached.",
  ServiceUnavailable: "The model's service is failing.",
  LoginRequired: "The model's service rejected the login.",
  AccountProblem: "The account cannot pay for the model, or has no access to it.",
  ClaudeMissing: "The program claude is missing or cannot be run; the agent waits for it.",
  Uncontrolled:
    "Its claude called none of its hooks, so no message could reach it. Something turns hooks off: --bare, --safe-mode or another --settings behind the loop's claude, allowedHttpHookUrls in a settings file, or managed settings.",
  CircuitOpen:
    "Its last iterations kept failing in the same way, or ended with neither a commit nor a report of progress.",
  Blocked: "Its last iteration ended with status BLOCKED.",
  NeedsAnswer: "It asked a question.",
}
/**
 * Why it could not run: the reason chooses our words, because the message may hold paths, git's
 * words or what a program printed.
 */
const problemWords = new Map([
  [ranNoClaude, "Its loop ended without running claude"],
  ["PortTaken", "The port of its supervisor was taken"],
  ["WorkTree", "Its work tree could not be made"],
  ["DirectoryMissing", "The directory it works in no longer exists"],
  ["NotExecutable", "Its loop is not executable"],
  ["ProgramMissing", "Its loop is missing"],
])
export const wordsOfProblem = (reason: string): string =>
  problemWords.get(reason) ?? "It could not be started"

export const problemMax = 1000
const wordsMax = 300
/** Others' words as one line; undefined where they said nothing. */
export const problemLine = (text: string | undefined, max = wordsMax): string | undefined =>
  text === undefined ? undefined : oneLine(text, max) || undefined
