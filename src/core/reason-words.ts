import type { Reason } from "./instance.ts"
import { ranNoClaude } from "./loop.ts"
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
  RateLimited: "The model's limit is reached.",
  ServiceUnavailable: "The model's service fails.",
  LoginRequired: "The model's service refused the login.",
  AccountProblem: "The account cannot pay for the model, or may not use it.",
  ClaudeMissing: "The program claude is not there, or cannot be run; the agent waits for it.",
  Uncontrolled:
    "Its claude asked none of its hooks, so that no message could reach it. Something turns hooks off: --bare, --safe-mode or another --settings behind the loop's claude, allowedHttpHookUrls in a settings file, or managed settings.",
  CircuitOpen:
    "Its last iterations failed in the same way again and again, or brought neither a commit nor a word on how far it is.",
  Blocked: "Its last iteration ended as blocked.",
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
  ["DirectoryMissing", "The directory it works in is not there any more"],
  ["NotExecutable", "Its loop is not executable"],
  ["ProgramMissing", "Its loop is not there"],
])
export const wordsOfProblem = (reason: string): string =>
  problemWords.get(reason) ?? "It could not be started"

export const problemMax = 1000
const wordsMax = 300
/** Others' words as one line, in a field that may be left out. */
export const problemText = (
  text: string | undefined,
  max = wordsMax,
): { readonly untrusted?: string } => {
  const line = text === undefined ? "" : oneLine(text, max)
  return line === "" ? {} : { untrusted: line }
}
