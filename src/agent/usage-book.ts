import { lstatSync } from "node:fs"
import { noUsage, type Usage, usageMax } from "../core/usage.ts"
import type { RunDirectory, TurnFile } from "../run/run-directory.ts"
import type { CountedRequest, UsageFile } from "../run/usage-file.ts"
import type { DiskRetry } from "./disk-retry.ts"
import {
  countedMax,
  type MeteredRequest,
  meter,
  type TelemetryLogs,
  tokensOf,
  usedBy,
  weightedTokens,
} from "./meter.ts"
import { reconcile } from "./reconciliation.ts"
import { readTranscriptUsage } from "./transcript-usage.ts"

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
  readonly keeper: DiskRetry
  warn(message: string): void
  changed(): void
}
/**
 * Of one iteration: three hours of requests, one every three seconds. Beyond, nobody could tell
 * what was counted.
 */
const requestsMax = 4000
const recoveredMax = 500
const modelsMax = 20
const pendingMax = 20

/** Where claude's record of an iteration begins: behind what a continued session already has. */
export function transcriptStart(path: string): NonNullable<TurnFile["transcript"]> {
  try {
    return { path, offset: lstatSync(path).size }
  } catch {
    return { path, offset: 0 }
  }
}

export function createUsageBook({
  iterationsBefore,
  directory,
  keeper,
  warn,
  changed,
}: UsageBookOptions): UsageBook {
  let file: UsageFile = directory.get("usage") ?? {
    used: noUsage,
    counted: [],
    requests: [],
    prices: {},
    recovered: [],
    recoveredTokens: 0,
    pending: [],
  }
  const keep = (change: Partial<UsageFile>): void => {
    file = { ...file, ...change }
    keeper.set("usage", file)
  }
  const plus = (more: Pick<Usage, "usd" | "tokens">): Usage => ({
    ...file.used,
    usd: Math.min(usageMax.usd, file.used.usd + more.usd),
    tokens: Math.min(usageMax.count, file.used.tokens + more.tokens),
  })

  /** A request that the transcript told of before costs only what telemetry says beyond that. */
  const settle = (
    request: MeteredRequest,
    recovered: UsageFile["recovered"],
  ): Pick<Usage, "usd" | "tokens"> => {
    const index = recovered.findIndex(({ id, tokens }) =>
      id === "" || request.id === ""
        ? String(tokens) === String(request.tokens)
        : id === request.id,
    )
    const [before] = index < 0 ? [] : recovered.splice(index, 1)
    const [told, known] = [usedBy([request]), usedBy(before ? [before] : [])]
    return {
      usd: Math.max(0, told.usd - known.usd),
      tokens: Math.max(0, told.tokens - known.tokens),
    }
  }

  const compare = async (pending: UsageFile["pending"][number]): Promise<void> => {
    const { iteration, transcript, adopted } = pending
    const shown =
      transcript && (await readTranscriptUsage(transcript.path, transcript.offset, pending))
    // What telemetry told meanwhile may be of this iteration.
    const requests: readonly CountedRequest[] = [...pending.requests, ...file.requests]
    const left = file.pending.filter((one) => one !== pending)
    if (!shown || requests.length >= requestsMax) {
      keep({ pending: left })
      if (adopted)
        warn(
          `The usage of iteration ${iteration} may be too low: its supervisor was replaced meanwhile, and ${
            shown
              ? "it made too many requests to be compared with its transcript"
              : "claude named no transcript to compare it with"
          }. Telemetry told of ${tokensOf(pending.requests)} tokens.`,
        )
      return
    }
    const { added, warning } = reconcile({ usage: file, iteration, adopted, requests }, shown)
    const more = usedBy(added)
    keep({
      pending: left,
      used: plus(more),
      recovered: [
        ...file.recovered,
        ...added.map(({ id, tokens, usd }) => ({ id, tokens, usd })),
      ].slice(-recoveredMax),
      recoveredTokens: file.recoveredTokens + more.tokens,
    })
    if (warning !== undefined) warn(warning)
    if (added.length > 0) changed()
  }
  let comparing: Promise<void> = Promise.resolve()

  return {
    used: () => file.used,
    metered(logs) {
      const { requests, mainBeganAtMs } = meter(logs, file.counted)
      if (requests.length === 0) return mainBeganAtMs
      const recovered = [...file.recovered]
      const prices = { ...file.prices }
      let used = file.used
      for (const request of requests) {
        const more = settle(request, recovered)
        used = {
          ...used,
          usd: Math.min(usageMax.usd, used.usd + more.usd),
          tokens: Math.min(usageMax.count, used.tokens + more.tokens),
        }
        const before = Object.hasOwn(prices, request.model) ? prices[request.model] : undefined
        if (before || Object.keys(prices).length < modelsMax)
          prices[request.model] = {
            usd: (before?.usd ?? 0) + request.usd,
            weighted: (before?.weighted ?? 0) + weightedTokens(request.tokens),
          }
      }
      keep({
        used,
        prices,
        recovered,
        counted: [...file.counted, ...requests.map(({ key }) => key)].slice(-countedMax),
        requests: [...file.requests, ...requests.map(({ id, tokens }) => ({ id, tokens }))].slice(
          0,
          requestsMax,
        ),
      })
      changed()
      return mainBeganAtMs
    },
    iterationEnded({ iteration, sinceMs, transcript }, { ms, endedAtMs, adopted, counted }) {
      if (iteration <= iterationsBefore + file.used.iterations) return // a predecessor died between counting it and forgetting the turn
      const pending = {
        iteration,
        sinceMs,
        endedAtMs,
        adopted,
        ...(transcript && { transcript }),
        requests: file.requests,
      }
      keep({
        used: {
          ...file.used,
          iterations: file.used.iterations + (counted ? 1 : 0),
          ms: file.used.ms + ms,
        },
        requests: [],
        pending: [...file.pending, pending].slice(-pendingMax),
      })
    },
    reconcile() {
      comparing = comparing.then(async () => {
        for (let next = file.pending[0]; next; next = file.pending[0]) await compare(next)
      })
      return comparing
    },
  }
}
