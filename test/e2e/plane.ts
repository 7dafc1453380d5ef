/**
 * The real control plane in this process, on loopback, over a fleet that is written down rather
 * than run: for who may do what, and with which input.
 */
import { once } from "node:events"
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import type { Server } from "node:http"
import type { AddressInfo } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { createAdaptorServer } from "@hono/node-server"
import { pino } from "pino"
import { openDatabase } from "../../src/adapters/sqlite/open.ts"
import { sqliteStore } from "../../src/adapters/sqlite/store.ts"
import { through } from "../../src/api/app.ts"
import { assembleLocal, type LocalControlPlane } from "../../src/assemble/local.ts"
import type { Instance, Uid } from "../../src/core/instance.ts"
import type { Role } from "../../src/core/role.ts"
import { offers } from "../../src/core/tool.ts"
import { systemClock } from "../../src/host/clock.ts"
import { createMcpHttp } from "../../src/mcp/http.ts"
import { mountMcp } from "../../src/roles/mount-mcp.ts"
import { readConfig } from "../../src/settings/config.ts"
import { tools } from "../../tools/index.ts"
import { aRun, aSpec } from "../contract/harness.ts"
import { makeCodeRoot } from "./code-root.ts"

export interface Answer {
  readonly status: number
  readonly headers: Headers
  // biome-ignore lint/suspicious/noExplicitAny: tests read fields of many shapes; a missing one fails
  readonly json: any
}
export interface Plane extends AsyncDisposable {
  readonly plane: LocalControlPlane
  readonly directory: string
  readonly env: Record<string, string>
  readonly url: string
  /** The machine's own token. */
  readonly local: string
  /** One call over TCP. Without a bearer, none is sent. */
  rest(
    bearer: string | undefined,
    method: string,
    path: string,
    body?: unknown,
    headers?: Record<string, string>,
  ): Promise<Answer>
  tokenOf(name: string, role: Role, expires?: string): Promise<string>
  /** The credential of the run that the seeded instance has. */
  credentialOf(name: string): string
}
/** Each with the names above it, the uppermost first. */
export type Family = Readonly<Record<string, readonly string[]>>

export const place = "20260101T000000000Z-aaaa"

async function seed(path: string, family: Family): Promise<ReadonlyMap<string, Instance>> {
  const database = await openDatabase(path)
  const store = sqliteStore(database, systemClock)
  const made = new Map<string, Instance>()
  for (const [name, above] of Object.entries(family)) {
    const lineage = above.map((one): Uid => {
      const parent = made.get(one)
      if (!parent) throw new Error(`${one} comes after ${name}`)
      return parent.uid
    })
    const created = await store.create(
      name,
      aSpec({ lineage, goal: `The goal of ${name}.`, mode: "until-complete" }),
    )
    const admitted = {
      verdict: "Admitted",
      reason: "Admitted",
      message: "Admitted.",
      term: 1,
    } as const
    made.set(
      name,
      await store.updateStatus(
        await store.updateStatus(created, "admission", admitted),
        "run",
        aRun({ place }),
      ),
    )
  }
  database.close()
  return made
}

export async function startPlane(
  family: Family,
  { env: more = {}, policy = "{}\n" }: { env?: Record<string, string>; policy?: string } = {},
): Promise<Plane> {
  const directory = mkdtempSync(join(tmpdir(), "bb5-plane-"))
  const paths = {
    codeRoot: join(directory, "code"),
    state: join(directory, "state"),
    config: join(directory, "config"),
  }
  for (const path of Object.values(paths)) mkdirSync(path, { mode: 0o700 })
  makeCodeRoot(paths.codeRoot, ["shop"])
  writeFileSync(join(paths.config, "policy.yaml"), policy)
  const made = await seed(join(paths.state, "blackbox5.db"), family)
  const env = {
    BLACKBOX5_STATE: paths.state,
    BLACKBOX5_CONFIG: paths.config,
    BLACKBOX5_CODE_ROOT: paths.codeRoot,
    PATH: process.env.PATH ?? "",
    ...more,
  }
  const ended = new AbortController()
  const config = readConfig({}, env)
  const plane = await assembleLocal(config, "0.0.0", [], pino({ level: "silent" }), ended.signal)
  const offered = tools.filter(offers(config.offer))
  const mcp = createMcpHttp({
    tools: offered,
    version: "0.0.0",
    invokeAs: plane.invokeAs,
    nowMs: systemClock.nowMs,
  })
  mountMcp(plane.app, mcp)
  const server = createAdaptorServer({
    fetch: through(plane.app, "tcp"),
    overrideGlobalObjects: false,
  }) as Server // plain HTTP is the default
  plane.acceptLinks(server)
  server.listen(0, "127.0.0.1")
  await once(server, "listening")
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}` // TCP, so no path
  const local = readFileSync(join(paths.state, "token"), "utf8").trim()

  const rest: Plane["rest"] = async (bearer, method, path, body, headers = {}) => {
    const response = await fetch(`${url}${path}`, {
      method,
      headers: {
        ...(bearer !== undefined && { authorization: `Bearer ${bearer}` }),
        ...(body !== undefined && { "content-type": "application/json" }),
        ...headers,
      },
      ...(body !== undefined && { body: JSON.stringify(body) }),
    })
    const text = await response.text()
    const json: unknown = response.headers.get("content-type")?.includes("json")
      ? JSON.parse(text)
      : text
    return { status: response.status, headers: response.headers, json }
  }
  return {
    ...{ plane, directory, env, url, local, rest },
    async tokenOf(name, role, expires) {
      const { status, json } = await rest(local, "POST", "/v1/tokens", {
        name,
        role,
        ...(expires && { expires }),
      })
      if (status !== 200) throw new Error(JSON.stringify(json))
      return json.token
    },
    credentialOf(name) {
      const instance = made.get(name)
      if (!instance) throw new Error(`${name} was not seeded`)
      return plane.credentials.mint({ name, uid: instance.uid, place })
    },
    async [Symbol.asyncDispose]() {
      ended.abort()
      await mcp.close()
      await new Promise((resolve) => server.close(resolve).closeAllConnections())
      plane.close()
      rmSync(directory, { recursive: true, force: true })
    },
  }
}
