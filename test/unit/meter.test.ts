import { describe, expect, it } from "vitest"
import { logsSchema, meter as meterLogs, usedBy } from "../../src/agent/meter.ts"

describe("the meter", () => {
  const request = (fields: Record<string, string | number>) => ({
    timeUnixNano: String(BigInt(2000) * 1_000_000n),
    attributes: Object.entries({
      "event.name": "api_request",
      "session.id": "s1",
      "event.sequence": 1,
      "event.timestamp": "2026-01-01T00:00:00Z",
      query_source: "sdk",
      duration_ms: "500",
      cost_usd: 0.25,
      input_tokens: "10",
      output_tokens: 20,
      cache_read_tokens: "300",
      cache_creation_tokens: "4000",
      ...fields,
    }).map(([key, value]) => ({
      key,
      value:
        typeof value === "string"
          ? { stringValue: value }
          : Number.isInteger(value)
            ? { intValue: value }
            : { doubleValue: value },
    })),
  })
  const meter = (...args: Parameters<typeof meterLogs>) => {
    const { requests, mainBeganAtMs } = meterLogs(...args)
    return { used: usedBy(requests), counted: requests.map(({ key }) => key), mainBeganAtMs }
  }
  const logs = (...records: ReturnType<typeof request>[]) =>
    logsSchema.parse({ resourceLogs: [{ scopeLogs: [{ logRecords: records }] }] })

  it("adds cost and tokens of every kind, and says when the request began", () => {
    expect(
      meter(logs(request({}), request({ "event.sequence": 2, cost_usd: "0.5" })), []),
    ).toMatchObject({
      used: { usd: 0.75, tokens: 2 * 4330 },
      mainBeganAtMs: [1500, 1500],
    })
  })

  it("counts a repeated export once, in one body and over several", () => {
    const first = meter(logs(request({}), request({})), [])
    expect(first.used).toEqual({ usd: 0.25, tokens: 4330 })
    expect(first.counted).toHaveLength(1)
    expect(meter(logs(request({})), first.counted)).toEqual({
      used: { usd: 0, tokens: 0 },
      counted: [],
      mainBeganAtMs: [],
    })
  })

  it.each([
    ["session", { "session.id": "s2" }],
    ["sequence", { "event.sequence": 2 }],
    [
      "moment: a session that is continued begins its sequence anew",
      { "event.timestamp": "2026-01-01T00:00:01Z" },
    ],
  ])("takes another %s for another request", (_, other) => {
    expect(meter(logs(request(other)), meter(logs(request({})), []).counted).used.usd).toBe(0.25)
  })

  it("counts the requests of sub-agents, which prove nothing", () => {
    expect(
      meter(logs(request({ query_source: "agent:builtin:general-purpose" })), []),
    ).toMatchObject({
      used: { usd: 0.25, tokens: 4330 },
      mainBeganAtMs: [],
    })
  })

  it("passes over other records and senseless numbers", () => {
    expect(meter(logs(request({ "event.name": "tool_result" })), []).counted).toEqual([])
    expect(meter(logs(request({ cost_usd: "NaN", input_tokens: "-5" })), []).used).toEqual({
      usd: 0,
      tokens: 4320,
    })
    expect(meter(logsSchema.parse({}), []).counted).toEqual([])
  })
})
