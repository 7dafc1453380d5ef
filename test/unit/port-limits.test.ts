import { once } from "node:events"
import { request, type ServerResponse } from "node:http"
import { connect } from "node:net"
import { afterEach, describe, expect, it } from "vitest"
import { z } from "zod"
import type { LoopbackHandlers } from "../../src/agent/loopback.ts"
import { bodyBytesMax, callsMax, createTap, portRates } from "../../src/agent/port-limits.ts"
import { turnFileBytesMax } from "../../src/agent/turn-files.ts"
import { openPort, token } from "./supervisor-port.ts"

/** What an agent that floods its supervisor's port is told, and what goes on all the same. */

const ends: (() => void)[] = []
afterEach(() => {
  for (const end of ends.splice(0)) end()
})
/** It stands still unless a test moves it: a slow machine must not give room for more. */
let nowMs = 0
const port = (
  handlers: Partial<LoopbackHandlers> = {},
  answer?: (response: ServerResponse) => void,
) =>
  openPort(ends, {
    handlers: { mcp: async (c) => c.json({}), ...handlers },
    answer: answer && ((_, response) => answer(response)),
    nowMs: () => nowMs,
  })
const begin = (at: number, path: string, headers: Record<string, string> = {}, method = "POST") => {
  const call = request({
    ...{ port: at, host: "127.0.0.1", path, method, agent: false },
    headers: { authorization: `Bearer ${token}`, "content-type": "application/json", ...headers },
  })
  call.on("error", () => {}) // an answer may come before all was sent
  return call
}
const refusal = z.object({
  error: z.object({ code: z.string(), message: z.string(), next: z.string() }),
})
const post = async (
  at: number,
  path: string,
  body: string,
  headers: Record<string, string> = {},
  method = "POST",
) => {
  const call = begin(at, path, headers, method)
  call.end(body)
  const [response] = await once(call, "response")
  const chunks: Buffer[] = []
  for await (const chunk of response) chunks.push(chunk)
  const text = Buffer.concat(chunks).toString()
  return {
    status: Number(response.statusCode),
    error: refusal.safeParse(text === "" ? {} : JSON.parse(text)).data?.error,
  }
}
/** So many requests in one piece; how many were answered how. */
const flood = async (
  at: number,
  path: string,
  body: string,
  count: number,
): Promise<Record<string, number>> => {
  const socket = connect(at, "127.0.0.1")
  ends.push(() => socket.destroy())
  const head = `POST ${path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer ${token}\r\nContent-Type: application/json\r\n`
  socket.write(`${head}Content-Length: ${body.length}\r\n\r\n${body}`.repeat(count))
  let text = ""
  const counts: Record<string, number> = {}
  for await (const chunk of socket.setEncoding("utf8")) {
    text += chunk
    const statuses = [...text.matchAll(/HTTP\/1\.1 (\d+)/g)].map(([, status]) => String(status))
    if (statuses.length < count) continue
    for (const status of statuses) counts[status] = (counts[status] ?? 0) + 1
    break
  }
  return counts
}
const stop = JSON.stringify({ hook_event_name: "Stop" })

describe("a tap", () => {
  it("gives its burst at once, then so many a second, and never more than its burst", () => {
    let atMs = 0
    const take = createTap({ perSecond: 10, max: 3 }, () => atMs)
    const taken = (): number => [take(), take(), take(), take(), take()].filter(Boolean).length
    expect(taken()).toBe(3)
    atMs += 99
    expect(taken()).toBe(0)
    atMs += 101
    expect(taken()).toBe(2)
    atMs += 1_000_000
    expect(taken()).toBe(3)
    atMs -= 500_000 // a clock that goes back gives nothing
    expect(taken()).toBe(0)
  })
})

describe("the supervisor's port", () => {
  it.each([
    ["/hooks", portRates.hooks, stop, "hook calls"],
    ["/v1/logs", portRates.telemetry, "{}", "exports of telemetry"],
    ["/nested/logs", portRates.telemetry, "{}", "exports of telemetry"],
    ["/turns/t-1/end", portRates.turns, '{"code":0,"ms":1}', "requests for turns"],
    ["/mcp/any", portRates.calls, "{}", "calls"],
  ])(
    "takes only so many at %s, says so, and takes everything else meanwhile",
    async (path, { perSecond, max: burst }, body, what) => {
      const at = await port()
      const answers = await flood(at, path, body, burst + 3)
      expect(answers).toEqual({ 200: burst, 429: 3 })
      const other = path === "/hooks" ? "/turns/t-1/end" : "/hooks"
      expect((await post(at, other, other === "/hooks" ? stop : '{"code":0,"ms":1}')).status).toBe(
        200,
      )
      expect(await post(at, path, body)).toEqual({
        status: 429,
        error: {
          code: "RateLimited",
          message: expect.stringContaining(what),
          next: "Try again in 1 s.",
        },
      })
      nowMs += 1000
      expect(await flood(at, path, body, perSecond + 2)).toEqual({ 200: perSecond, 429: 2 })
    },
  )

  it("has so many calls under way at once, and room again when one is over", async () => {
    const waiting: ServerResponse[] = []
    const all = Promise.withResolvers<void>()
    const at = await port({}, (response) => {
      waiting.push(response)
      if (waiting.length === callsMax) all.resolve()
    })
    const calls = Array.from({ length: callsMax }, () => post(at, "/v1/instances", "", {}, "GET"))
    await all.promise
    expect(await post(at, "/v1/instances", "", {}, "GET")).toMatchObject({
      status: 429,
      error: { code: "RateLimited" },
    })
    expect((await post(at, "/hooks", stop)).status).toBe(200)
    for (const response of waiting) response.end("{}")
    expect((await Promise.all(calls)).every(({ status }) => status === 200)).toBe(true)
    const again = post(at, "/v1/instances", "", {}, "GET")
    while (waiting.length === callsMax) await new Promise((resolve) => setImmediate(resolve))
    waiting.at(-1)?.end("{}")
    expect((await again).status).toBe(200)
  })

  it("bounds one body, whether it says its length or not, and the sum of all that are under way", async () => {
    const at = await port()
    expect(
      await post(at, "/hooks", "", { "content-length": String(bodyBytesMax + 1) }),
    ).toMatchObject({
      status: 413,
      error: { code: "TooLarge", message: expect.stringContaining(String(bodyBytesMax)) },
    })
    const chunked = begin(at, "/turns/t-1/settings", { "transfer-encoding": "chunked" })
    chunked.end("x".repeat(turnFileBytesMax + 1))
    const [answer] = await once(chunked, "response")
    expect(answer.statusCode).toBe(413)
    const fits = begin(at, "/hooks", { "transfer-encoding": "chunked" })
    fits.end(stop)
    expect((await once(fits, "response"))[0].statusCode).toBe(200)

    // Two that each are small enough: the second finds no room, until the first is gone.
    const slow = begin(at, "/hooks", { "content-length": String(bodyBytesMax) })
    slow.write("{")
    const refused = async () => post(at, "/hooks", "", { "content-length": String(bodyBytesMax) })
    for (let status = 0; status !== 429; ) {
      const call = begin(at, "/hooks", { "content-length": String(bodyBytesMax) })
      call.write("{")
      status = await Promise.race([
        once(call, "response").then(([{ statusCode }]) => Number(statusCode)),
        new Promise<number>((resolve) => setTimeout(resolve, 200, 0)),
      ])
      call.destroy()
    }
    expect((await post(at, "/hooks", stop)).status).toBe(200) // a small one fits beside it
    expect((await refused()).status).toBe(429)
    slow.destroy()
    const padded = `${stop}${" ".repeat(bodyBytesMax - stop.length)}`
    for (let status = 429; status === 429; ) status = (await post(at, "/hooks", padded)).status
  })

  it("wants to know the length of what it hands on to an MCP server", async () => {
    const at = await port()
    const call = begin(at, "/mcp/any", { "transfer-encoding": "chunked" })
    call.end("{}")
    expect((await once(call, "response"))[0].statusCode).toBe(400)
  })

  it("says what is wrong with a body that it does not understand", async () => {
    const at = await port()
    for (const body of ["", "{", "[]", "null", '{"hook_event_name":3}', '{"hook_event_name":'])
      expect([body, await post(at, "/hooks", body)]).toEqual([
        body,
        {
          status: 400,
          error: {
            code: "Invalid",
            message: "The body is not valid.",
            next: expect.any(String),
          },
        },
      ])
  })

  it("answers while many connections say nothing", async () => {
    const at = await port()
    const silent = Array.from({ length: 200 }, () => connect(at, "127.0.0.1"))
    ends.push(() => {
      for (const socket of silent) socket.destroy()
    })
    await Promise.all(silent.map((socket) => once(socket, "connect")))
    for (const socket of silent) socket.write("POST /hooks HTTP/1.1\r\nHost: ")
    expect((await post(at, "/hooks", stop)).status).toBe(200)
  })
})
