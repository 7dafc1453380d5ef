/**
 * The scripted model against the real `claude -p`, and over plain HTTP where claude cannot be made
 * to ask.
 */
import { spawn } from "node:child_process"
import { once } from "node:events"
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises"
import { createServer } from "node:http"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { text } from "node:stream/consumers"
import { afterEach, beforeEach, describe, expect, it, onTestFinished } from "vitest"
import {
  drop,
  fail,
  hold,
  type Model,
  type ModelRequest,
  type Script,
  say,
  slow,
  startModel,
  use,
} from "./model.ts"

const bin = join(import.meta.dirname, "../../node_modules/.bin")
const isFirst = ({ number }: ModelRequest) => number === 1
const bash = (command: string) => use([{ name: "Bash", input: { command } }])

let home: string
let model: Model

beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), "model-"))
})

afterEach(async () => {
  await model.close()
  await rm(home, { recursive: true, force: true })
})

async function start(script: Script): Promise<void> {
  model = await startModel(script)
}

/** Starts `claude -p` in its own home; `ended` has its exit code and what it printed. */
function claude(options: { prompt?: string; env?: Record<string, string>; args?: string[] } = {}) {
  const env = { PATH: `${bin}:${process.env.PATH}`, ...model.environment(home), ...options.env }
  const args = [
    "-p",
    "--dangerously-skip-permissions",
    ...(options.args ?? []),
    options.prompt ?? "go",
  ]
  const child = spawn(join(bin, "claude"), args, {
    cwd: home,
    env,
    stdio: ["ignore", "pipe", "pipe"],
  })
  onTestFinished(() => void child.kill("SIGKILL"))
  const chunks: Buffer[] = []
  child.stdout.on("data", (chunk: Buffer) => chunks.push(chunk))
  child.stderr.on("data", (chunk: Buffer) => chunks.push(chunk))
  const ended = once(child, "close").then(([code]: unknown[]) => ({
    code,
    output: Buffer.concat(chunks).toString(),
  }))
  return { ended }
}

interface Logs {
  readonly resourceLogs: readonly {
    readonly scopeLogs: readonly { readonly logRecords: readonly LogRecord[] }[]
  }[]
}

interface LogRecord {
  readonly body: { readonly stringValue: string }
  readonly attributes: readonly {
    readonly key: string
    readonly value: { readonly intValue?: number }
  }[]
}

/** Collects what claude's telemetry says that it used, in the words of `billed`. */
async function startTelemetry() {
  const counted = { input: 0, output: 0, cacheRead: 0, cacheWrite: 0, requests: 0 }
  const server = createServer(async (request, response) => {
    const logs: Logs = JSON.parse(await text(request))
    const records = logs.resourceLogs
      .flatMap(({ scopeLogs }) => scopeLogs)
      .flatMap(({ logRecords }) => logRecords)
    for (const { attributes } of records.filter(
      ({ body }) => body.stringValue === "claude_code.api_request",
    )) {
      const read = (name: string) =>
        attributes.find(({ key }) => key === name)?.value.intValue ?? Number.NaN
      counted.input += read("input_tokens")
      counted.output += read("output_tokens")
      counted.cacheRead += read("cache_read_tokens")
      counted.cacheWrite += read("cache_creation_tokens")
      counted.requests += 1
    }
    response.end("{}")
  }).listen(0, "127.0.0.1")
  await once(server, "listening")
  onTestFinished(() => void server.close().closeAllConnections())
  const address = server.address()
  const env = {
    CLAUDE_CODE_ENABLE_TELEMETRY: "1",
    OTEL_LOGS_EXPORTER: "otlp",
    OTEL_EXPORTER_OTLP_PROTOCOL: "http/json",
    OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${typeof address === "object" ? address?.port : ""}`,
  }
  return { counted, env }
}

describe("with the real claude", { timeout: 60_000 }, () => {
  it("says a text", async () => {
    await start(() => say(`hello ${"long ".repeat(100)}\nworld`))
    const { code, output } = await claude({ prompt: "the prompt" }).ended
    expect(output).toBe(`hello ${"long ".repeat(100)}\nworld\n`)
    expect(code).toBe(0)
    const [request] = model.requests
    expect(request).toMatchObject({ number: 1, main: true, stream: true })
    expect(request?.last).toContain("the prompt")
    expect(request?.tools).toContain("Bash")
    expect(request?.session).toMatch(/^[0-9a-f-]{36}$/)
    expect(Math.abs((request?.atMs ?? 0) - Date.now())).toBeLessThan(10_000)
  })

  it("uses tools, several at once, and sees their results in the next request", async () => {
    await start((request) =>
      isFirst(request)
        ? use(
            [
              { name: "Bash", input: { command: "echo first" } },
              { name: "Bash", input: { command: "echo second; exit 3" } },
            ],
            {
              text: "two things",
            },
          )
        : say(`the results: ${request.last}`),
    )
    const { code, output } = await claude().ended
    expect(code).toBe(0)
    expect(output).toContain("the results: first")
    expect(model.requests[1]?.toolResults).toEqual([
      { id: "toolu_1_0", text: "first", isError: false },
      { id: "toolu_1_1", text: expect.stringContaining("second"), isError: true },
    ])
    expect(model.requests[1]?.text).toContain("two things")
    expect(model.requests[1]?.last).not.toContain("two things")
  })

  it("refuses for a while with 429: claude waits as told and succeeds", async () => {
    await start((request) =>
      isFirst(request) ? fail(429, { retryAfterSeconds: 2 }) : say("at last"),
    )
    expect(await claude().ended).toEqual({ code: 0, output: "at last\n" })
    const [first, second] = model.requests
    expect((second?.atMs ?? 0) - (first?.atMs ?? 0)).toBeGreaterThan(1900)
    expect(model.billed.requests).toBe(1)
  })

  it("is overloaded (529): claude tries again", async () => {
    await start((request) => (isFirst(request) ? fail(529) : say("at last")))
    expect(await claude().ended).toEqual({ code: 0, output: "at last\n" })
    expect(model.requests).toHaveLength(2)
  })

  it("refuses for good with 401: claude gives up with the message", async () => {
    await start(() => fail(401, { message: "a scripted refusal" }))
    const { code, output } = await claude({ env: { CLAUDE_CODE_MAX_RETRIES: "1" } }).ended
    expect(code).toBe(1)
    expect(output).toContain("401")
    expect(output).toContain("a scripted refusal")
    expect(model.billed.requests).toBe(0)
  })

  it("tells claude when the script fails, and claude does not try again", async () => {
    await start(() => {
      throw new Error("unforeseen")
    })
    const { code, output } = await claude().ended
    expect(code).toBe(1)
    expect(output).toContain("the script failed: Error: unforeseen")
    expect(model.requests).toHaveLength(1)
  })

  it("streams slowly", async () => {
    // Six events: opening, block, text, end of block, end, stop.
    await start(() => slow(say("slowly"), { chunkMs: 300 }))
    const { ended } = claude()
    const { atMs } = await model.until(isFirst)
    expect(await ended).toEqual({ code: 0, output: "slowly\n" })
    expect(Date.now() - atMs).toBeGreaterThan(6 * 300)
  })

  it("breaks a stream: claude recovers with the plain form", async () => {
    await start((request) => drop(say(`from request ${request.number}`), { afterEvents: 3 }))
    expect(await claude().ended).toEqual({ code: 0, output: "from request 2\n" })
    expect(model.requests.map(({ stream }) => stream)).toEqual([true, false])
    expect(model.billed.requests).toBe(1)
  })

  it("holds a turn until something else has happened", async () => {
    const others = (request: ModelRequest) => request.session !== model.requests[0]?.session
    await start((request) => {
      if (isFirst(request)) return hold(bash("echo ran > ran"), model.until(others))
      return say("done")
    })
    const held = claude()
    await model.until(isFirst)
    const other = claude()
    expect(await other.ended).toEqual({ code: 0, output: "done\n" })
    expect(await held.ended).toEqual({ code: 0, output: "done\n" })
    expect(model.requests.map(others)).toEqual([false, true, false])
    expect(await readFile(join(home, "ran"), "utf8")).toBe("ran\n")
  })

  it("shows sub-agents to the script, and keeps side requests from it", async () => {
    const seen: number[] = []
    await start((request) => {
      seen.push(request.number)
      if (request.agent !== undefined) return say("from the sub-agent")
      const input = { description: "a part", prompt: "do a part", subagent_type: "general-purpose" }
      return request.toolResults.length === 0 ? use([{ name: "Agent", input }]) : say("done")
    })
    const judge = { hooks: { Stop: [{ hooks: [{ type: "prompt", prompt: "is it done?" }] }] } }
    await writeFile(join(home, "settings.json"), JSON.stringify(judge))
    expect(await claude({ args: ["--settings", join(home, "settings.json")] }).ended).toEqual({
      code: 0,
      output: "done\n",
    })
    const kinds = model.requests.map(({ main, agent }) =>
      main ? "main" : agent === undefined ? "side" : "agent",
    )
    expect(kinds).toEqual(["main", "agent", "main", "side"])
    expect(seen).toEqual([1, 2, 3])
    expect(model.requests[2]?.toolResults[0]?.text).toContain("from the sub-agent")
    expect(new Set(model.requests.map(({ session }) => session)).size).toBe(1)
  })

  it.each([
    [
      "all delivered",
      undefined,
      { input: 11, output: 22, cacheRead: 33, cacheWrite: 44, requests: 2 },
    ],
    [
      "broken before a whole block",
      3,
      { input: 11, output: 22, cacheRead: 33, cacheWrite: 44, requests: 2 },
    ],
    [
      "broken after a whole block",
      4,
      { input: 11, output: 3, cacheRead: 33, cacheWrite: 44, requests: 2 },
    ],
    [
      "broken after the usage",
      5,
      { input: 11, output: 22, cacheRead: 33, cacheWrite: 44, requests: 2 },
    ],
  ])("bills what claude counts: %s", async (_, afterEvents, expected) => {
    const { counted, env } = await startTelemetry()
    await start((request) => {
      if (request.toolResults.length > 0)
        return say("done", { usage: { input: 1, output: 2, cacheRead: 3, cacheWrite: 4 } })
      const usage = { input: 10, output: 20, cacheRead: 30, cacheWrite: 40 }
      const turn = use([{ name: "Bash", input: { command: "true" } }], { usage })
      return afterEvents === undefined ? turn : drop(turn, { afterEvents })
    })
    await claude({ env }).ended
    expect(counted).toEqual(model.billed)
    expect(model.billed).toEqual(expected)
  })
})

describe("over plain HTTP", { timeout: 60_000 }, () => {
  const tools = [{ name: "Bash", input_schema: { type: "object" } }]
  const ask = (content: string, extra: object = {}, signal: AbortSignal | null = null) => {
    const body = JSON.stringify({
      model: "m",
      messages: [{ role: "user", content }],
      tools,
      ...extra,
    })
    return fetch(`${model.url}/v1/messages?beta=true`, { method: "POST", body, signal })
  }

  it("answers what claude asks besides", async () => {
    await start(() => say("unused"))
    expect((await fetch(model.url, { method: "HEAD" })).status).toBe(200)
    const count = await fetch(`${model.url}/v1/messages/count_tokens`, {
      method: "POST",
      body: "{}",
    })
    expect(await count.json()).toEqual({ input_tokens: 1000 })
    expect((await fetch(`${model.url}/v1/models`)).status).toBe(404)
    expect(model.requests).toEqual([])
    for (const tools of [undefined, [], [{ type: "web_search_20250305", name: "web_search" }]])
      expect(await (await ask("a side request", { tools })).text()).toContain(
        "(answer to a side request)",
      )
    expect(model.requests.map(({ main }) => main)).toEqual([false, false, false])
  })

  it("answers in plain form, with usage and the id that telemetry repeats", async () => {
    await start(() => say("hello", { usage: { output: 7 } }))
    const response = await ask("hi")
    expect(response.headers.get("request-id")).toBe("req_1")
    expect(await response.json()).toMatchObject({
      role: "assistant",
      model: "m",
      content: [{ type: "text", text: "hello" }],
      stop_reason: "end_turn",
      usage: { input_tokens: 1000, output_tokens: 7 },
    })
  })

  it("fails as told", async () => {
    await start(() => fail(429, { retryAfterSeconds: 3, message: "too fast" }))
    const limited = await ask("")
    expect([limited.status, limited.headers.get("retry-after")]).toEqual([429, "3"])
    expect(await limited.json()).toEqual({
      type: "error",
      error: { type: "rate_limit_error", message: "too fast" },
    })
    model.script = () => fail(529)
    const overloaded = await ask("")
    expect([overloaded.status, overloaded.headers.get("retry-after")]).toEqual([529, null])
    expect(await overloaded.json()).toMatchObject({ error: { type: "overloaded_error" } })
    model.script = () => fail(503, { type: "timeout_error" })
    expect(await (await ask("")).json()).toMatchObject({ error: { type: "timeout_error" } })
  })

  it("uses another script from one request to the next", async () => {
    await start(() => say("one"))
    expect(await (await ask("")).text()).toContain("one")
    model.script = () => say("two")
    expect(await (await ask("")).text()).toContain("two")
  })

  it("refuses what is no request, and what is too large", async () => {
    await start(() => say("unused"))
    const post = (body: string) => fetch(`${model.url}/v1/messages`, { method: "POST", body })
    expect((await post("{")).status).toBe(400)
    expect((await post("null")).status).toBe(400)
    expect((await post('{"model":"m"}')).status).toBe(400)
    expect((await post("x".repeat(32 * 1024 * 1024 + 1))).status).toBe(413)
    expect(model.requests).toEqual([])
  })

  it("waits for a request, past or coming", async () => {
    await start(() => say("ok"))
    const coming = model.until(({ last }) => last === "second")
    await ask("first")
    await ask("second")
    expect((await coming).number).toBe(2)
    expect((await model.until(({ last }) => last === "first")).number).toBe(1)
  })

  it("stops waiting when told to, and when it closes", async () => {
    await start(() => say("ok"))
    const reason = new Error("enough")
    await expect(model.until(() => false, AbortSignal.abort(reason))).rejects.toMatchObject({
      cause: reason,
    })
    const waiting = expect(model.until(() => false)).rejects.toMatchObject({
      cause: new Error("the model is closed"),
    })
    await model.close()
    await waiting
  })

  it("closes with a held stream open, which costs nothing", async () => {
    await start(() => hold(say("never"), new Promise(() => undefined)))
    const response = await ask("", { stream: true })
    const begun = await response.body?.getReader().read()
    expect(Buffer.from(begun?.value ?? []).toString()).toContain("event: message_start")
    await model.close()
    expect(model.billed.requests).toBe(0)
  })

  it("bills nothing to a claude that was killed before the answer", async () => {
    const { promise, resolve } = Promise.withResolvers<void>()
    await start(() => promise.then(() => say("late")))
    const killed = new AbortController()
    const gone = [
      expect(ask("", { stream: true }, killed.signal)).rejects.toThrow(),
      expect(ask("", {}, killed.signal)).rejects.toThrow(),
    ]
    await model.until(({ number }) => number === 2)
    killed.abort()
    await Promise.all(gone)
    // A later request on a connection of its own: the model has seen the earlier ones end when it
    // answers this.
    model.script = () => fail(529)
    await (await ask("")).body?.cancel()
    resolve()
    await (await ask("")).body?.cancel()
    expect(model.billed.requests).toBe(0)
  })

  it("keeps the latest 10,000 requests", async () => {
    await start(() => fail(529))
    for (let asked = 0; asked < 10_010; asked += 10) {
      const responses = await Promise.all(Array.from({ length: 10 }, () => ask("")))
      await Promise.all(responses.map((response) => response.body?.cancel()))
    }
    expect(model.requests).toHaveLength(10_000)
    expect(model.requests[0]?.number).toBe(11)
  })

  it("keeps at most 256 MiB of requests", async () => {
    await start(() => fail(529))
    const large = "x".repeat(30 * 1024 * 1024)
    for (let asked = 0; asked < 9; asked += 1) await (await ask(large)).body?.cancel()
    expect(model.requests.map(({ number }) => number)).toEqual([2, 3, 4, 5, 6, 7, 8, 9])
  })
})
