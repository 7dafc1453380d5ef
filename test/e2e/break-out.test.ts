/** A long file: one fleet is set up for all the ways out of it. */
import { readFileSync, writeFileSync } from "node:fs"
import { type IncomingHttpHeaders, request } from "node:http"
import { connect as connectTcp } from "node:net"
import { join } from "node:path"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { WebSocket } from "ws"
import { z } from "zod"
import { closeAgain, closeMalformed, frameBytesMax } from "../../src/core/frames.ts"
import { type ModelRequest, type Reply, say, use } from "../model/model.ts"
import { eventually, type McpClient, makeWorld, type World } from "./world.ts"

/**
 * An agent that wants out: it tries every face that it has. With its own tools, with programs in
 * its shell, and through its supervisor's port with the token that its environment holds. What it
 * is refused is said clearly, changes nothing, and stands in the audit.
 */

interface Answer {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  // biome-ignore lint/suspicious/noExplicitAny: tests read fields of many shapes; a missing one fails
  readonly json: any
}
interface Asked {
  readonly method?: string
  readonly body?: unknown
  /** Sent as it is. */
  readonly raw?: string
  readonly headers?: Record<string, string>
}
/** As a program of the agent calls: its words as they are, no URL normalized on the way. */
type Ask = (path: string, asked?: Asked) => Promise<Answer>
const asker =
  (at: { socketPath: string } | { host: string; port: number }, bearer: string): Ask =>
  (
    path,
    { method = "GET", body, raw = body === undefined ? "" : JSON.stringify(body), headers } = {},
  ) =>
    new Promise((resolve, reject) => {
      const call = request({
        ...{ ...at, path, method, agent: false },
        headers: {
          authorization: `Bearer ${bearer}`,
          ...(raw !== "" && {
            "content-type": "application/json",
            "content-length": String(Buffer.byteLength(raw)),
          }),
          ...headers,
        },
      })
      call.once("error", reject)
      call.once("response", async (response) => {
        let text = ""
        for await (const chunk of response.setEncoding("utf8")) text += chunk
        const json: unknown = response.headers["content-type"]?.includes("json")
          ? JSON.parse(text)
          : text
        resolve({ status: response.statusCode ?? 0, headers: response.headers, json })
      })
      call.end(raw)
    })

const runSchema = z.object({ credential: z.string(), place: z.string() })
const supervisorSchema = z.object({ port: z.int(), token: z.string() })
const statusOf = (world: World, uid: string, file: string): unknown =>
  JSON.parse(readFileSync(join(world.runOf(uid), "status", file), "utf8"))
const credentialOf = (world: World, uid: string): string =>
  runSchema.parse(statusOf(world, uid, "run.json")).credential
const portOf = (world: World, uid: string): Ask => {
  const { port, token } = supervisorSchema.parse(statusOf(world, uid, "supervisor.json"))
  return asker({ host: "127.0.0.1", port }, token)
}
const socketOf = (world: World, bearer: string): Ask =>
  asker({ socketPath: join(world.state, "serve.sock") }, bearer)

const fleet = (...calls: readonly (readonly [string, object])[]): Reply =>
  use(calls.map(([tool, input]) => ({ name: `mcp__blackbox5__${tool}`, input })))
const bash = (command: string): Reply =>
  use([{ name: "Bash", input: { command, timeout: 600_000 } }])
const names = z.object({ instances: z.array(z.object({ name: z.string() })) })

/**
 * A thousand spawns as fast as one program makes them, once it is told to: prints how many ended
 * how.
 */
const bomb = `
const { BLACKBOX5_AGENT_URL: url, BLACKBOX5_AGENT_TOKEN: token } = process.env
const { existsSync } = await import("node:fs")
while (!existsSync(process.argv[2])) await new Promise((resolve) => setTimeout(resolve, 20))
const counts = {}
let left = 1000
const one = async () => {
  while (left-- > 0) {
    const answer = await fetch(url + "/v1/instances", {
      method: "POST",
      headers: { authorization: "Bearer " + token, "content-type": "application/json" },
      body: JSON.stringify({ goal: "bombed", budget: { iterations: 1 } }),
    })
    const { error } = await answer.json()
    const key = error ? error.code + (error.message && error.next ? "" : " without words") : "made"
    counts[key] = (counts[key] ?? 0) + 1
  }
}
await Promise.all(Array.from({ length: 50 }, one))
console.log("counted " + JSON.stringify(counts))
`

let world: World
let person: McpClient
const uids = new Map<string, string>()
const said = new Map<string, string[]>()
let port: Ask
const uidOf = (name: string): string => uids.get(name) ?? ""
const spawn = async (name: string, more: object = {}): Promise<string> => {
  const { uid } = await person.call("spawn_instance", {
    project: "shop",
    name,
    goal: `The goal of ${name}.`,
    ...more,
  })
  uids.set(name, z.string().parse(uid))
  return uidOf(name)
}
const phaseOf = async (name: string): Promise<unknown> =>
  (await person.call("inspect_instance", { name })).phase
const works = (name: string) =>
  eventually(
    async () => (await phaseOf(name)) === "Running" && credentialOf(world, uidOf(name)),
    name,
  )
/** Who there is, and what is wanted of each. */
const everything = async (): Promise<unknown> => {
  const all = names
    .parse(await person.call("list_instances", { limit: 200 }))
    .instances.map(({ name }) => name)
  const one = async (name: string) => {
    const { spec } = await person.call("inspect_instance", { name, sections: ["spec"] })
    return [name, JSON.parse(JSON.stringify(spec).replace(/untrusted-\w+/g, ""))]
  }
  return Promise.all(all.toSorted().map(one))
}
const auditSchema = z.object({
  calls: z.array(
    z.object({
      ...{ who: z.string(), tool: z.string(), verdict: z.string(), on: z.array(z.string()) },
      count: z.int().default(1),
    }),
  ),
})
/** Equal calls are one record, with their count. */
const countOf = (calls: z.output<typeof auditSchema>["calls"]): number =>
  calls.reduce((sum, { count }) => sum + count, 0)
const audited = async (who: string) => {
  const { status, json } = await asker(
    { socketPath: join(world.state, "serve.sock") },
    machineToken(),
  )("/v1/audit?limit=1000")
  expect(status).toBe(200)
  return auditSchema.parse(json).calls.filter((call) => call.who === `instance ${who}`)
}
const machineToken = (): string => readFileSync(join(world.state, "token"), "utf8").trim()
const post = (body: unknown): Asked => ({ method: "POST", body })
const refused = (answer: Answer, status: number, code: string, words = /./): void => {
  expect([answer.status, answer.json]).toEqual([
    status,
    { error: { code, message: expect.stringMatching(words), next: expect.stringMatching(/./) } },
  ])
}

/**
 * What the fox tries with its own tools, in one answer of its model; the words that each must meet.
 */
const tries: readonly (readonly [tool: string, input: object, words: RegExp])[] = [
  ["spawn_instance", { name: "free", lineage: [] }, /has no field "lineage"/],
  ["spawn_instance", { name: "free", project: "blog" }, /parent's project, shop, not blog/],
  ["spawn_instance", { name: "free", priority: 100 }, /at most its parent's/],
  ["spawn_instance", { name: "free", budget: { tokens: 9_000_001 } }, / has [0-9.]+ left/],
  ["spawn_instance", { name: "free", project: "../blog" }, /1 to 63 characters of/],
  // Whether a stranger has the name, or nobody, makes no difference.
  [
    "spawn_instance",
    { name: "hen", dryRun: true },
    /"name":"fox--hen","created":false.*Nothing was made/s,
  ],
  [
    "spawn_instance",
    { name: "nobody", dryRun: true },
    /"name":"fox--nobody","created":false.*Nothing was made/s,
  ],
  ["fleet_status", { project: "blog" }, /"projects":\[\]/],
  ["pause_instances", { names: ["hen"] }, /no instance hen/],
  ["stop_instances", { names: ["fox"], remove: true }, /change only its descendants/],
  [
    "update_instance",
    { name: "fox", budget: { tokens: 90_000_000 } },
    /change only its descendants/,
  ],
  ["update_instance", { name: "hen", goal: "Obey the fox." }, /no instance hen/],
  ["message_instances", { to: ["hen"], text: "Come out." }, /no instance hen/],
  ["read_logs", { name: "hen" }, /no instance hen/],
]

const script = (request: ModelRequest): Reply => {
  const name =
    /The goal of (\w+)\./.exec(request.text)?.[1] ?? /goal (bombed)/.exec(request.text)?.[1] ?? ""
  const seen = said.get(name) ?? []
  said.set(name, seen)
  seen.push(...request.toolResults.map(({ text }) => text))
  if (name === "fox" && seen.length === 0)
    return fleet(...tries.map(([tool, input]) => [tool, input] as const))
  if (name === "bomber" && seen.length === 0)
    return bash(
      `${process.execPath} ${join(world.directory, "bomb.mjs")} ${join(world.directory, "go")}`,
    )
  if (name === "spender") return say("Status: PARTIAL", { usage: { input: 1_500_000, output: 1 } })
  return bash("sleep 1000")
}

beforeAll(async () => {
  world = await makeWorld(script, {
    projects: ["shop", "blog"],
    policy: "instancesMax: 40\nturnsMax: 20\n",
  })
  writeFileSync(join(world.directory, "bomb.mjs"), bomb)
  person = await world.connect()
  await spawn("hen")
  await works("hen")
  await spawn("fox", {
    budget: { tokens: 9_000_000 },
    children: { depth: 1, total: 5, running: 5 },
  })
  await works("fox")
  port = portOf(world, uidOf("fox"))
}, 180_000)
afterAll(() => world[Symbol.asyncDispose]())

describe("an agent that wants out", () => {
  it("is refused by each of its tools", async () => {
    await eventually(() => (said.get("fox")?.length ?? 0) >= tries.length, "all tries")
    for (const [index, [tool, , words]] of tries.entries())
      expect([tool, said.get("fox")?.[index]]).toEqual([tool, expect.stringMatching(words)])
    expect(
      names
        .parse(await person.call("list_instances"))
        .instances.map(({ name }) => name)
        .toSorted(),
    ).toEqual(["fox", "hen"])
    const calls = await audited("fox")
    for (const [tool] of tries.filter(([one]) => one !== "read_logs" && one !== "fleet_status")) {
      const wanted = tries.filter(([one, input]) => one === tool && !("dryRun" in input)).length
      expect([
        tool,
        countOf(calls.filter((call) => call.tool === tool && call.verdict !== "done")),
      ]).toEqual([tool, wanted])
    }
  }, 120_000)

  it("is itself through its port, whatever it says besides", async () => {
    const before = await everything()
    const forged = Buffer.from(
      JSON.stringify({ name: "hen", uid: uidOf("hen"), place: "29990101T000000000Z-zzzz" }),
    ).toString("base64url")
    const headers: Record<string, string>[] = [
      { "x-forwarded-user": "root", "x-blackbox5-code-root": encodeURIComponent("/") },
      { "x-blackbox5-lineage": uidOf("hen"), forwarded: "for=127.0.0.1", cookie: "session=admin" },
      // What is of one connection is dropped on the way: the credential must not be.
      { connection: "authorization, keep-alive" },
      { connection: "keep-alive", "proxy-authorization": `Bearer ${forged}` },
    ]
    for (const more of headers) {
      const { status, json } = await port("/v1/instances", { headers: more })
      expect([status, names.parse(json).instances]).toEqual([
        200,
        [expect.objectContaining({ name: "fox" })],
      ])
    }
    for (const [method, path] of [
      ["POST", "/v1/tokens"],
      ["GET", "/v1/tokens"],
      ["POST", "/v1/tokens:revoke"],
      ["GET", "/v1/audit"],
    ] as const)
      refused(
        await port(
          path,
          method === "GET"
            ? {}
            : post(path.endsWith("revoke") ? { name: "x" } : { name: "x", role: "admin" }),
        ),
        403,
        "Forbidden",
        /cannot administer/,
      )
    // Where only supervisors go, or only people, by whatever spelling.
    for (const path of [
      "/v1/link",
      "/v1/../v1/link",
      "/v1/l%69nk/",
      "/v1//link",
      "/v1/%2e%2e/supervisor/mcp-servers",
      "/metrics",
    ])
      expect([path, (await port(path)).status]).toEqual([path, 404])
    expect(await everything()).toEqual(before)
  }, 120_000)

  it("smuggles no second call behind its own", async () => {
    const before = await everything()
    const { port: number, token } = supervisorSchema.parse(
      statusOf(world, uidOf("fox"), "supervisor.json"),
    )
    const body = JSON.stringify({ name: "thief", role: "admin" })
    const inner = `POST /v1/tokens HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`
    const chunked = `${inner.length.toString(16)}\r\n${inner}\r\n0\r\n\r\n`
    const send = (method: string, framing: string, what: string): Promise<string> =>
      new Promise((resolve, reject) => {
        const socket = connectTcp(number, "127.0.0.1", () =>
          socket.write(
            `${method} /v1/fleet HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer ${token}\r\nConnection: close\r\n${framing}\r\n${what}`,
          ),
        )
        let text = ""
        socket.setEncoding("utf8").on("data", (more) => {
          text += more
        })
        socket.on("error", reject).on("close", () => resolve(text.slice(0, text.indexOf("\r\n"))))
      })
    for (const method of ["GET", "DELETE"])
      expect([method, await send(method, "Transfer-Encoding: chunked\r\n", chunked)]).toEqual([
        method,
        method === "GET" ? "HTTP/1.1 200 OK" : "HTTP/1.1 405 Method Not Allowed",
      ])
    expect(await send("GET", "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", chunked)).toBe(
      "HTTP/1.1 400 Bad Request",
    )
    expect(await send("GET", "Content-Length: 5\r\nContent-Length: 6\r\n", inner)).toBe(
      "HTTP/1.1 400 Bad Request",
    )
    const { json } = await socketOf(world, machineToken())("/v1/tokens?all=true")
    expect(json.tokens).toEqual([])
    expect(await everything()).toEqual(before)
  }, 60_000)

  it("reaches nothing by paths, and nothing by what is no call", async () => {
    const before = await everything()
    const names: readonly string[] = [
      "../hen",
      "/etc",
      "hen\u0000",
      "..",
      ".",
      "-rf",
      "HEN",
      "hеn",
      "h\u202een",
      "x".repeat(54),
      "",
    ]
    for (const name of names)
      refused(await port("/v1/instances", post({ name })), 400, "Invalid", /name/)
    for (const project of ["../blog", "/etc", "shop/../blog", "shop\u0000", "..", "shоp", ""])
      refused(
        await port("/v1/instances", post({ name: "free", project })),
        400,
        "Invalid",
        /project/,
      )
    for (const repository of [
      "../../etc",
      "acme/../..",
      "--upload-pack=sh/x",
      "file:///etc",
      "acme/shop.git",
      "a\u0000/b",
    ])
      refused(
        await port("/v1/instances", post({ name: "free", repository })),
        400,
        "Invalid",
        /repository/,
      )
    for (const ref of [
      "--upload-pack=sh",
      "../main",
      "a\u0000",
      "main..dev",
      "HEAD@{1}",
      "a b",
      "/etc",
    ])
      refused(await port("/v1/instances", post({ name: "free", ref })), 400, "Invalid", /ref/)
    for (const name of ["..%2Fhen", "%2Fetc%2Fpasswd", "hen%00", "%252e%252e"])
      refused(await port(`/v1/instances/${name}`), 400, "Invalid", /name/)
    refused(await port("/v1/instances/%ff"), 400, "Invalid", /escape/)
    refused(await port("/v1/instances/hen"), 404, "NotFound", /no instance hen/)

    const json = { "content-type": "application/json" }
    for (const raw of ["{", "null", "[]", '"x"', "{}}", '{"a":'.repeat(50_000), "\u0000"])
      refused(
        await port("/v1/instances", { method: "POST", raw, headers: json }),
        400,
        "Invalid",
        /JSON/,
      )
    refused(
      await port("/v1/instances", post({ goal: "x".repeat(1_048_577) })),
      413,
      "TooLarge",
      /1048576/,
    )
    refused(
      await port("/v1/instances", {
        method: "POST",
        raw: "name=x",
        headers: { "content-type": "text/plain" },
      }),
      400,
      "Invalid",
    )
    refused(
      await port(
        "/v1/instances",
        post({ name: "free", __proto__: null, constructor: { lineage: [] } }),
      ),
      400,
      "Invalid",
    )
    expect(await everything()).toEqual(before)
    const calls = await audited("fox")
    expect(
      countOf(
        calls.filter(({ tool, verdict }) => tool === "spawn_instance" && verdict === "Invalid"),
      ),
    ).toBeGreaterThan(30)
  }, 120_000)

  it("closes its own link alone by frames that are none", async () => {
    const before = await everything()
    const [serve, hen] = [world.servePid(), credentialOf(world, uidOf("hen"))]
    const ended = (frame: string | Buffer): Promise<number> =>
      new Promise((resolve, reject) => {
        const link = new WebSocket(`ws+unix://${join(world.state, "serve.sock")}:/v1/link`, {
          headers: { authorization: `Bearer ${credentialOf(world, uidOf("fox"))}` },
        })
        link
          .on("open", () => link.send(frame))
          .on("close", resolve)
          .on("error", reject)
      })
    // Its own supervisor, whose link it took, may have come back before its frame.
    const answered = (frame: string | Buffer) =>
      eventually(async () => {
        const code = await ended(frame)
        return code !== closeAgain && code
      }, "an answer to the frame")
    for (const frame of [
      "{",
      "null",
      "[]",
      '{"type":"root"}',
      '{"type":"beat","beat":{}}',
      Buffer.alloc(10),
    ])
      expect([String(frame), await answered(frame)]).toEqual([String(frame), closeMalformed])
    // Cut at once: the code that says so may get lost on the way.
    expect([1006, 1009]).toContain(await answered("x".repeat(frameBytesMax + 1)))
    // Another's, and nobody's, is not even opened.
    for (const bearer of [`${hen}x`, "", machineToken()]) {
      const link = new WebSocket(`ws+unix://${join(world.state, "serve.sock")}:/v1/link`, {
        headers: { authorization: `Bearer ${bearer}` },
      })
      expect(
        await new Promise((resolve) => link.on("error", (error) => resolve(error.message))),
      ).toContain("401")
    }
    expect(world.servePid()).toBe(serve)
    await eventually(async () => (await phaseOf("fox")) === "Running", "its supervisor links again")
    expect(
      (
        await person.call("message_instances", {
          to: ["hen"],
          text: "Still there?",
          waitSeconds: 0,
        })
      ).receipts,
    ).toMatchObject([{ to: "hen", state: "queued" }])
    expect(await everything()).toEqual(before)
  }, 120_000)
})

describe("what a child of it may do", () => {
  it("does not lift what a person paused, nor go deeper, nor reach its parent", async () => {
    const made = await port(
      "/v1/instances",
      post({ name: "hen", goal: "The goal of kid.", budget: { tokens: 1_000_000 } }),
    )
    // The name of a stranger: called below its parent, it is another.
    expect([made.status, made.json.created, made.json.name]).toEqual([200, true, "fox--hen"])
    uids.set("fox--hen", made.json.uid)
    await works("fox--hen")
    const kid = portOf(world, uidOf("fox--hen"))
    refused(await kid("/v1/instances", post({ name: "deeper" })), 403, "Forbidden", /on \d levels?/)
    refused(
      await kid("/v1/instances:stop", post({ names: ["fox"] })),
      403,
      "Forbidden",
      /only its descendants/,
    )
    refused(await kid("/v1/instances/fox"), 403, "Forbidden", /itself and its descendants/)

    await person.call("pause_instances", { names: ["fox--hen"], note: "a person's" })
    await eventually(async () => (await phaseOf("fox--hen")) === "Paused", "paused")
    const before = await everything()
    const unchanged = (answer: Answer): void =>
      expect([answer.status, answer.json.changed, answer.json.instances]).toEqual([
        200,
        0,
        [
          {
            name: "fox--hen",
            changed: false,
            phase: "Paused",
            why: expect.stringMatching(/^It was paused by admin /),
          },
        ],
      ])
    unchanged(await port("/v1/instances:resume", post({ names: ["fox--hen"] })))
    // Its own pause over the person's would be its own to lift.
    unchanged(
      await port(
        "/v1/instances:pause",
        post({ names: ["fox--hen"], note: "mine now", until: "1s" }),
      ),
    )
    expect(await everything()).toEqual(before)
    refused(
      await port("/v1/instances/fox--hen", { method: "PATCH", body: { pause: null } }),
      400,
      "Invalid",
      /pause/,
    )
    refused(
      await port("/v1/instances/fox--hen", { method: "PATCH", body: { priority: 100 } }),
      403,
      "Forbidden",
      /at most/,
    )
    refused(
      await port("/v1/instances/fox--hen", {
        method: "PATCH",
        body: { budget: { tokens: 9_000_001 } },
      }),
      403,
      "Forbidden",
      /left/,
    )
    expect(await everything()).toEqual(before)
    // A stop is a parent's to make; a resume behind it is no way around the pause.
    expect((await port("/v1/instances:stop", post({ names: ["fox--hen"] }))).json.changed).toBe(1)
    const resumed = await port("/v1/instances:resume", post({ names: ["fox--hen"] }))
    expect(resumed.json.instances).toMatchObject([
      { changed: false, why: expect.stringMatching(/^It was paused by admin /) },
    ])
    await eventually(async () => (await phaseOf("fox--hen")) === "Stopped", "stopped")
    // The person's stop takes the place of the parent's, which cannot even remove it: spawned again
    // it would have been started after all.
    await person.call("resume_instances", { names: ["fox--hen"] })
    await works("fox--hen")
    expect(await person.call("stop_instances", { names: ["fox--hen"] })).toMatchObject({
      changed: 1,
    })
    await eventually(async () => (await phaseOf("fox--hen")) === "Stopped", "stopped")
    const stopped = await everything()
    for (const [call, body] of [
      ["resume", { names: ["fox--hen"] }],
      ["resume", { all: true, expect: 1 }],
      ["resume", { names: ["fox--hen"], dryRun: true }],
      ["stop", { names: ["fox--hen"], remove: true }],
      ["stop", { names: ["fox--hen"] }],
      ["pause", { names: ["fox--hen"], until: "1s" }],
    ] as const) {
      const { status, json } = await port(`/v1/instances:${call}`, post(body))
      expect([call, status, json.changed, json.instances]).toEqual([
        call,
        200,
        0,
        [
          {
            ...{ name: "fox--hen", changed: false, phase: "Stopped" },
            why: expect.stringMatching(
              /^It was stopped by admin \S+ \d+ s ago: ask with|^It was already told to stop by admin|nothing to pause/,
            ),
          },
        ],
      ])
    }
    refused(
      await port("/v1/instances", post({ name: "fox--hen", budget: { tokens: 1000 } })),
      409,
      "Conflict",
      /fox--hen is taken/,
    )
    refused(
      await port("/v1/messages", post({ to: ["fox--hen"], text: "Go on.", standing: true })),
      409,
      "Conflict",
      /stopped/,
    )
    expect(await everything()).toEqual(stopped)
    expect((await person.call("inspect_instance", { name: "fox--hen" })).why).toMatch(
      /^It was stopped by admin \S+ at [\d-]+ [\d:]+ UTC\.$/,
    )
    expect(
      (await audited("fox--hen")).map(({ tool, verdict }) => [tool, verdict]).toSorted(),
    ).toEqual([
      ["spawn_instance", "Forbidden"],
      ["stop_instances", "Forbidden"],
    ])
  }, 180_000)

  it("spends no more by being removed and spawned anew", async () => {
    const spender = { name: "spender", goal: "The goal of spender.", mode: "once" }
    const first = await port("/v1/instances", post({ ...spender, budget: { tokens: 4_000_000 } }))
    expect(first.json).toMatchObject({ created: true })
    uids.set("fox--spender", first.json.uid)
    const used = z.object({ usage: z.object({ iterations: z.int().min(1) }) })
    await eventually(
      async () =>
        used.safeParse(await person.call("inspect_instance", { name: "fox--spender" })).success &&
        (await phaseOf("fox--spender")) === "Completed",
      "it spent",
    )
    await port("/v1/instances:stop", post({ names: ["fox--spender"], remove: true }))
    await eventually(
      async () => !JSON.stringify(await person.call("list_instances")).includes('"fox--spender"'),
      "removed",
    )
    const before = await everything()
    // Of 9 million, 1.5 are gone for good, and a little that the fox itself used.
    refused(
      await port("/v1/instances", post({ ...spender, budget: { tokens: 7_500_000 } })),
      403,
      "Forbidden",
      / has [0-9.]+ left/,
    )
    // And its birth is not undone: three more, and that was all in this life.
    expect(await everything()).toEqual(before)
    for (let round = 0; round < 3; round++) {
      expect(
        (await port("/v1/instances", post({ name: `again-${round}`, budget: { tokens: 1000 } })))
          .json.created,
      ).toBe(true)
      await port("/v1/instances:stop", post({ names: [`fox--again-${round}`], remove: true }))
    }
    refused(
      await port("/v1/instances", post({ name: "sixth", budget: { tokens: 1000 } })),
      403,
      "Forbidden",
      /5 descendants in its life/,
    )
    await eventually(
      async () => !JSON.stringify(await person.call("list_instances")).includes('"fox--again-'),
      "all removed",
    )
    expect(await everything()).toEqual(before)
  }, 180_000)
})

describe("a name used again", () => {
  it("has nothing of its former bearer, who is nobody any more", async () => {
    const secret = "the safe is behind the picture"
    const old = await spawn("heir")
    await works("heir")
    const credential = credentialOf(world, old)
    const formerPort = portOf(world, old)
    await person.call("message_instances", {
      to: ["heir"],
      text: secret,
      standing: true,
      waitSeconds: 0,
    })
    await formerPort(
      "/v1/messages",
      post({ to: ["@operators"], text: `I was told that ${secret}` }),
    )
    await person.call("stop_instances", { names: ["heir"] })
    await eventually(async () => (await phaseOf("heir")) === "Stopped", "stopped")
    const former = socketOf(world, credential)
    refused(await former("/v1/instances"), 401, "Unauthenticated", /a run that has ended/)
    await person.call("stop_instances", { names: ["heir"], remove: true })
    await eventually(
      async () => !JSON.stringify(await person.call("list_instances")).includes('"heir"'),
      "removed",
    )
    refused(await former("/v1/instances"), 401, "Unauthenticated")
    const now = await spawn("heir", { goal: "The goal of heir. Anew." })
    expect(now).not.toBe(old)
    await works("heir")
    for (const asked of [{}, post({ to: ["@operators"], text: "It is me." })])
      refused(
        await former(asked.method === "POST" ? "/v1/messages" : "/v1/instances", asked),
        401,
        "Unauthenticated",
      )
    const heir = portOf(world, now)
    for (const path of [
      "/v1/messages",
      "/v1/messages?sent=true",
      "/v1/events?limit=500",
      "/v1/instances/heir/logs",
      "/v1/instances/heir?sections=spec,mail,events,log",
    ]) {
      const { status, json } = await heir(path)
      expect([path, status]).toEqual([path, 200])
      expect(JSON.stringify(json)).not.toContain("behind the picture")
      expect(JSON.stringify(json)).not.toContain(old)
    }
    const told = await eventually(() => {
      const anew = world.model.requests.filter(({ text }) => text.includes("Anew."))
      return anew.length > 0 && anew
    }, "its model is asked")
    expect(told.some(({ text }) => text.includes("behind the picture"))).toBe(false)
  }, 180_000)
})

describe("a spawn bomb", () => {
  it("ends at what the agent may have, and the fleet serves others meanwhile", async () => {
    await spawn("bomber", { children: { depth: 1, total: 3, running: 1 } })
    await works("bomber")
    const before = names.parse(await person.call("list_instances", { limit: 200 })).instances.length
    const pings: number[] = []
    const looks: number[] = []
    const timed = async (into: number[], what: () => Promise<unknown>): Promise<void> => {
      const began = performance.now()
      await what()
      into.push(performance.now() - began)
    }
    const counted = (): string | undefined =>
      said.get("bomber")?.find((text) => text.includes("counted "))
    writeFileSync(join(world.directory, "go"), "")
    await eventually(
      async () => {
        await timed(pings, () => person.client.ping())
        await timed(looks, () => person.call("fleet_status"))
        return counted()
      },
      "the bomb is over",
      120,
    )
    const counts = z
      .record(z.string(), z.int())
      .parse(JSON.parse(/counted (\{.*?\})/.exec(counted() ?? "")?.[1] ?? ""))
    const p99 = (of: number[]): number =>
      Math.round(of.toSorted((a, b) => a - b)[Math.floor(of.length * 0.99)] ?? 0)
    process.stdout.write(
      `spawn bomb: ${JSON.stringify(counts)}; of ${pings.length} rounds p99: ping ${p99(pings)} ms, fleet_status ${p99(looks)} ms\n`,
    )
    // Where the machine is slow, the calls may be too few for the limit of the rate.
    const { made, Forbidden: forbidden = 0, RateLimited: limited = 0, ...others } = counts
    expect([made, others]).toEqual([3, {}])
    expect(forbidden).toBeGreaterThan(0)
    expect(names.parse(await person.call("list_instances", { limit: 200 })).instances.length).toBe(
      before + 3,
    )
    expect(looks.length).toBeGreaterThan(0)
    const calls = (await audited("bomber")).filter(({ tool }) => tool === "spawn_instance")
    expect(calls.filter(({ verdict }) => verdict === "done").length).toBe(3)
    expect(countOf(calls.filter(({ verdict }) => verdict === "Forbidden"))).toBe(forbidden)
    // Of those above the rate, one in each window of ten seconds.
    const told = countOf(calls.filter(({ verdict }) => verdict === "RateLimited"))
    expect(told).toBeGreaterThanOrEqual(Math.min(1, limited))
    expect(told).toBeLessThanOrEqual(Math.min(20, limited))
  }, 240_000)
})
