import { describe, expect, it } from "vitest"
import { schemaOf } from "../../../src/mcp/schema.ts"
import { tools } from "../../../tools/index.ts"
import { expectFault } from "../../contract/expect-fault.ts"
import { admin, makeFleet, operator, viewer } from "../fleet.ts"
import { snapshot } from "./fleet-facts.ts"

describe("the catalogue", () => {
  it("has these tools, routes, verbs and hints", () => {
    const flag = (yes: boolean, letter: string): string => (yes ? letter : "-")
    const rows = tools.map(({ name, route, verb, hints: h }) => [
      name,
      route,
      verb,
      `${flag(h.readOnlyHint, "r")}${flag(h.destructiveHint, "d")}${flag(h.idempotentHint, "i")}${flag(h.openWorldHint, "o")}`,
    ])
    expect(rows).toEqual([
      ["fleet_status", "GET /v1/fleet", "outline", "r-i-"],
      ["spawn_instance", "POST /v1/instances", "spawn", "---o"],
      ["list_instances", "GET /v1/instances", "outline", "r-i-"],
      ["inspect_instance", "GET /v1/instances/{name}", "see", "r-i-"],
      ["update_instance", "PATCH /v1/instances/{name}", "operate", "--i-"],
      ["message_instances", "POST /v1/messages", "message", "----"],
      ["read_messages", "GET /v1/messages", "see", "r-i-"],
      ["wait_for_instances", "POST /v1/instances:wait", "see", "r-i-"],
      ["pause_instances", "POST /v1/instances:pause", "operate", "--i-"],
      ["resume_instances", "POST /v1/instances:resume", "operate", "--i-"],
      ["stop_instances", "POST /v1/instances:stop", "operate", "-di-"],
      ["read_logs", "GET /v1/instances/{name}/logs", "see", "r-i-"],
      ["read_events", "GET /v1/events", "see", "r-i-"],
      ["create_token", "POST /v1/tokens", "administer", "----"],
      ["list_tokens", "GET /v1/tokens", "administer", "r-i-"],
      ["revoke_token", "POST /v1/tokens:revoke", "administer", "-d--"],
      ["audit", "GET /v1/audit", "administer", "r-i-"],
      ["trees", "POST /v1/trees", "administer", "-di-"],
    ])
  })

  it("costs a model few bytes", () => {
    const bytes = (value: unknown): number => Buffer.byteLength(JSON.stringify(value))
    // No model sees the others: no MCP server has them.
    const seen = tools.filter(({ toolset }) => toolset !== "admin")
    const inputs = seen.map(({ name, description, input }) => ({
      name,
      description,
      inputSchema: schemaOf(input, "input"),
    }))
    expect(bytes(inputs)).toBeLessThanOrEqual(11_264)
    const whole = seen.map(({ output }, index) => ({
      ...inputs[index],
      outputSchema: schemaOf(output, "output"),
    }))
    expect(bytes(whole)).toBeLessThanOrEqual(20_480)
  })

  it("describes each tool in one to three sentences", () => {
    const sentences = tools.map(
      ({ name, description }) =>
        [name, description.match(/[^.]+[.](?=\s|$)/g)?.length ?? 0] as const,
    )
    expect(sentences.filter(([, count]) => count < 1 || count > 3)).toEqual([])
  })

  it.each(tools.map(({ name }) => name))(
    "%s refuses a field it does not know, and says what to do",
    async (name) => {
      const { call } = makeFleet()
      await expectFault(call(admin)(name, { nonsense: 1 }), "Invalid", /nonsense/)
    },
  )

  it.each([
    ["spawn_instance", { project: "../etc" }, /project/],
    ["spawn_instance", { name: "Shop" }, /name/],
    ["spawn_instance", { goal: "ä".repeat(8193) }, /goal.*16 KiB/],
    ["spawn_instance", { budget: { usd: -1 } }, /budget\.usd/],
    ["spawn_instance", { idempotencyKey: "42" }, /at least one of them a letter/],
    ["spawn_instance", { loop: "rm -rf" }, /no loop "rm -rf"/],
    ["spawn_instance", { ref: "main\u200b" }, /ref has an invisible character/],
    ["list_instances", { limit: 201 }, /limit/],
    ["list_instances", { phases: ["Happy"] }, /phases/],
    ["list_instances", { cursor: "x" }, /Invalid cursor/],
    ["list_instances", { names: ["a"], project: "shop" }, /not both/],
    ["list_instances", { selector: "a=b=c" }, /not a label requirement/],
    ["inspect_instance", { name: "shop-1", sections: ["secrets"] }, /sections/],
    ["pause_instances", {}, /Which agents/],
    ["pause_instances", { names: ["a"], all: true }, /not both/],
    ["resume_instances", { all: true }, /needs expect/],
    [
      "stop_instances",
      { project: "shop", remove: true },
      /needs expect: not every client can ask a person/,
    ],
    ["pause_instances", { project: "shop", until: "tomorrow" }, /neither a span nor a time/],
    [
      "pause_instances",
      { project: "shop", until: "2026-01-01T10:00" },
      /neither a span nor a time/,
    ],
    ["pause_instances", { project: "shop", until: "2025-12-31T23:59:59Z" }, /not in the future/],
    ["pause_instances", { project: "shop", until: "31d" }, /more than 30 days/],
    ["resume_instances", { names: ["a"], batch: "b-1" }, /not both/],
    ["message_instances", { to: ["shop-1"], text: "" }, /text/],
    ["message_instances", { to: ["shop-1"], text: "é".repeat(8193) }, /16 KiB/],
    ["message_instances", { to: ["@everybody"], text: "x" }, /@operators/],
    ["message_instances", { text: "x" }, /Which agents/],
    ["message_instances", { to: ["@operators"], text: "x", waitSeconds: 51 }, /waitSeconds/],
    ["read_messages", { limit: 0 }, /limit/],
    ["read_logs", { name: "shop-1", tail: 2001 }, /tail/],
    ["read_logs", { name: "shop-1", since: "2027-01-01T00:00:00Z" }, /in the future/],
  ])("%s refuses %j", async (tool, input, message) => {
    const fleet = makeFleet()
    fleet.running("shop-1")
    const before = snapshot(fleet)
    await expectFault(fleet.call(operator)(tool, input), "Invalid", message)
    expect(snapshot(fleet)).toBe(before)
  })

  it.each([
    ["inspect_instance", {}],
    ["read_logs", {}],
    ["read_messages", { of: "gone" }],
    ["pause_instances", { names: ["gone"] }],
    ["message_instances", { to: ["gone"], text: "x" }],
  ])("%s says that a name does not exist", async (tool, input) => {
    await expectFault(
      makeFleet().call(operator)(
        tool,
        "of" in input || "names" in input || "to" in input ? input : { name: "gone" },
      ),
      "NotFound",
      /gone/,
    )
  })

  it.each([
    ["spawn_instance", {}],
    ["pause_instances", { project: "nobody-there" }],
    ["resume_instances", { batch: "b-none" }],
    ["stop_instances", { all: true, expect: 0 }],
    ["message_instances", { to: ["@operators"], text: "x" }],
  ])("%s is nothing for a viewer, also where it would change nothing", async (tool, input) => {
    await expectFault(
      makeFleet().call(viewer)(tool, input),
      "Forbidden",
      /Viewers cannot do this; an operator can/,
    )
  })
})
