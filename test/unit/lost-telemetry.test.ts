import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import fc from "fast-check"
import { afterEach, describe, expect, it } from "vitest"
import { createDiskRetry } from "../../src/agent/disk-retry.ts"
import { logsSchema } from "../../src/agent/meter.ts"
import { aloneTokensMax } from "../../src/agent/reconciliation.ts"
import { readTranscriptUsage } from "../../src/agent/transcript-usage.ts"
import { createUsageBook, transcriptStart } from "../../src/agent/usage-book.ts"
import type { RunDirectory } from "../../src/run/run-directory.ts"
import { createRunDirectory } from "../../src/run/runs.ts"
import { uid } from "../contract/harness.ts"

/**
 * What telemetry did not tell is counted from claude's transcript, once, and never below what
 * telemetry told.
 */

const directories: string[] = []
afterEach(() => {
  for (const path of directories.splice(0)) rmSync(path, { recursive: true, force: true })
})
const temporary = (): string => {
  const path = mkdtempSync(join(tmpdir(), "bb5-lost-"))
  directories.push(path)
  return path
}

interface Request {
  readonly id?: string
  readonly tokens: readonly [number, number, number, number]
  readonly model?: string
}
const dollarsPerToken = 5e-6
/** As claude prices it. */
const priced = ([input, output, cacheRead, cacheWrite]: Request["tokens"]): number =>
  dollarsPerToken * (input + 5 * output + 0.1 * cacheRead + 1.25 * cacheWrite)
const sum = (requests: readonly Request[]): number =>
  requests.flatMap(({ tokens }) => tokens).reduce((all, count) => all + count, 0)

let sequence = 0
/** An export of telemetry. */
const told = (...requests: Request[]) =>
  logsSchema.parse({
    resourceLogs: [
      {
        scopeLogs: [
          {
            logRecords: requests.map(
              ({ id, tokens: [input, output, cacheRead, cacheWrite], model = "opus" }) => ({
                timeUnixNano: "0",
                attributes: Object.entries({
                  "event.name": "api_request",
                  "session.id": "s",
                  "event.sequence": String(++sequence),
                  "event.timestamp": "t",
                  model,
                  cost_usd: String(priced([input, output, cacheRead, cacheWrite])),
                  input_tokens: String(input),
                  output_tokens: String(output),
                  cache_read_tokens: String(cacheRead),
                  cache_creation_tokens: String(cacheWrite),
                  ...(id !== undefined && { request_id: id }),
                }).map(([key, stringValue]) => ({ key, value: { stringValue } })),
              }),
            ),
          },
        ],
      },
    ],
  })
/** A record as claude 2.1.197 writes it, as far as it is read. */
const shown = (
  { id, tokens: [input, output, cacheRead, cacheWrite], model = "opus" }: Request,
  atMs = 1500,
): string =>
  `${JSON.stringify({
    ...(id !== undefined && { requestId: id }),
    message: {
      id: `msg-${id ?? ++sequence}`,
      model,
      usage: {
        input_tokens: input,
        output_tokens: output,
        cache_read_input_tokens: cacheRead,
        cache_creation_input_tokens: cacheWrite,
      },
    },
    type: "assistant",
    timestamp: new Date(atMs).toISOString(),
  })}\n`

const aRun = (): RunDirectory =>
  createRunDirectory(temporary(), {
    name: "one",
    uid: uid("u-one"),
    place: "p1",
    revision: "1-0",
    startedAtMs: 0,
    mode: "continuous",
    iterationsBefore: 0,
    command: ["true"],
    directory: "/",
    claude: "/none",
    isolation: "process tree",
    socketPath: "/none",
    credential: "none",
  })

/** A supervisor's book of a run, and the end of its next iteration with that transcript. */
function bookOf(directory = aRun()) {
  const warnings: string[] = []
  const book = createUsageBook({
    iterationsBefore: 0,
    directory,
    diskRetry: createDiskRetry(directory, () => {}),
    warn: (message) => void warnings.push(message),
    changed: () => {},
  })
  const end = (transcript: { path: string; offset: number } | undefined, adopted = true): void =>
    book.iterationEnded(
      {
        id: "t",
        shim: { pid: 1, startTicks: 1 },
        iteration: book.used().iterations + 1,
        sinceMs: 1000,
        stops: 0,
        offered: [],
        ...(transcript && { transcript }),
      },
      { ms: 1, endedAtMs: 2000, adopted, counted: true },
    )
  return { ...book, end, warnings, directory }
}
const transcriptOf = (...lines: string[]) => {
  const path = join(temporary(), "session.jsonl")
  writeFileSync(path, lines.join(""))
  return { path, offset: 0 }
}
const first: Request = { id: "req_1", tokens: [10, 20, 30, 40] }
const second: Request = { id: "req_2", tokens: [1, 2, 3, 4] }

describe("what telemetry did not tell", () => {
  it("is counted from the transcript, with telemetry's price, and needs no warning", async () => {
    const book = bookOf()
    book.metered(told(first))
    book.end(transcriptOf(shown(first), shown(first), shown(second)))
    await book.reconcile()
    expect(book.used()).toMatchObject({ tokens: sum([first, second]), iterations: 1 })
    expect(book.used().usd).toBeCloseTo(priced(first.tokens) + priced(second.tokens), 12)
    expect(book.warnings).toEqual([])
  })

  it("is found in the files of sub-agents, also below a workflow's directory", async () => {
    const transcript = transcriptOf(shown(first))
    const agents = join(transcript.path.replace(".jsonl", ""), "subagents/workflows/w1")
    mkdirSync(agents, { recursive: true })
    writeFileSync(join(agents, "agent-1.jsonl"), shown(second))
    const book = bookOf()
    book.metered(told(first))
    book.end(transcript)
    await book.reconcile()
    expect(book.used().tokens).toBe(sum([first, second]))
  })

  it("is told apart from what a session that is continued already had", async () => {
    const { path } = transcriptOf(shown(first, 500))
    const start = transcriptStart(path)
    writeFileSync(path, shown(first, 500) + shown(second), { flag: "w" })
    const [byOffset, byTime] = [bookOf(), bookOf()]
    byOffset.end(start)
    byTime.end({ path, offset: 0 })
    await Promise.all([byOffset.reconcile(), byTime.reconcile()])
    expect([byOffset.used().tokens, byTime.used().tokens]).toEqual([sum([second]), sum([second])])
  })

  it("is counted by a successor, and not again by the next one", async () => {
    const before = bookOf()
    before.metered(told(first))
    before.end(transcriptOf(shown(first), shown(second)))
    for (const book of [bookOf(before.directory), bookOf(before.directory)]) {
      await book.reconcile()
      expect(book.used()).toMatchObject({ tokens: sum([first, second]), iterations: 1 })
    }
  })

  it("is not counted again when its telemetry comes late, but what that tells beyond is", async () => {
    const book = bookOf()
    book.metered(told({ id: "req_0", tokens: [1, 1, 1, 1] }))
    book.end(transcriptOf(shown(second)))
    await book.reconcile()
    const larger: Request = { id: "req_2", tokens: [1, 200, 3, 4] }
    book.metered(told(larger))
    book.metered(told(first))
    expect(book.used().tokens).toBe(sum([{ tokens: [1, 1, 1, 1] }, larger, first]))
  })

  it("is matched by its tokens where claude was given no id", async () => {
    const nameless = { tokens: first.tokens }
    const book = bookOf()
    book.metered(told(nameless))
    book.end(transcriptOf(shown(nameless), shown(nameless)))
    await book.reconcile()
    expect(book.used().tokens).toBe(2 * sum([first]))
  })

  it("costs nothing while no price is known, and says so with both figures", async () => {
    const book = bookOf()
    book.end(transcriptOf(shown(first)))
    await book.reconcile()
    expect(book.used()).toMatchObject({ tokens: 100, usd: 0 })
    expect(book.warnings).toEqual([
      expect.stringMatching(/shows 100 tokens, but 100 were counted \(0 from telemetry\).*price/),
    ])
  })
})

describe("a transcript", () => {
  it("can raise what a run used no higher than its bound, and says so", async () => {
    const forged = Array.from(
      { length: 100 },
      (_, index): Request => ({ id: `f${index}`, tokens: [1_000_000, 0, 0, 0] }),
    )
    const book = bookOf()
    book.metered(told(first))
    for (let iteration = 0; iteration < 3; iteration++) {
      book.end(
        transcriptOf(...forged.map((one) => shown({ ...one, id: `${one.id}-${iteration}` }))),
      )
      await book.reconcile()
    }
    expect(book.used().tokens).toBe(sum([first]) + aloneTokensMax)
    expect(book.warnings).toHaveLength(3)
    expect(book.warnings[0]).toContain(
      `shows 100000000 tokens, but ${aloneTokensMax + sum([first])} were counted`,
    )
  })

  it("is not believed where it says what no request can be", async () => {
    const senseless = [1e9, -1, 0.5, Number.MAX_VALUE, "many", null].map((count, index) =>
      shown({ ...first, id: `r${index}` }).replace(
        '"input_tokens":10',
        `"input_tokens":${JSON.stringify(count)}`,
      ),
    )
    const book = bookOf()
    book.end(transcriptOf("{\n", "[]\n", ...senseless, shown(second)))
    await book.reconcile()
    expect(book.used().tokens).toBe(sum([second]))
    expect(book.warnings).toEqual([expect.stringContaining("could not be read")])
  })

  it.each<[string, (path: string) => void]>([
    ["that is not there", () => {}],
    ["that is a directory", (path) => mkdirSync(path)],
    [
      "that is a link to another file",
      (path) => symlinkSync(transcriptOf(shown(second)).path, path),
    ],
  ])("%s changes nothing, and is told only when a supervisor was replaced", async (_, make) => {
    const path = join(temporary(), "one.jsonl")
    make(path)
    for (const adopted of [false, true]) {
      const book = bookOf()
      book.metered(told(first))
      book.end({ path, offset: 0 }, adopted)
      await book.reconcile()
      expect(book.used().tokens).toBe(sum([first]))
      expect(book.warnings).toHaveLength(adopted ? 1 : 0)
    }
  })

  it("that is large is read in bounds", async () => {
    const long = `${"x".repeat(5 * 1024 * 1024)}\n`
    const transcript = transcriptOf(
      shown(first),
      long,
      shown(second),
      shown({ id: "cut", tokens: [9, 9, 9, 9] }).trimEnd(),
    )
    const { requests, whole } = await readTranscriptUsage(transcript.path, 0, {
      sinceMs: 0,
      endedAtMs: 2000,
    })
    // The last line has no end: its writer was killed.
    expect(requests.map(({ tokens }) => tokens)).toEqual([first.tokens, second.tokens])
    expect(whole).toBe(false)
  })
})

describe("any share of lost telemetry, in any order, over supervisors that come and go", () => {
  const counts = fc
    .tuple(fc.nat(2000), fc.nat(2000), fc.nat(2000), fc.nat(2000))
    .filter((tokens) => tokens.some(Boolean))
  const request = fc.record({
    tokens: counts,
    named: fc.boolean(),
    isTold: fc.boolean(),
    isShown: fc.boolean(),
    late: fc.boolean(),
  })

  it("is counted once, and never below what telemetry told", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(request, { maxLength: 12 }), fc.boolean(), async (drawn, named) => {
        const all = drawn.map((one, index) => ({ ...one, ...(named && { id: `req_${index}` }) }))
        const directory = aRun()
        const before = bookOf(directory)
        for (const one of all.filter(({ isTold, late }) => isTold && !late))
          before.metered(told(one))
        before.end(transcriptOf(...all.filter(({ isShown }) => isShown).map((one) => shown(one))))
        const after = bookOf(directory)
        await after.reconcile()
        for (const one of all.filter(({ isTold, late }) => isTold && late)) after.metered(told(one))
        const telemetry = sum(all.filter(({ isTold }) => isTold))
        const truth = sum(all.filter(({ isTold, isShown }) => isTold || isShown))
        const { tokens } = after.used()
        expect(tokens).toBeGreaterThanOrEqual(telemetry)
        expect(tokens).toBeLessThanOrEqual(truth)
        if (named) expect(tokens).toBe(truth)
      }),
      { numRuns: 60 },
    )
  })
})
