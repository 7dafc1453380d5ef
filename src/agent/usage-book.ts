import { lstatSync } from "node:fs"
import { noUsage, type Usage } from "../core/usage.ts"
import type { RunDirectory, TurnFile } from "../run/run-directory.ts"
import type { CountedRequest, UsageFile } from "../run/usage-file.ts"
import type { DiskRetry } from "./disk-retry.ts"
import { meter, type TelemetryLogs, tokensOf } from "./meter.ts"
import { reconcile } from "./reconciliation.ts"
import { readTranscriptUsage } from "./transcript-usage.ts"
import { countRecovered, countRequests, requestsMax } from "./usage-count.ts"

/**
 * What a run used: as telemetry tells it, and what only the transcript of an iteration knows. Kept
 * in the run directory.
 */
export interface UsageBook {
  used(): Usage
  /** Counts an export of telemetry; returns when the main agent's answered requests began. */
  metered(logs: TelemetryLogs): readonly number[]
  /** Counts an iteration, once; its transcript is still to be compared. */
  iterationEnded(turn: TurnFile, ended: EndedIteration): void
  /** Compares transcripts of finished iterations, those that a predecessor left too. */
  reconcile(): Promise<void>
}
export interface EndedIteration {
  /** How long it ran. */
  readonly ms: number
  readonly endedAtMs: number
  /** Another supervisor saw it begin. */
  readonly adopted: boolean
  /** False for one that the model's service refused: it is none of the budget's iterations. */
  readonly counted: boolean
}
export interface UsageBookOptions {
  /** Finished iterations of the runs before. */
  readonly iterationsBefore: number
  readonly directory: RunDirectory
  readonly diskRetry: DiskRetry
  warn(message: string): void
  changed(): void
}
const pendingMax = 20

/** Where claude's record of an iteration begins: behind what a continued session already has. */
export function transcriptStart(path: string): NonNullable<TurnFile["transcript"]> {
  try {
    return { path, offset: lstatSync(path).size }
  } catch {
    return { path, offset: 0 }
  }
}

const emptyUsage: UsageFile = {
  used: noUsage,
  counted: [],
  requests: [],
  prices: {},
  recovered: [],
  recoveredTokens: 0,
  pending: [],
}

export function createUsageBook({
  iterationsBefore,
  directory,
  diskRetry,
  warn,
  changed,
}: UsageBookOptions): UsageBook {
  let file = directory.get("usage") ?? emptyUsage
  const keep = (change: Partial<UsageFile>): void => {
    file = { ...file, ...change }
    diskRetry.set("usage", file)
  }
  const compare = async (pending: PendingIteration): Promise<void> => {
    const { iteration, transcript, adopted } = pending
    const shown =
      transcript && (await readTranscriptUsage(transcript.path, transcript.offset, pending))
    // What telemetry told meanwhile may be of this iteration.
    const requests: readonly CountedRequest[] = [...pending.requests, ...file.requests]
    const left = file.pending.filter((one) => one !== pending)
    if (!shown || requests.length >= requestsMax) {
      keep({ pending: left })
      if (adopted) warn(describeUncompared(pending, shown !== undefined))
      return
    }
    const { added, warning } = reconcile({ usage: file, iteration, adopted, requests }, shown)
    keep({ pending: left, ...countRecovered(file, added) })
    if (warning !== undefined) warn(warning)
    if (added.length > 0) changed()
  }
  let comparing: Promise<void> = Promise.resolve()

  return {
    used: () => file.used,
    metered(logs) {
      const { requests, mainBeganAtMs } = meter(logs, file.counted)
      if (requests.length === 0) return mainBeganAtMs
      keep(countRequests(file, requests))
      changed()
      return mainBeganAtMs
    },
    iterationEnded(turn, ended) {
      // A predecessor may have died between counting it and forgetting the turn.
      if (turn.iteration <= iterationsBefore + file.used.iterations) return
      keep(countIteration(file, turn, ended))
    },
    reconcile() {
      comparing = comparing.then(async () => {
        for (let next = file.pending[0]; next; next = file.pending[0]) await compare(next)
      })
      return comparing
    },
  }
}

type PendingIteration = UsageFile["pending"][number]

const describeUncompared = (
  { iteration, requests }: PendingIteration,
  hasTranscript: boolean,
): string => {
  const why = hasTranscript
    ? "it made too many requests to compare with its transcript"
    : "claude named no transcript to compare it with"
  return `The usage of iteration ${iteration} may be too low: its supervisor was replaced while it ran, and ${why}. Telemetry reported ${tokensOf(requests)} tokens.`
}

function countIteration(
  file: UsageFile,
  { iteration, sinceMs, transcript }: TurnFile,
  { ms, endedAtMs, adopted, counted }: EndedIteration,
): Partial<UsageFile> {
  const pending: PendingIteration = {
    iteration,
    sinceMs,
    endedAtMs,
    adopted,
    ...(transcript && { transcript }),
    requests: file.requests,
  }
  return {
    used: {
      ...file.used,
      iterations: file.used.iterations + (counted ? 1 : 0),
      ms: file.used.ms + ms,
    },
    requests: [],
    pending: [...file.pending, pending].slice(-pendingMax),
  }
}
