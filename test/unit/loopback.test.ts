import { once } from "node:events"
import { mkdtempSync, rmSync } from "node:fs"
import { type IncomingMessage, request, type ServerResponse } from "node:http"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { Worker } from "node:worker_threads"
import { afterEach, describe, expect, it } from "vitest"
import { invokeOver } from "../../src/client/calls.ts"
import { endpointAt } from "../../src/core/endpoint.ts"
import { noProgress } from "../../src/core/tool.ts"
import { tools } from "../../tools/index.ts"
import { openPort, token } from "./supervisor-port.ts"

/**
 * The way of an agent's call: through the supervisor's port to the control plane, here one that
 * does what a test says.
 */

const ends: (() => void)[] = []
afterEach(() => {
  for (const end of ends.splice(0)) end()
})

const port = async (
  answer?: (incoming: IncomingMessage, response: ServerResponse) => void,
  at?: string,
) => `http://127.0.0.1:${await openPort(ends, { answer, at })}`
const begin = (url: string, path: string, more: { method?: string; bearer?: string } = {}) => {
  const { method = "GET", bearer = token } = more
  return request(url + path, {
    method,
    agent: false,
    headers: { authorization: `Bearer ${bearer}`, "content-type": "application/json" },
  })
}
const answerOf = async (
  url: string,
  path: string,
  more: { method?: string; bearer?: string; body?: string } = {},
) => {
  const call = begin(url, path, more)
  call.end(more.body)
  const [response] = await once(call, "response")
  const chunks: Buffer[] = []
  for await (const chunk of response) chunks.push(chunk)
  return { status: response.statusCode, text: Buffer.concat(chunks).toString() }
}

describe("the supervisor's port", () => {
  it("hands the fleet's calls on as the instance's, body and query unchanged", async () => {
    const url = await port((incoming, response) => {
      const chunks: Buffer[] = []
      incoming.on("data", (chunk) => chunks.push(chunk))
      incoming.on("end", () => {
        response.writeHead(418, { "x-seen": "yes" })
        response.end(
          [
            incoming.method,
            incoming.url,
            incoming.headers.authorization,
            Buffer.concat(chunks),
          ].join(" "),
        )
      })
    })
    expect(await answerOf(url, "/v1/instances?limit=3")).toEqual({
      status: 418,
      text: "GET /v1/instances?limit=3 Bearer the-instance's ",
    })
    const body = JSON.stringify({ text: "x".repeat(200_000) })
    expect(await answerOf(url, "/v1/messages", { method: "POST", body })).toEqual({
      status: 418,
      text: `POST /v1/messages Bearer the-instance's ${body}`,
    })
  })

  it("brings every answer back, however quickly it comes", async () => {
    // In a thread of its own: as with the real one, it may have closed before this side has ended
    // its request.
    const quick = `
      const { createServer } = require("node:http")
      const { parentPort, workerData } = require("node:worker_threads")
      createServer((incoming, response) => incoming.on("data", () => response.end("answered"))).listen(workerData, () => parentPort.postMessage("up"))`
    const directory = mkdtempSync(join(tmpdir(), "bb5-quick-"))
    const worker = new Worker(quick, { eval: true, workerData: join(directory, "serve.sock") })
    ends.push(() => {
      rmSync(directory, { recursive: true, force: true })
      void worker.terminate()
    })
    await once(worker, "message")
    const url = await port(undefined, join(directory, "serve.sock"))
    for (let call = 0; call < 200; call++)
      expect(await answerOf(url, "/v1/messages", { method: "POST", body: "{}" })).toEqual({
        status: 200,
        text: "answered",
      })
  })

  it("hands on nothing else, and nothing for whoever has not its token", async () => {
    let reached = 0
    const url = await port((_, response) => {
      reached++
      response.end()
    })
    for (const path of [
      "/",
      "/metrics",
      "/openapi.json",
      "/healthz",
      "/v1/link",
      "/v1/../metrics",
      "/v1/%2e%2e/metrics",
    ])
      expect([path, (await answerOf(url, path)).status]).toEqual([path, 404])
    for (const bearer of ["", "other", "the-instance's"])
      expect((await answerOf(url, "/v1/instances", { bearer })).status).toBe(401)
    expect(reached).toBe(0)
  })

  it("streams: what comes first is there before the rest; who goes away ends the other side", async () => {
    const gone = Promise.withResolvers<void>()
    const url = await port((_, response) => {
      response.writeHead(200, { "content-type": "text/event-stream" })
      response.write(": alive\n\n")
      response.on("close", () => gone.resolve())
    })
    const call = begin(url, "/v1/instances")
    call.end()
    const [response] = await once(call, "response")
    const [first] = await once(response, "data")
    expect(String(first)).toBe(": alive\n\n")
    call.destroy()
    await gone.promise // the control plane sees that nobody waits any more

    const other = await port((_, answer) => {
      answer.writeHead(200, { "content-length": "100" })
      answer.write("half")
      setImmediate(() => answer.destroy())
    })
    await expect(answerOf(other, "/v1/instances")).rejects.toThrow()
  })

  it("says so, as the control plane would, when that is away", async () => {
    const url = await port()
    const invoke = invokeOver(endpointAt(url, token), tools)
    await expect(
      invoke("fleet_status", {}, { signal: new AbortController().signal, progress: noProgress }),
    ).rejects.toMatchObject({
      code: "Unavailable",
      message: expect.stringContaining("The control plane does not answer"),
      next: expect.stringContaining("try again"),
    })
  })
})
