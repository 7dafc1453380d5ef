import { z } from "zod"
import type { Beat, Last } from "./beat.ts"
import { oneLine } from "./view.ts"

/**
 * Opens when iterations cost money and bring nothing: the same error again and again, or neither a
 * marker nor a commit. Where commits cannot be counted, nothing is said of progress.
 */

export const circuitSchema = z.strictObject({
  /** Iterations in a row that ended in this error, as `sameError` tells errors apart. */
  errors: z.int().min(0),
  error: z.string(),
  /** Iterations in a row that brought nothing. */
  idle: z.int().min(0),
  /** Commits of its branch after the last one. */
  commits: z.int().min(0),
})
export type Circuit = z.output<typeof circuitSchema>
export const closed: Circuit = { errors: 0, error: "", idle: 0, commits: 0 }

export const errorsMax = 5
export const idleMax = 10
/** Then one iteration is tried; another that brings nothing opens it again. */
const coolDownMs = 1_800_000

/**
 * What makes two failures the same one: their words without the numbers and ids that differ each
 * time (requests, sizes, ports).
 */
const sameError = (text: string): string =>
  oneLine(text, 200)
    .replace(/\breq_\w+|\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b/gi, "#")
    .replace(/\d{4,}/g, "#")

/**
 * `waits`: a rate limit or a login ended it, which is its own hold and nobody's failure. `commits`
 * of its branch so far; undefined where there is no git repository that could tell.
 */
export function judgeCircuit(
  before: Circuit,
  { outcome, text, atMs }: Pick<Last, "outcome" | "text" | "atMs">,
  known: number | undefined,
  waits: boolean,
): { circuit: Circuit; hold?: NonNullable<Beat["hold"]> } {
  const commits = known ?? before.commits
  if (waits) return { circuit: { ...before, commits } }
  const error = outcome === "FAILED" ? sameError(text) : ""
  const errors = outcome === "FAILED" ? errorsInARow(before, error) : 0
  const moved =
    commits > before.commits ||
    outcome === "COMPLETE" ||
    outcome === "PARTIAL" ||
    outcome === "BLOCKED"
  const withoutProgress = known === undefined ? before.idle : before.idle + 1
  const idle = moved ? 0 : withoutProgress
  const why = reasonToOpen(errors, idle, text)
  if (why === undefined) return { circuit: { errors, error, idle, commits } }
  // What comes next is the trial.
  return {
    circuit: {
      errors: Math.min(errors, errorsMax - 1),
      error,
      idle: Math.min(idle, idleMax - 1),
      commits,
    },
    hold: { reason: "CircuitOpen", message: why, untilMs: atMs + coolDownMs },
  }
}

const errorsInARow = (before: Circuit, error: string): number =>
  error === before.error ? before.errors + 1 : 1

function reasonToOpen(errors: number, idle: number, text: string): string | undefined {
  if (errors >= errorsMax)
    return `${errors} iterations in a row failed in the same way: "${oneLine(text, 200)}".`
  if (idle >= idleMax)
    return `${idle} iterations in a row made no commit and did not say how far they got.`
  return undefined
}
