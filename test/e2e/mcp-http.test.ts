import {
  ElicitRequestSchema,
  ResourceListChangedNotificationSchema,
  ResourceUpdatedNotificationSchema,
} from "@modelcontextprotocol/sdk/types.js"
import { describe, expect, it } from "vitest"
import { readingMs } from "../../src/mcp/confirmation.ts"
import { agent, operator } from "../unit/fleet.ts"
import {
  connected,
  fleet,
  headers,
  hung,
  initialize,
  mcp,
  message,
  modern,
  people,
  post,
  shown,
  spawn,
  url,
} from "./mcp-http-server.ts"
import { eventually } from "./world.ts"

describe("clients of every generation", () => {
  it.each([
    ["sdk 1.x", async () => (await connected()).client],
    ["client 2.x", () => modern(undefined)],
    ["client 2.x, auto", () => modern("auto")],
    ["client 2.x, pinned to 2026-07-28", () => modern({ pin: "2026-07-28" })],
  ] as const)("%s lists, calls, reads, completes and is prompted", async (_, open) => {
    fleet.running("shop-1")
    const client = await open()
    const { tools: listed } = await client.listTools()
    expect(listed.map(({ name }) => name)).toEqual(shown.map(({ name }) => name))
    const result = await client.callTool({ name: "list_instances", arguments: {} })
    expect(result.structuredContent).toMatchObject({ total: 1, instances: [{ name: "shop-1" }] })
    expect(
      await client.callTool({ name: "inspect_instance", arguments: { name: "nobody" } }),
    ).toMatchObject({
      isError: true,
      content: [{ text: expect.stringContaining("no instance nobody") }],
    })
    await expect(client.callTool({ name: "nothing", arguments: {} })).rejects.toMatchObject({
      code: -32602,
    })
    const { resources } = await client.listResources()
    expect(resources.map(({ uri }) => uri)).toEqual(["ralf://fleet", "ralf://instances/shop-1"])
    for (const uri of [
      "ralf://fleet",
      "ralf://instances/shop-1",
      "ralf://instances/shop-1/logs",
      "ralf://instances/shop-1/events",
    ]) {
      const { contents } = await client.readResource({ uri })
      expect(contents).toMatchObject([
        { uri, mimeType: "application/json", text: expect.stringMatching(/^\{.*\}$/s) },
      ])
    }
    await expect(client.readResource({ uri: "ralf://instances/nobody" })).rejects.toThrow(
      /no instance nobody/,
    )
    await expect(client.readResource({ uri: "file:///etc/passwd" })).rejects.toThrow(/not found/i)
    const { resourceTemplates } = await client.listResourceTemplates()
    expect(resourceTemplates).toHaveLength(3)
    for (const { uriTemplate } of resourceTemplates)
      expect(
        await client.complete({
          ref: { type: "ref/resource", uri: uriTemplate },
          argument: { name: "name", value: "sh" },
        }),
      ).toMatchObject({ completion: { values: ["shop-1"], total: 1, hasMore: false } })
    const { prompts } = await client.listPrompts()
    expect(prompts.map(({ name }) => name)).toEqual([
      "fleet_report",
      "triage",
      "hand_over_issue",
      "stand_up",
    ])
    const prompt = await client.getPrompt({
      name: "hand_over_issue",
      arguments: { issue: "#7", project: "shop" },
    })
    expect(prompt.messages).toMatchObject([
      { role: "user", content: { type: "text", text: expect.stringContaining("#7") } },
      { role: "user", content: { type: "resource", resource: { uri: "ralf://fleet" } } },
    ])
    await expect(
      client.getPrompt({ name: "hand_over_issue", arguments: { issue: "#7" } }),
    ).rejects.toThrow(/project/)
  })

  it("sees what its principal sees, and is refused what it may not do", async () => {
    const one = fleet.running("mine")
    fleet.running("strange")
    people["Bearer mine"] = agent(one)
    for (const client of [
      (await connected("mine")).client,
      await modern({ pin: "2026-07-28" }, "mine"),
    ]) {
      expect((await client.listResources()).resources.map(({ uri }) => uri)).toEqual([
        "ralf://fleet",
        "ralf://instances/mine",
      ])
      await expect(client.readResource({ uri: "ralf://instances/strange" })).rejects.toThrow(
        /no instance strange/,
      )
      expect(
        await client.complete({
          ref: { type: "ref/resource", uri: "ralf://instances/{name}" },
          argument: { name: "name", value: "" },
        }),
      ).toMatchObject({ completion: { values: ["mine"] } })
    }
    const { client } = await connected("eve")
    expect(
      await client.callTool({ name: "pause_instances", arguments: { names: ["mine"] } }),
    ).toMatchObject({
      isError: true,
      content: [{ text: expect.stringContaining("Viewers cannot do this") }],
    })
  })
})

describe("changes", () => {
  it("are told to those who asked, in both eras, and only what they may see", async () => {
    const one = fleet.running("mine")
    people["Bearer mine"] = agent(one)
    const heard = new Map<string, string[]>()
    const hear = (who: string, what: string): void =>
      void heard.set(who, [...(heard.get(who) ?? []), what])
    for (const who of ["ann", "mine"]) {
      const { client } = await connected(who)
      client.setNotificationHandler(ResourceUpdatedNotificationSchema, ({ params }) =>
        hear(who, params.uri),
      )
      client.setNotificationHandler(ResourceListChangedNotificationSchema, () =>
        hear(who, "listed"),
      )
      await client.listResources()
      await client.subscribeResource({ uri: "ralf://fleet" })
      await client.subscribeResource({ uri: "ralf://instances/mine" })
    }
    const later = await modern({ pin: "2026-07-28" })
    later.setNotificationHandler("notifications/resources/updated", ({ params }) =>
      hear("later", params.uri),
    )
    later.setNotificationHandler("notifications/resources/list_changed", () =>
      hear("later", "listed"),
    )
    const listening = await later.listen({
      resourcesListChanged: true,
      resourceSubscriptions: ["ralf://instances/mine"],
    })
    await spawn("other")
    await fleet.call(operator)("pause_instances", { names: ["mine"] })
    await eventually(
      () =>
        heard.get("ann")?.includes("ralf://instances/mine") && heard.get("ann")?.includes("listed"),
      "told ann",
    )
    await eventually(
      () =>
        heard.get("later")?.includes("ralf://instances/mine") &&
        heard.get("later")?.includes("listed"),
      "later",
    )
    await eventually(
      () => heard.get("mine")?.includes("ralf://instances/mine"),
      "told the instance",
    )
    // The birth of a stranger is no news to it.
    expect(heard.get("mine")).not.toContain("listed")
    expect(heard.get("later")).not.toContain("ralf://fleet")
    await listening.close()
  })

  it("are not subscribed to where there is nothing to see", async () => {
    const { client } = await connected()
    await expect(client.subscribeResource({ uri: "ralf://instances/nobody" })).rejects.toThrow(
      /no instance nobody/,
    )
  })
})

describe("what cannot be taken back", () => {
  const form = { elicitation: { form: {} } }
  const remove = { name: "stop_instances", arguments: { all: true, expect: 1, remove: true } }

  /** Clients of both eras, whose answers come after `ms`. */
  const answering = async (
    action: "accept" | "decline" | "cancel",
    asked: string[],
    ms: number,
  ) => {
    const answer = async ({ params }: { params: { message: string } }) => {
      asked.push(params.message)
      await new Promise((resolve) => setTimeout(resolve, ms))
      return { action, content: {} }
    }
    const { client } = await connected("ann", form)
    client.setRequestHandler(ElicitRequestSchema, answer)
    const later = await modern({ pin: "2026-07-28" }, "ann", form)
    later.setRequestHandler("elicitation/create", answer)
    return [client, later]
  }

  it.each(["accept", "decline", "cancel"] as const)(
    "is asked for, and %s decides",
    async (action) => {
      fleet.running("shop-1")
      const asked: string[] = []
      // A person takes time to read it.
      const clients = await answering(action, asked, readingMs + 50)
      for (const one of clients) {
        const result = await one.callTool(remove)
        if (action === "accept") expect(result.isError).toBeUndefined()
        else {
          expect(result).toMatchObject({
            isError: true,
            content: [{ text: expect.stringMatching(/Nothing was changed/) }],
          })
          expect(fleet.byName.get("shop-1")?.deletedAtMs).toBeUndefined()
        }
      }
      if (action === "accept") expect(fleet.byName.get("shop-1")?.deletedAtMs).toBeDefined()
      expect(asked).toEqual(
        Array(2).fill(expect.stringMatching(/Remove all instances.*\(1\).*for good/)),
      )
    },
  )

  it("is left to the count where a client cancels faster than anybody reads, twice", async () => {
    fleet.running("shop-1")
    const asked: string[] = []
    for (const one of await answering("cancel", asked, 0)) {
      const uncounted = await one.callTool({
        name: "stop_instances",
        arguments: { names: ["shop-1"], remove: true },
      })
      expect(uncounted).toMatchObject({
        isError: true,
        content: [
          {
            text: expect.stringMatching(
              /cannot ask a person to confirm\. Nothing was changed\..*as expect/,
            ),
          },
        ],
      })
      const wrong = await one.callTool({
        name: "stop_instances",
        arguments: { all: true, expect: 2 },
      })
      expect(wrong).toMatchObject({
        isError: true,
        content: [{ text: expect.stringMatching(/not 2/) }],
      })
      expect(fleet.specOf("shop-1")?.state).toBe("Running")
      expect(
        (await one.callTool({ name: "stop_instances", arguments: { all: true, expect: 1 } }))
          .isError,
      ).toBeUndefined()
      expect(fleet.specOf("shop-1")?.state).toBe("Stopped")
      await fleet.call(operator)("resume_instances", { names: ["shop-1"] })
    }
    expect(asked).toHaveLength(12)
  })

  it("is left to the count where a client that can ask does not know how", async () => {
    fleet.running("shop-1")
    // Without a handler it answers that it knows no such method.
    const { client } = await connected("ann", form)
    expect((await client.callTool(remove)).isError).toBeUndefined()
    expect(fleet.byName.get("shop-1")?.deletedAtMs).toBeDefined()
  })

  it("is not asked for a dry run, a wrong call or one agent's stop; without a form the count guards", async () => {
    fleet.running("shop-1")
    const { client } = await connected("ann", form)
    client.setRequestHandler(ElicitRequestSchema, () => {
      throw new Error("asked")
    })
    expect(
      (await client.callTool({ name: "stop_instances", arguments: { all: true, dryRun: true } }))
        .isError,
    ).toBeUndefined()
    expect((await client.callTool({ name: "stop_instances", arguments: { all: 1 } })).isError).toBe(
      true,
    )
    expect(
      (await client.callTool({ name: "stop_instances", arguments: { names: ["shop-1"] } })).isError,
    ).toBeUndefined()
    // A form that breaks confirms nothing.
    expect((await client.callTool(remove)).isError).toBe(true)
    const { client: plain } = await connected()
    expect(
      (await plain.callTool({ name: "stop_instances", arguments: { all: true, remove: true } }))
        .isError,
    ).toBe(true)
    expect(fleet.byName.get("shop-1")?.deletedAtMs).toBeUndefined()
    expect((await plain.callTool(remove)).isError).toBeUndefined()
  })
})

describe("a call that hangs", () => {
  it("delays nobody", async () => {
    const { client: hanging } = await connected("eve")
    for (let one = 0; one < 4; one++)
      hanging.callTool({ name: "hang", arguments: {} }).catch(() => {})
    const { client } = await connected()
    await eventually(() => hung.begun === 4, "they hang")
    const took: number[] = []
    for (let round = 0; round < 50; round++) {
      const beganMs = performance.now()
      await client.ping()
      took.push(performance.now() - beganMs)
    }
    // The median: a busy machine may take a while with one of them, a call that waits for another
    // would with all.
    expect(took.toSorted((a, b) => a - b)[25]).toBeLessThan(100)
  })
})

describe("what may not come in", () => {
  it.each([
    ["no credential", { authorization: "" }, 401],
    ["a wrong credential", { authorization: "Bearer mallory" }, 401],
    ["another host", { host: "evil.example" }, 403],
    ["a page of another origin", { origin: "https://evil.example" }, 403],
  ])("%s", async (_, more, status) => {
    // fetch lets nobody say another host.
    const { request } = process.getBuiltinModule("node:http")
    const response = await new Promise<number | undefined>((resolve, reject) => {
      const asked = request(url, { method: "POST", headers: { ...headers, ...more } }, (answer) => {
        answer.resume()
        resolve(answer.statusCode)
      })
      asked.on("error", reject)
      asked.end(JSON.stringify(initialize))
    })
    expect(response).toBe(status)
  })

  it("bodies that are none, or too large: as JSON-RPC, with what to do", async () => {
    const broken = await post("{broken")
    expect(broken.status).toBe(400)
    expect(await broken.json()).toMatchObject({
      jsonrpc: "2.0",
      id: null,
      error: { code: -32700, message: expect.stringMatching(/Next: /) },
    })
    const large = await post({ ...initialize, more: "x".repeat(1_100_000) })
    expect(large.status).toBe(413)
    expect(await large.json()).toMatchObject({
      error: { message: expect.stringMatching(/larger than 1048576 bytes.*Next: /) },
    })
    expect((await post("{}", { "content-type": "text/plain" })).status).toBe(415)
    expect((await fetch(url, { method: "PUT", headers, body: "{}" })).status).toBe(405)
    expect((await post([])).status).toBe(400)
    expect((await post(message("initialize", {}))).status).toBe(400)
    expect(mcp.sessions()).toBe(0)
  })
})
