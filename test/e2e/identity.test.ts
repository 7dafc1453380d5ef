import { spawn } from "node:child_process"
import { once } from "node:events"
import { readFileSync } from "node:fs"
import { join } from "node:path"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { WebSocket } from "ws"
import { type Plane, place, startPlane } from "./plane.ts"
import { eventually, main, makeWorld } from "./world.ts"

let plane: Plane
beforeAll(async () => {
  plane = await startPlane({ boss: [], helper: ["boss"] })
})
afterAll(() => plane[Symbol.asyncDispose]())

const fault = (code: string) => ({
  error: { code, message: expect.any(String), next: expect.any(String) },
})

/** Waits for what never comes, in a stream; resolves with how it ended. */
async function longWait(bearer: string): Promise<{ begun: Response; ended: Promise<string> }> {
  const begun = await fetch(`${plane.url}/v1/instances:wait`, {
    method: "POST",
    headers: {
      authorization: `Bearer ${bearer}`,
      "content-type": "application/json",
      accept: "text/event-stream",
    },
    body: JSON.stringify({ names: ["helper"], until: "finished", timeoutSeconds: 600 }),
  })
  const ended = begun.text().then(
    (text) => `whole: ${text}`,
    () => "cut",
  )
  return { begun, ended }
}

describe("a person's token", () => {
  it("is shown once, says who calls, and ends when it is revoked: calls, streams and all", async () => {
    const made = await plane.rest(plane.local, "POST", "/v1/tokens", {
      name: "ann",
      role: "operator",
    })
    expect(made.json).toMatchObject({
      name: "ann",
      role: "operator",
      token: expect.stringMatching(/^bb5_[\w-]{43}$/),
    })
    const { token } = made.json
    expect(made.json.next).not.toContain(token)
    const sent = await plane.rest(token, "POST", "/v1/messages", {
      to: ["helper"],
      text: "Hello.",
      waitSeconds: 0,
    })
    expect(sent.status).toBe(200)
    const listed = await plane.rest(plane.local, "GET", "/v1/tokens")
    expect(listed.json.tokens).toContainEqual(
      expect.objectContaining({ name: "ann", role: "operator", state: "valid" }),
    )
    expect(JSON.stringify(listed.json)).not.toContain("bb5_")
    const audit = await plane.rest(plane.local, "GET", "/v1/audit?who=ann&limit=500")
    const record = {
      who: "operator ann",
      tool: "message_instances",
      on: ["helper"],
      made: [expect.stringMatching(/^m-/)],
    }
    expect(audit.json.calls).toMatchObject([record])
    expect(JSON.stringify(audit.json)).not.toContain("bb5_")

    const { begun, ended } = await longWait(token)
    expect(begun.status).toBe(200)
    await plane.rest(plane.local, "POST", "/v1/tokens:revoke", { name: "ann" })
    expect(await ended).toBe("cut")
    const after = await plane.rest(token, "GET", "/v1/fleet")
    expect([after.status, after.json]).toEqual([401, fault("Unauthenticated")])
    expect(after.json.error.message).toContain("revoked")
  })

  it("ends at its time, in the middle of a stream too", async () => {
    const token = await plane.tokenOf("short", "viewer", "2s")
    const { begun, ended } = await longWait(token)
    expect(begun.status).toBe(200)
    expect(await ended).toBe("cut")
    expect((await plane.rest(token, "GET", "/v1/fleet")).status).toBe(401)
    expect(
      (await plane.rest(plane.local, "GET", "/v1/tokens?all=true")).json.tokens,
    ).toContainEqual(expect.objectContaining({ name: "short", state: "expired" }))
  })

  it("takes MCP's stream with it, and its session is nobody's then", async () => {
    const token = await plane.tokenOf("streams", "operator")
    const mcp = (method: string, bearer: string, body?: object, session?: string) =>
      fetch(`${plane.url}/mcp`, {
        method,
        headers: {
          authorization: `Bearer ${bearer}`,
          accept: method === "GET" ? "text/event-stream" : "application/json, text/event-stream",
          ...(body && { "content-type": "application/json" }),
          ...(session !== undefined && {
            "mcp-session-id": session,
            "mcp-protocol-version": "2025-11-25",
          }),
        },
        ...(body && { body: JSON.stringify({ jsonrpc: "2.0", ...body }) }),
      })
    const params = {
      protocolVersion: "2025-11-25",
      capabilities: {},
      clientInfo: { name: "t", version: "1" },
    }
    const begun = await mcp("POST", token, { id: 1, method: "initialize", params })
    const session = begun.headers.get("mcp-session-id") ?? ""
    await begun.text()
    await mcp("POST", token, { method: "notifications/initialized" }, session)
    const stream = await mcp("GET", token, undefined, session)
    expect([begun.status, session !== "", stream.status]).toEqual([200, true, 200])
    const ended = stream.text().then(
      () => "whole",
      () => "cut",
    )
    await plane.rest(plane.local, "POST", "/v1/tokens:revoke", { name: "streams" })
    expect(await ended).toBe("cut")
    const ping = { id: 2, method: "ping" }
    expect((await mcp("POST", token, ping, session)).status).toBe(401)
    const other = await plane.tokenOf("follows", "admin")
    expect((await mcp("POST", other, ping, session)).status).toBe(404)
  })

  it("of another outlasts it", async () => {
    const [gone, stays] = [
      await plane.tokenOf("gone", "viewer"),
      await plane.tokenOf("stays", "viewer"),
    ]
    const first = await longWait(gone)
    const second = await longWait(stays)
    let over = false
    void second.ended.then(() => {
      over = true
    })
    await plane.rest(plane.local, "POST", "/v1/tokens:revoke", { name: "gone" })
    expect(await first.ended).toBe("cut")
    expect((await plane.rest(stays, "GET", "/v1/fleet")).status).toBe(200)
    expect(over).toBe(false)
    await plane.rest(plane.local, "POST", "/v1/tokens:revoke", { name: "stays" })
    expect(await second.ended).toBe("cut")
  })

  it("is refused when it is nearly one", async () => {
    const token = await plane.tokenOf("near", "viewer")
    for (const bearer of [
      `${token}A`,
      token.slice(0, -1),
      "bb5_",
      `bb5_${"A".repeat(43)}`,
      `Bearer ${token}`,
    ])
      expect((await plane.rest(bearer, "GET", "/v1/fleet")).status).toBe(401)
    expect((await plane.rest(token, "GET", "/v1/fleet")).status).toBe(200)
  })

  it("cannot be made for more than a year, nor for a name that is none", async () => {
    for (const [body, message] of [
      [{ name: "far", role: "viewer", expires: "400d" }, /366 days/],
      [{ name: "oidc:ann", role: "viewer" }, /name/],
      [{ name: "@operators", role: "viewer" }, /name/],
      [{ name: "ann", role: "root" }, /role/],
    ] as const) {
      const refused = await plane.rest(plane.local, "POST", "/v1/tokens", body)
      expect([refused.status, refused.json]).toEqual([400, fault("Invalid")])
      expect(refused.json.error.message).toMatch(message)
    }
  })
})

describe("the audit", () => {
  it("names each changing call and each refusal of one, by who and tool, and nothing of what was said", async () => {
    const [eve, max] = [
      await plane.tokenOf("eve", "viewer"),
      await plane.tokenOf("max", "operator"),
    ]
    const text = "the number of the safe is 4711"
    await plane.rest(max, "POST", "/v1/messages", { to: ["helper"], text, waitSeconds: 0 })
    await plane.rest(eve, "POST", "/v1/messages", { to: ["helper"], text, waitSeconds: 0 })
    await plane.rest(eve, "GET", "/v1/fleet")
    const read = async (query: string) =>
      (await plane.rest(plane.local, "GET", `/v1/audit?${query}`)).json.calls
    expect(await read("who=operator%20max")).toMatchObject([
      { who: "operator max", tool: "message_instances", on: ["helper"], verdict: "done" },
    ])
    expect(await read("who=eve&since=1h")).toMatchObject([
      { who: "viewer eve", tool: "message_instances", verdict: "Forbidden", on: ["helper"] },
    ])
    expect(await read("tool=message-instances&refused=true")).toMatchObject([{ who: "viewer eve" }])
    expect((await read("tool=create_token&limit=2")).map(({ on }: { on: string[] }) => on)).toEqual(
      [["max"], ["eve"]],
    )
    expect(await read("who=nobody")).toEqual([])
    expect(JSON.stringify(await read("limit=1000"))).not.toContain("4711")
    for (const bearer of [eve, max, plane.credentialOf("boss")])
      expect((await plane.rest(bearer, "GET", "/v1/audit")).status).toBe(403)
  })

  it("cannot be written by an agent's supervisor", async () => {
    const socket = new WebSocket(`${plane.url.replace("http", "ws")}/v1/link`, {
      headers: { authorization: `Bearer ${plane.credentialOf("helper")}` },
    })
    await new Promise((resolve, reject) => socket.once("open", resolve).once("error", reject))
    const called = { who: "operator root", tool: "stop_instances", on: ["boss"], verdict: "done" }
    const event = {
      id: "forged",
      kind: "Audit",
      message: "operator root called stop_instances: done",
      called,
      atMs: Date.now(),
    }
    const closed = new Promise<number>((resolve) => socket.once("close", resolve))
    socket.send(JSON.stringify({ type: "event", seq: 1, event }))
    expect(await closed).toBe(4002)
    expect(
      JSON.stringify((await plane.rest(plane.local, "GET", "/v1/events?limit=500")).json),
    ).not.toContain("forged")
    expect(
      (await plane.rest(plane.local, "GET", "/v1/audit?tool=stop_instances")).json.calls,
    ).toEqual([])
    expect(place).toMatch(/^2026/)
  })

  it("says of each call who made it, what it was, and on whom or what, also where it was refused or could not be read", async () => {
    const [ann, own] = [await plane.tokenOf("ann2", "operator"), plane.credentialOf("boss")]
    const post = (bearer: string, path: string, body: unknown) =>
      plane.rest(bearer, "POST", `/v1/${path}`, body)
    const last = async (tool: string) => {
      const { calls } = (await plane.rest(plane.local, "GET", `/v1/audit?limit=1&tool=${tool}`))
        .json
      const { who, on, flags = [], made = [], verdict } = calls[0]
      return { who, on, flags, made, verdict }
    }
    const spawned = await post(ann, "instances", { project: "shop" })
    const record = { who: "operator ann2", flags: [], made: [], verdict: "done" }
    expect(await last("spawn_instance")).toEqual({ ...record, on: [spawned.json.name] })
    await post(ann, "instances", { project: "shop", loop: "none" })
    expect(await last("spawn_instance")).toEqual({
      ...record,
      on: ["project shop"],
      verdict: "Invalid",
    })
    const sent = await post(own, "messages", { to: ["@operators"], text: "Done.", standing: false })
    const { mail } = sent.json.receipts[0]
    expect(await last("message_instances")).toEqual({
      ...record,
      who: "instance boss",
      on: ["@operators"],
      made: [mail],
    })
    const paused = await post(ann, "instances:pause", { names: [spawned.json.name] })
    expect(await last("pause_instances")).toEqual({
      ...record,
      on: [spawned.json.name],
      made: [paused.json.batch],
    })
    await post(ann, "instances:stop", { names: [spawned.json.name], remove: true, dryRun: true })
    expect(await last("stop_instances")).toEqual({
      ...record,
      on: [spawned.json.name],
      flags: ["dryRun", "remove"],
    })
    await post(ann, "instances:stop", {
      project: "nowhere",
      selector: "team=web",
      remove: true,
      expect: 0,
    })
    expect(await last("stop_instances")).toEqual({
      ...record,
      on: ["project nowhere", "selector team=web"],
      flags: ["remove"],
    })
    await post(ann, "instances:stop", { names: ["boss"], remove: "sure" })
    expect(await last("stop_instances")).toEqual({ ...record, on: ["boss"], verdict: "Invalid" })
    // A body that is no JSON, or too large, is a call of somebody who is known.
    const broken = await fetch(`${plane.url}/v1/instances:stop`, {
      method: "POST",
      headers: { authorization: `Bearer ${ann}`, "content-type": "application/json" },
      body: '{"names":["boss"',
    })
    expect(broken.status).toBe(400)
    expect(await last("stop_instances")).toEqual({ ...record, on: [], verdict: "Invalid" })
    await post(ann, "instances:stop", { names: ["boss"], project: "x".repeat(2_000_000) })
    expect(await last("stop_instances")).toEqual({ ...record, on: [], verdict: "TooLarge" })
    expect(
      (await plane.rest(plane.local, "GET", "/v1/audit?tool=create_token&limit=1")).json.calls,
    ).toMatchObject([{ who: expect.stringMatching(/^admin /), on: ["ann2"] }])
  })
})

describe("the rate of calls", () => {
  it("is bounded for each principal, says when to come again, and leaves others alone", async () => {
    const [busy, calm] = [plane.credentialOf("boss"), plane.credentialOf("helper")]
    const statuses = new Map<number, number>()
    let retryAfter: string | null = null
    // 200 in 10 s: also a busy machine makes them.
    for (let round = 0; round < 60 && !statuses.has(429); round++) {
      const answers = await Promise.all(
        Array.from({ length: 100 }, () => plane.rest(busy, "GET", "/v1/tokens")),
      )
      for (const { status, headers } of answers) {
        statuses.set(status, (statuses.get(status) ?? 0) + 1)
        retryAfter = headers.get("retry-after") ?? retryAfter
      }
    }
    expect([...statuses.keys()].toSorted()).toEqual([403, 429])
    expect(Number(retryAfter)).toBeGreaterThanOrEqual(1)
    expect(Number(retryAfter)).toBeLessThanOrEqual(10)
    expect((await plane.rest(calm, "GET", "/v1/fleet")).status).toBe(200)
    expect((await plane.rest(plane.local, "GET", "/v1/fleet")).status).toBe(200)
  })
})

describe("what is not offered", () => {
  it("is hidden and refused: all that changes something, and other sets of tools", async () => {
    await using reading = await startPlane(
      { boss: [] },
      { env: { BLACKBOX5_READ_ONLY: "1", BLACKBOX5_TOOLSETS: "fleet" } },
    )
    const refused = await reading.rest(reading.local, "POST", "/v1/instances:stop", {
      names: ["boss"],
    })
    expect([refused.status, refused.json]).toEqual([403, fault("Forbidden")])
    expect(refused.json.error.next).toContain("--read-only")
    expect((await reading.rest(reading.local, "GET", "/v1/tokens")).status).toBe(403)
    expect((await reading.rest(reading.local, "GET", "/v1/instances/boss")).json).toMatchObject({
      name: "boss",
    })
    const { paths } = (await reading.rest(reading.local, "GET", "/openapi.json")).json
    expect(Object.keys(paths)).toContain("/v1/fleet")
    for (const hidden of ["/v1/instances:stop", "/v1/tokens", "/v1/audit"])
      expect(Object.keys(paths)).not.toContain(hidden)
  })
})

describe("serve, where other machines reach it", () => {
  it("does not start while nobody there could say who they are; then takes people's tokens, and not the machine's", async () => {
    await using world = await makeWorld(() => {
      throw new Error("Nobody asks a model here.")
    })
    const refused = await world.cli("serve", "--host", "0.0.0.0", "--port", "0")
    expect([refused.code, refused.stdout]).toEqual([1, ""])
    expect(refused.stderr).toMatch(
      /error: Will not listen on 0\.0\.0\.0: .*\nnext: Start on loopback .*create-token.*oidc.*TLS/,
    )
    const made = await world.cli("create-token", "--name", "ann", "--role", "viewer", "--json")
    const token: unknown = JSON.parse(made.stdout).token
    const before = world.servePid()
    process.kill(before, "SIGTERM")
    await eventually(() => {
      try {
        return world.servePid() === undefined
      } catch {
        return true
      }
    }, "its end")
    const child = spawn(process.execPath, [main, "serve", "--port", "0"], {
      env: { ...world.env, BLACKBOX5_HOST: "0.0.0.0" },
      stdio: ["ignore", "pipe", "inherit"],
    })
    await once(child.stdout, "data")
    const { url, bounds } = JSON.parse(readFileSync(join(world.state, "serve.json"), "utf8"))
    expect(bounds).toEqual({ BLACKBOX5_HOST: "0.0.0.0" })
    const status = async (bearer: unknown) =>
      (await fetch(`${url}/v1/fleet`, { headers: { authorization: `Bearer ${bearer}` } })).status
    expect(await status(token)).toBe(200)
    expect(await status(readFileSync(join(world.state, "token"), "utf8").trim())).toBe(401)
    expect((await world.cli("fleet-status")).code).toBe(0)
  })
})

it("keeps the machine's token to its owner", () => {
  expect(readFileSync(join(plane.directory, "state/token"), "utf8").trim()).toBe(plane.local)
})
