import { once } from "node:events"
import { connect } from "node:net"
import { describe, expect, it } from "vitest"
import { createMcpHttp } from "../../src/mcp/http.ts"
import { operator } from "../unit/fleet.ts"
import {
  all,
  bounds,
  eventsOf,
  fleet,
  headers,
  hung,
  initialize,
  mcp,
  message,
  modern,
  post,
  session,
  spawn,
  url,
} from "./mcp-http-server.ts"
import { eventually } from "./world.ts"

describe("sessions", () => {
  it("belong to one principal; ids are long; DELETE ends them", async () => {
    const mine = await session()
    expect(mine["mcp-session-id"]).toMatch(/^[\w-]{32}$/)
    expect((await post(message("ping"), mine)).status).toBe(200)
    const stranger = await post(message("ping"), { ...mine, authorization: "Bearer eve" })
    expect(stranger.status).toBe(404)
    expect(await stranger.json()).toMatchObject({ id: 1, error: { code: -32001 } })
    const get = await fetch(url, { headers: { ...headers, ...mine, authorization: "Bearer eve" } })
    expect(get.status).toBe(404)
    expect(
      (
        await fetch(url, {
          method: "DELETE",
          headers: { ...headers, ...mine, authorization: "Bearer eve" },
        })
      ).status,
    ).toBe(404)
    expect((await fetch(url, { method: "DELETE", headers: { ...headers, ...mine } })).status).toBe(
      200,
    )
    expect((await post(message("ping"), mine)).status).toBe(404)
    expect(mcp.sessions()).toBe(0)
    expect((await post(message("ping"))).status).toBe(400)
  })

  it("that are gone are begun anew by an initialize that still names them", async () => {
    const mine = await session()
    await fetch(url, { method: "DELETE", headers: { ...headers, ...mine } })
    const gone = { "mcp-session-id": mine["mcp-session-id"] ?? "" }
    const stranger = await session({ authorization: "Bearer eve" })
    let id = ""
    for (const named of [
      gone,
      { "mcp-session-id": "never-was" },
      { "mcp-session-id": stranger["mcp-session-id"] ?? "" },
    ]) {
      const response = await post(initialize, named)
      await response.text()
      id = response.headers.get("mcp-session-id") ?? ""
      expect({ status: response.status, isNew: id !== named["mcp-session-id"] }).toEqual({
        status: 200,
        isNew: true,
      })
      expect(
        (
          await post(message("ping"), {
            "mcp-session-id": id,
            "mcp-protocol-version": "2025-11-25",
          })
        ).status,
      ).toBe(200)
    }
    expect((await post(message("ping"), stranger)).status).toBe(200)
    // A session that is there is not begun twice.
    expect((await post(initialize, { "mcp-session-id": id })).status).toBe(400)
  })

  it("are bounded for each principal and in all: who is idle longest goes first, who is busy stays", async () => {
    const first = await session()
    const busy = await session()
    const waiting = post(message("tools/call", { name: "hang", arguments: {} }), busy)
    await eventually(() => hung.begun === 1, "it hangs")
    const third = await session()
    await session()
    expect((await post(message("ping"), first)).status).toBe(404)
    await session()
    expect((await post(message("ping"), third)).status).toBe(404)
    expect(mcp.sessions()).toBe(3)
    const eve = await session({ authorization: "Bearer eve" })
    expect((await post(message("ping"), eve)).status).toBe(200)
    expect((await post(message("ping"), busy)).status).toBe(200)
    await (await waiting).body?.cancel()
  })

  it("that nobody uses are over after a while", async () => {
    await mcp.close()
    const sessions = createMcpHttp({
      ...{ tools: all, invokeAs: fleet.asCaller, version: "0", nowMs: () => fleet.clock.nowMs() },
      bounds: { ...bounds, idleMs: 20 },
    })
    const request = new Request(url, { method: "POST", headers, body: "{}" })
    expect((await sessions.handle(request, operator, initialize)).status).toBe(200)
    expect(sessions.sessions()).toBe(1)
    fleet.clock.advance(19)
    await new Promise((resolve) => setTimeout(resolve, 60))
    expect(sessions.sessions()).toBe(1)
    fleet.clock.advance(1)
    await eventually(() => sessions.sessions() === 0, "it is over")
    await sessions.close()
  })

  it("take so many requests at once, and say so", async () => {
    const mine = await session()
    const waiting = await Promise.all(
      [1, 2, 3, 4].map((id) => post(message("tools/call", { name: "hang" }, id), mine)),
    )
    const fifth = await post(message("ping", {}, 5), mine)
    expect(fifth.status).toBe(429)
    expect(await fifth.json()).toMatchObject({
      id: 5,
      error: { message: expect.stringMatching(/4 unanswered requests.*Next: Wait/) },
    })
    for (const one of waiting) await one.body?.cancel()
    await eventually(() => hung.ended === 4, "they are cancelled")
    expect((await post(message("ping", {}, 6), mine)).status).toBe(200)
  })
})

describe("streams", () => {
  it("that are cut off resume where they were, with what came meanwhile", async () => {
    const mine = await session()
    const cut = new AbortController()
    let waits = false
    fleet.memory.hooks.waiting = () => {
      waits = true
    }
    const call = message(
      "tools/call",
      { name: "read_events", arguments: { after: "$", waitSeconds: 20 } },
      "w",
    )
    const response = await fetch(url, {
      method: "POST",
      headers: { ...headers, ...mine },
      body: JSON.stringify(call),
      signal: cut.signal,
    })
    const events = eventsOf(response)
    const first = await events.next()
    await eventually(() => waits, "it waits")
    cut.abort()
    await expect(events.next()).rejects.toThrow()
    expect(first.value?.id).toBeTruthy()
    const resumed = await fetch(url, {
      headers: { ...headers, ...mine, "last-event-id": first.value?.id ?? "" },
    })
    expect(resumed.status).toBe(200)
    await spawn("new")
    for await (const { data } of eventsOf(resumed)) {
      expect(data).toMatchObject({
        id: "w",
        result: { structuredContent: { events: [{ name: "new" }] } },
      })
      break
    }
    const unknown = await fetch(url, {
      headers: { ...headers, ...mine, "last-event-id": "nowhere.9999" },
    })
    expect(unknown.status).toBe(400)
    expect(await unknown.json()).toMatchObject({
      error: { message: expect.stringMatching(/can no longer be resumed/) },
    })
  })

  it("that nobody comes back for cancel their call; DELETE and cancellation do so at once", async () => {
    const mine = await session()
    const call = (id: number) => post(message("tools/call", { name: "hang" }, id), mine)
    const gone = await call(1)
    await eventually(() => hung.begun === 1, "it hangs")
    await gone.body?.cancel()
    await eventually(() => hung.ended === 1, "it is cancelled")
    const second = await call(2)
    await eventually(() => hung.begun === 2, "it hangs")
    await post(
      { jsonrpc: "2.0", method: "notifications/cancelled", params: { requestId: 2 } },
      mine,
    )
    await eventually(() => hung.ended === 2, "it is cancelled")
    expect(await second.text()).toMatch(/cancelled/)
    await call(3)
    await eventually(() => hung.begun === 3, "it hangs")
    await fetch(url, { method: "DELETE", headers: { ...headers, ...mine } })
    await eventually(() => hung.ended === 3, "it is cancelled")
  })

  it("of the later era cancel with the socket", async () => {
    const client = await modern({ pin: "2026-07-28" })
    const stop = new AbortController()
    const call = client.callTool({ name: "hang", arguments: {} }, { signal: stop.signal })
    await eventually(() => hung.begun === 1, "it hangs")
    stop.abort()
    await expect(call).rejects.toThrow()
    await eventually(() => hung.ended === 1, "it is cancelled")
  })

  it("whose reader stands still are cut, and nobody else waits for it", async () => {
    const mine = await session()
    const body = JSON.stringify(
      message("tools/call", { name: "bulk", arguments: {}, _meta: { progressToken: 1 } }),
    )
    const socket = connect({ host: "127.0.0.1", port: Number(url.port) })
    const lines = Object.entries({
      ...headers,
      ...mine,
      host: url.host,
      "content-length": String(body.length),
    })
    socket.write(
      `POST /mcp HTTP/1.1\r\n${lines.map(([name, value]) => `${name}: ${value}\r\n`).join("")}\r\n${body}`,
    )
    socket.pause()
    socket.on("error", () => {})
    const beganMs = performance.now()
    expect((await post(message("ping", {}, "p"), mine)).status).toBe(200)
    expect(performance.now() - beganMs).toBeLessThan(5000)
    socket.resume()
    let bytes = 0
    socket.on("data", (chunk) => {
      bytes += chunk.length
    })
    await once(socket, "close")
    // 4 MB were said; what the system's own buffers hold and the bound is all that came.
    expect(bytes).toBeLessThan(4_000_000)
  })

  it("are opened anew by a client whose old one broke unseen", async () => {
    const mine = await session()
    const one = await fetch(url, { headers: { ...headers, ...mine } })
    const two = await fetch(url, { headers: { ...headers, ...mine } })
    expect([one.status, two.status]).toEqual([200, 200])
    expect(await one.text()).toBe("")
    await two.body?.cancel()
  })
})
