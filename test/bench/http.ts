import { readFileSync } from "node:fs"
import { Agent, request } from "node:http"
import { join } from "node:path"
import { setTimeout as sleep } from "node:timers/promises"
import { fileURLToPath } from "node:url"
import { z } from "zod"
import { startChild } from "./child.ts"
import { type Part, quantile, type Row, row } from "./measure.ts"
import { residentMebibytes } from "./process.ts"
import { type Fleet, openFleet } from "./worlds.ts"

/**
 * MCP over HTTP, from the outside: sessions as clients have them, each with a connection that it
 * keeps.
 */

const concurrencies = [1, 16, 64] as const
const warmUpMs = 1000
const windowMs = 1000
const rounds = 5
/** Calls that wait meanwhile, and what a ping may take then. */
const hung = 50
const hungMsMax = 10
/** The issue's own: what is around a call may cost that much of what a plain server gives. */
const ratioMin = 0.7
const sessionsCount = 10_000
/**
 * Until what it keeps is full, and the collector has taken the room that so many short lives need.
 */
const sessionsBefore = 15_000
const growthMebibytesMax = 8

const silent = (): never => {
  throw new Error("nobody asks the model here")
}

export interface Server {
  readonly url: string
  readonly headers: Readonly<Record<string, string>>
}
export interface Client {
  /** One request, answered; the session's id as it was told. */
  ask(method: string, params: object): Promise<string | undefined>
  close(): void
}

function clientOf({ url, headers }: Server, agent: Agent): Client {
  let session: string | undefined
  let id = 0
  return {
    ask: (method, params) =>
      new Promise((resolve, reject) => {
        const body = JSON.stringify({ jsonrpc: "2.0", id: ++id, method, params })
        const asked = request(url, {
          ...{ method: "POST", agent },
          headers: {
            ...headers,
            ...(session !== undefined && {
              "mcp-session-id": session,
              "mcp-protocol-version": "2025-11-25",
            }),
            ...{
              "content-type": "application/json",
              accept: "application/json, text/event-stream",
            },
            "content-length": Buffer.byteLength(body),
          },
        })
        asked.once("error", reject)
        asked.once("response", (response) => {
          let text = ""
          response.setEncoding("utf8")
          response.on("data", (more: string) => {
            text += more
          })
          response.once("error", reject)
          response.once("end", () => {
            session ??= response.headers["mcp-session-id"]?.toString()
            if (response.statusCode === 200 && text.includes('"result"')) resolve(session)
            else
              reject(
                new Error(
                  `${method} was answered with ${response.statusCode}: ${text.slice(0, 200)}`,
                ),
              )
          })
        })
        asked.end(body)
      }),
    close: () => agent.destroy(),
  }
}
const initialize = (client: Client): Promise<string | undefined> =>
  client.ask("initialize", {
    protocolVersion: "2025-11-25",
    capabilities: {},
    clientInfo: { name: "bench", version: "1" },
  })

export const serverOf = ({ world }: Fleet): Server => {
  const { url } = z
    .object({ url: z.string() })
    .parse(JSON.parse(readFileSync(join(world.state, "serve.json"), "utf8")))
  const token = readFileSync(join(world.state, "token"), "utf8").trim()
  return { url: `${url}/mcp`, headers: { authorization: `Bearer ${token}` } }
}

/** So many clients, each of which asks again as soon as it is answered. */
export async function open(server: Server, clients: number): Promise<readonly Client[]> {
  const all = Array.from({ length: clients }, () =>
    clientOf(server, new Agent({ keepAlive: true, maxSockets: 1 })),
  )
  await Promise.all(all.map(initialize))
  return all
}
/** What each answer took, in one window. */
async function ask(
  all: readonly Client[],
  ms: number,
  [method, params]: readonly [string, object],
): Promise<readonly number[]> {
  const endMs = performance.now() + ms
  const took: number[] = []
  await Promise.all(
    all.map(async (client) => {
      for (let askedMs = performance.now(); askedMs < endMs; askedMs = performance.now()) {
        await client.ask(method, params)
        took.push(performance.now() - askedMs)
      }
    }),
  )
  return took
}

const loadPart = (
  id: string,
  ours: readonly [string, object],
  plain: readonly [string, object],
): Part => ({
  ids: concurrencies.flatMap((clients) => [`${id}.${clients}`, `${id}.${clients}.p99`]),
  async measure(): Promise<readonly Row[]> {
    await using fleet = await openFleet(silent)
    await using child = startChild(
      process.execPath,
      [fileURLToPath(new URL("plain-server.ts", import.meta.url))],
      fleet.world.env,
    )
    const baseline: Server = { url: `http://127.0.0.1:${await child.ask()}/mcp`, headers: {} }
    const rows: Row[] = []
    for (const clients of concurrencies) {
      const both = [
        { all: await open(serverOf(fleet), clients), what: ours, took: [] as number[] },
        { all: await open(baseline, clients), what: plain, took: [] as number[] },
      ] as const
      for (const { all, what } of both) await ask(all, warmUpMs, what)
      // In turns, so that what else the machine does meets both.
      for (let round = 0; round < rounds; round++)
        for (const { all, what, took } of both) took.push(...(await ask(all, windowMs, what)))
      for (const { all } of both) for (const client of all) client.close()
      const [own, theirs] = both.map(({ took }) => ({
        perSecond: (took.length / (rounds * windowMs)) * 1000,
        p99Ms: quantile(took, 0.99),
      })) as [Load, Load] // two of both
      rows.push(
        row(`${id}.${clients}`, "/s", own.perSecond, {
          ...{ baseline: theirs.perSecond, goal: `>= ${ratioMin}x` },
          holds: own.perSecond >= ratioMin * theirs.perSecond,
        }),
        row(`${id}.${clients}.p99`, "ms", own.p99Ms, { baseline: theirs.p99Ms }),
      )
    }
    child.kill()
    return rows
  },
})
interface Load {
  readonly perSecond: number
  readonly p99Ms: number
}

/** One client's ping while another's calls wait for what does not come. */
const hungPart: Part = {
  ids: ["http.hung"],
  async measure() {
    await using fleet = await openFleet(silent)
    const [client, ...others] = await open(serverOf(fleet), 1 + hung)
    if (!client) throw new Error("nobody asks")
    const waiting = others.map((one) =>
      one
        .ask("tools/call", { name: "read_events", arguments: { after: "$", waitSeconds: 50 } })
        .then(
          () => {},
          () => {},
        ),
    )
    await ask([client], warmUpMs, ["ping", {}])
    const took = await ask([client], windowMs, ["ping", {}])
    for (const one of [client, ...others]) one.close()
    await Promise.all(waiting)
    const value = quantile(took, 0.5)
    return [
      row("http.hung", "ms", value, { goal: `<= ${hungMsMax} ms`, holds: value <= hungMsMax }),
    ]
  },
}

/** What serve has more of, after so many clients came and went without a word. */
const sessionsPart: Part = {
  ids: ["http.sessions"],
  async measure() {
    await using fleet = await openFleet(silent)
    const server = serverOf(fleet)
    const come = async (count: number): Promise<void> => {
      const agent = new Agent({ keepAlive: true, maxSockets: 16 })
      for (let done = 0; done < count; done += 100)
        await Promise.all(Array.from({ length: 100 }, () => initialize(clientOf(server, agent))))
      agent.destroy()
    }
    const settled = async (): Promise<number> => {
      await sleep(2000)
      return residentMebibytes(fleet.world.servePid())
    }
    await come(sessionsBefore)
    const before = await settled()
    await come(sessionsCount)
    const grown = (await settled()) - before
    const goal = `<= ${growthMebibytesMax} MiB after ${sessionsCount}`
    return [row("http.sessions", "MiB", grown, { goal, holds: grown <= growthMebibytesMax })]
  },
}

export const httpParts: readonly Part[] = [
  loadPart("http.ping", ["ping", {}], ["ping", {}]),
  loadPart(
    "http.list",
    ["tools/call", { name: "list_instances", arguments: {} }],
    ["tools/call", { name: "trivial" }],
  ),
  hungPart,
  sessionsPart,
]
