import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import fc from "fast-check"
import { afterEach, describe, expect, it } from "vitest"
import { createDiskRetry } from "../../src/agent/disk-retry.ts"
import { createIterations } from "../../src/agent/iterations.ts"
import { logsSchema, requestTokensMax } from "../../src/agent/meter.ts"
import { beatSchema } from "../../src/core/beat.ts"
import { usageMax } from "../../src/core/usage.ts"
import { type ProcessId, processId, read } from "../../src/host/processes.ts"
import type { RunDirectory } from "../../src/run/run-directory.ts"
import { createRunDirectory } from "../../src/run/runs.ts"
import { uid } from "../contract/harness.ts"

/**
 * What an agent can say of itself with its port's token: it hurts nobody else, and what is told of
 * it can be told.
 */

const directories: string[] = []
afterEach(() => {
  for (const path of directories.splice(0)) rmSync(path, { recursive: true, force: true })
})
const aRun = (): RunDirectory => {
  const path = mkdtempSync(join(tmpdir(), "bb5-forged-"))
  directories.push(path)
  const directory = createRunDirectory(path, {
    ...{
      name: "one",
      uid: uid("u-one"),
      place: "p1",
      revision: "1-0",
      startedAtMs: 0,
      mode: "continuous",
    },
    ...{ iterationsBefore: 0, command: ["true"], directory: "/", claude: "/claude" },
    ...{ isolation: "process tree", socketPath: "/none", credential: "none" },
  })
  const shim = { pid: 1, startTicks: 1 }
  directory.set("turn", { id: "t-1", shim, iteration: 1, sinceMs: 1, stops: 0, offered: [] })
  return directory
}
const running = (directory = aRun()) => {
  const run = directory.get("run")
  if (!run) throw new Error("no run")
  const events: string[] = []
  let changes = 0
  const iterations = createIterations({
    ...{ directory, diskRetry: createDiskRetry(directory, () => {}), adopted: false, run },
    ...{
      nowMs: () => 5000,
      steadyMs: () => performance.now(),
      zone: () => "UTC",
      jitterMs: () => 0,
    },
    search: () => [process.pid].flatMap((pid) => read(pid) ?? []),
    claude: () => ({ path: "/claude" }),
    printed: () => [],
    granted: () => ({ settings: {} }),
    emit: (kind, message) => void events.push(`${kind}: ${message}`),
    changed: () => changes++,
    over: () => {},
  })
  return { iterations, events, directory }
}
const self = (): ProcessId => {
  const id = processId(process.pid)
  if (!id) throw new Error("this process is not there")
  return id
}
const record = (fields: Record<string, unknown>) => ({
  attributes: Object.entries({ "event.name": "api_request", ...fields }).map(([key, value]) => ({
    key,
    value: typeof value === "number" ? { doubleValue: value } : { stringValue: String(value) },
  })),
})
const exported = (records: readonly object[]) =>
  logsSchema.safeParse({ resourceLogs: [{ scopeLogs: [{ logRecords: records }] }] }).data
const beatOf = (iterations: ReturnType<typeof running>["iterations"]) =>
  beatSchema.safeParse(
    JSON.parse(
      JSON.stringify({ place: "p", frozen: false, ...iterations.report(undefined), atMs: 1 }),
    ),
  )

describe("forged telemetry", () => {
  const hostile = fc.oneof(
    fc.double(),
    fc.constantFrom(
      1e308,
      Number.MAX_VALUE,
      Number.MIN_VALUE,
      -1,
      0.5,
      2 ** 53,
      "1e309",
      "-0",
      "NaN",
      "Infinity",
      "",
      "x",
    ),
    fc.string(),
  )
  const one = fc.record({
    "session.id": fc.oneof(
      fc.string(),
      fc.nat(20).map((size) => "é".repeat(size * 1000)),
    ),
    "event.sequence": fc.nat(),
    model: fc.oneof(fc.string(), fc.constantFrom("x".repeat(100_000), "__proto__", "constructor")),
    cost_usd: hostile,
    input_tokens: hostile,
    output_tokens: hostile,
    cache_read_tokens: hostile,
    cache_creation_tokens: hostile,
    duration_ms: hostile,
    request_id: fc.string(),
  })

  it("never makes a beat that the fleet cannot read, nor a file that a successor cannot", () => {
    fc.assert(
      fc.property(fc.array(one, { maxLength: 20 }), (records) => {
        const { iterations, directory } = running()
        const logs = exported(records.map(record))
        if (logs) iterations.metered(logs)
        expect(beatOf(iterations).error).toBeUndefined()
        const kept = directory.get("usage")
        if (logs && records.length > 0) expect(JSON.stringify(kept).length).toBeLessThan(30_000)
      }),
      { numRuns: 100 },
    )
  })

  it("counts at most what a request can use, and ends at what a run can", () => {
    const { iterations } = running()
    const large = { cost_usd: 1e300, input_tokens: 1e300, output_tokens: 0, model: "opus" }
    const logs = exported([record({ "event.sequence": 1, ...large })])
    if (logs) iterations.metered(logs)
    expect(iterations.report(undefined).used).toMatchObject({ tokens: requestTokensMax, usd: 1000 })
    const near = { usd: usageMax.usd - 1, tokens: usageMax.count - 1, iterations: 0, ms: 0 }
    const directory = aRun()
    directory.set("usage", {
      used: near,
      counted: [],
      requests: [],
      prices: {},
      recovered: [],
      recoveredTokens: 0,
      pending: [],
    })
    const rich = running(directory).iterations
    if (logs) rich.metered(logs)
    expect(rich.report(undefined).used).toMatchObject({ usd: usageMax.usd, tokens: usageMax.count })
    expect(beatOf(iterations).success).toBe(true)
  })
})

describe("a failure that is told again and again", () => {
  const limit = { error: "rate_limit", message: "You've hit your session limit.", details: "" }
  const warnings = (events: readonly string[]) =>
    events.filter((event) => event.startsWith("Warning: "))

  it("is one event, until something else happened", () => {
    const { iterations, events } = running()
    for (let round = 0; round < 50; round++)
      iterations.word.failed({ error: "billing_error", message: "No credit.", details: "" })
    expect(warnings(events).length).toBe(1)
    iterations.word.failed({ error: "authentication_failed", message: "Invalid key.", details: "" })
    iterations.word.failed({ error: "authentication_failed", message: "Invalid key.", details: "" })
    expect(warnings(events).length).toBe(2)
    iterations.word.failed({ error: "billing_error", message: "No credit.", details: "" })
    expect(warnings(events).length).toBe(3)
  })

  it("is told again after an iteration that worked", () => {
    const { iterations, events } = running()
    iterations.word.failed(limit)
    iterations.word.failed(limit)
    iterations.word.said("PARTIAL", "Status: PARTIAL") // it was tried again, and went well
    iterations.ended("t-1", 0, 1)
    void iterations.ask("t-2", self(), new AbortController().signal)
    iterations.grant({ orders: [], turn: { id: "t-2", grantedAtMs: 1 } })
    expect(warnings(events).length).toBe(1)
    iterations.word.failed(limit)
    expect(warnings(events).length).toBe(2)
  })
})
