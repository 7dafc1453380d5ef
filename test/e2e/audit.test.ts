/** Who reads the audit, through which face, and how it leaves the machine. */
import { spawn } from "node:child_process"
import { once } from "node:events"
import { Client } from "@modelcontextprotocol/sdk/client/index.js"
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { type Plane, startPlane } from "./plane.ts"
import { main } from "./world.ts"

let plane: Plane
beforeAll(async () => {
  plane = await startPlane({ boss: [], helper: ["boss"] })
})
afterAll(() => plane[Symbol.asyncDispose]())

describe("the audit", () => {
  it("is for admins alone: neither events nor MCP show any of it", async () => {
    const [looks, rules] = [
      await plane.tokenOf("looks", "viewer"),
      await plane.tokenOf("rules", "admin"),
    ]
    await plane.rest(looks, "POST", "/v1/messages", { to: ["helper"], text: "Hi.", waitSeconds: 0 })
    for (const bearer of [looks, rules]) {
      const events = await plane.rest(bearer, "GET", "/v1/events?limit=500")
      expect(events.status).toBe(200)
      expect(JSON.stringify(events.json)).not.toMatch(/message_instances|create_token|viewer looks/)
      const asked = await plane.rest(bearer, "GET", "/v1/events?kinds=Audit")
      expect([asked.status, asked.json]).toEqual([
        400,
        { error: expect.objectContaining({ code: "Invalid" }) },
      ])
      const client = new Client({ name: "t", version: "1" })
      const requestInit = { headers: { authorization: `Bearer ${bearer}` } }
      const transport = new StreamableHTTPClientTransport(new URL(`${plane.url}/mcp`), {
        requestInit,
      })
      // Its sessionId may be undefined, which exact optional types refuse.
      await client.connect(transport as Parameters<Client["connect"]>[0])
      const [{ tools }, { resources }, { prompts }] = [
        await client.listTools(),
        await client.listResources(),
        await client.listPrompts(),
      ]
      expect(JSON.stringify([tools.map(({ name }) => name), resources, prompts])).not.toMatch(
        /audit/i,
      )
      const read = await Promise.all(resources.map(({ uri }) => client.readResource({ uri })))
      const got = await Promise.all(
        prompts
          .filter(({ arguments: wanted = [] }) => !wanted.some(({ required }) => required))
          .map(({ name }) => client.getPrompt({ name })),
      )
      expect(read.length).toBeGreaterThan(1)
      expect(JSON.stringify([read, got])).not.toMatch(/viewer looks|create_token/)
      const called = await client
        .callTool({ name: "audit", arguments: {} })
        .catch((error: unknown) => ({ isError: true, error }))
      expect(called.isError).toBe(true)
      await client.close()
    }
  })

  it("is exported as JSON lines, oldest first, and goes on behind the last one", async () => {
    const run = async (...flags: string[]) => {
      const child = spawn(process.execPath, [main, "audit", "--json-lines", ...flags], {
        env: {
          ...process.env,
          ...plane.env,
          BLACKBOX5_URL: plane.url,
          BLACKBOX5_TOKEN: plane.local,
        },
        stdio: ["ignore", "pipe", "inherit"],
      })
      const closed = once(child, "close")
      let text = ""
      for await (const chunk of child.stdout.setEncoding("utf8")) text += chunk
      return { code: (await closed)[0], lines: text.split("\n").slice(0, -1) }
    }
    const names = Array.from({ length: 1100 }, (_, count) => `nobody-${count}`)
    for (let count = 0; count < names.length; count += 50)
      await Promise.all(
        names
          .slice(count, count + 50)
          .map((name) => plane.rest(plane.local, "POST", "/v1/tokens:revoke", { name })),
      )
    const { code, lines } = await run()
    const records = lines.map((line) => JSON.parse(line))
    const revoked = records.filter(
      ({ tool, on }) => tool === "revoke_token" && `${on}`.startsWith("nobody-"),
    )
    expect([code, revoked.map(({ on }) => on[0]).toSorted()]).toEqual([0, names.toSorted()])
    const cursors = records.map(({ cursor: one }) => Number(one))
    expect(cursors).toEqual(cursors.toSorted((a, b) => a - b))
    expect(revoked.find(({ on }) => on[0] === "nobody-0")).toMatchObject({
      verdict: "NotFound",
      untrusted: expect.stringContaining("no valid token"),
    })
    expect((await run("--limit", "3")).lines).toEqual(lines.slice(0, 3))
    const { cursor } = records.at(-1)
    await plane.rest(plane.local, "POST", "/v1/tokens:revoke", { name: "late" })
    const later = (await run("--after", cursor)).lines.map((line) => JSON.parse(line))
    expect(later).toMatchObject([{ on: ["late"] }])
  }, 60_000)
})
