import fc from "fast-check"
import { describe, expect, it } from "vitest"
import { asFault } from "../../src/core/faults.ts"
import { nameSchema } from "../../src/core/instance.ts"
import { namingOfChild } from "../../src/core/instance-names.ts"
import { expectFault } from "../contract/expect-fault.ts"
import { uid } from "../contract/harness.ts"
import { agent, makeFleet, operator, viewer } from "./fleet.ts"

/**
 * What is spawned by an agent is called below it, and so tells it nothing about the names of
 * strangers.
 */

const fox = { name: "fox", uid: uid("3f9b2a10-1234-4000-8000-000000000001") }
const longest = { name: `l${"o".repeat(51)}g`, uid: fox.uid }
const nobody = { store: { replica: { get: () => undefined } } as never } // nothing else is used
const wantedOf = (parent: typeof fox, name?: string, idempotencyKey?: string) =>
  namingOfChild(nobody, { name, idempotencyKey }, parent).wanted

describe("a child's name", () => {
  it.each<[asked: string, named: string]>([
    ["tester", "fox--tester"],
    ["fox--tester", "fox--tester"],
    ["fox-tester", "fox--tester"],
    ["fox", "fox--fox"],
    ["hen", "fox--hen"],
    ["hen--tester", "fox--hen--tester"],
    ["fox--tester--two", "fox--tester--two"],
    ["x".repeat(48), `fox--${"x".repeat(48)}`],
  ])("asked for as %s is %s", (asked, named) => {
    expect(wantedOf(fox, asked)).toBe(named)
  })

  it("is numbered below its parent where none is asked for", async () => {
    expect(await namingOfChild(nobody, {}, fox).free()).toBe("fox--1")
    expect(await namingOfChild(nobody, { name: "tester" }, fox).free()).toBe("fox--tester-1")
    expect(await namingOfChild(nobody, {}, longest).free()).toBe(`l${"o".repeat(36)}-3f9b2a10--1`)
  })

  it("ends in the key where one is given", () => {
    expect(wantedOf(fox, undefined, "step-2")).toBe("fox--step-2")
    expect(wantedOf(fox, "tester", "step-2")).toBe("fox--tester-step-2")
  })

  it("is an error where its own part is too long for any parent's, and says how long it may be", () => {
    expect(() => wantedOf(longest, "x".repeat(42))).toThrow(/is too long for the rest/)
    expect(() => wantedOf(fox, "x".repeat(49))).toThrow(/is too long for the rest/)
    expect(wantedOf(longest, "x".repeat(41))).toBe(`l-3f9b2a10--${"x".repeat(41)}`)
  })

  it("is valid, is found again by its full name, and is no person's, whatever parent and wish", async () => {
    const label = fc.stringMatching(/^[a-z0-9]([-a-z0-9]{0,51}[a-z0-9])?$/)
    const key = fc.option(fc.stringMatching(/^[a-z][-a-z0-9]{0,34}[a-z0-9]$/), { nil: undefined })
    await fc.assert(
      fc.asyncProperty(
        label,
        fc.option(label, { nil: undefined }),
        key,
        async (name, asked, idempotencyKey) => {
          const parent = { name, uid: fox.uid }
          let wanted: string | undefined
          try {
            wanted = wantedOf(parent, asked, idempotencyKey)
          } catch (error) {
            expect(asFault(error).code).toBe("Invalid")
            expect((asked?.length ?? 0) > 41).toBe(true)
            return
          }
          const named = wanted ?? (await namingOfChild(nobody, {}, parent).free())
          expect(nameSchema.safeParse(named).success).toBe(true)
          expect(named).toContain("--")
          expect(wantedOf(parent, named)).toBe(named)
        },
      ),
      { numRuns: 2000 },
    )
  })
})

describe("a person", () => {
  it("gives no name that a child could have", async () => {
    const { call, byName } = makeFleet()
    for (const more of [
      { name: "fox--tester" },
      { idempotencyKey: "a--b" },
      { name: "a--b", dryRun: true },
    ])
      await expectFault(call(operator)("spawn_instance", more), "Invalid", /two hyphens/)
    expect(byName.size).toBe(0)
  })
})

describe("what an agent is told", () => {
  const pool = [
    "hen",
    "tester",
    "fox",
    "fox-1",
    "fox-tester",
    "shop",
    "shop-1",
    "agent",
    "hen--tester",
    "a-1",
  ]
  const projects = ["shop", "blog", "secret"]
  /** The fox alone, or among strangers that have all the names that it will ask for. */
  function world(isCrowded: boolean) {
    const fleet = makeFleet()
    fleet.world.projects = isCrowded ? projects : ["shop"]
    if (isCrowded)
      fleet.world.roots = new Map([
        ["/a", projects],
        ["/b", projects],
      ])
    for (const name of pool.filter((one) => one !== "fox")) {
      if (isCrowded) fleet.add(name, { project: "secret", state: "Stopped" })
      else fleet.clock.advance(1000)
    }
    const parent = fleet.running("fox", { project: "shop", budget: { usd: 100 } })
    fleet.add("fox--kid", { lineage: [parent.uid], state: "Stopped" })
    return { fleet, parent, call: fleet.call(agent(parent)) }
  }
  const name = fc.constantFrom(...pool)
  const calls = fc.oneof(
    fc.record({
      tool: fc.constant("spawn_instance"),
      input: fc.record(
        {
          name,
          idempotencyKey: fc.constantFrom("one", "tester"),
          project: fc.constantFrom("shop", "blog", "secret", "none"),
          codeRoot: fc.constantFrom("/a", "/none"),
          dryRun: fc.boolean(),
          budget: fc.constant({ usd: 1 }),
        },
        { requiredKeys: ["budget"] },
      ),
    }),
    fc.record({
      tool: fc.constantFrom("inspect_instance", "read_logs", "update_instance", "read_events"),
      input: fc.record({ name }),
    }),
    fc.record({
      tool: fc.constantFrom(
        "pause_instances",
        "resume_instances",
        "stop_instances",
        "wait_for_instances",
        "list_instances",
      ),
      input: fc.record({ names: fc.tuple(name) }),
    }),
    fc.record({
      tool: fc.constantFrom("fleet_status", "list_instances", "pause_instances"),
      input: fc.record({ project: fc.constantFrom(...projects, "none") }),
    }),
    fc.record({ tool: fc.constant("list_instances"), input: fc.record({ parent: name }) }),
    fc.record({
      tool: fc.constant("message_instances"),
      input: fc.record({ to: fc.tuple(name), text: fc.constant("x") }),
    }),
    fc.record({ tool: fc.constant("read_messages"), input: fc.record({ of: name }) }),
    fc.record({
      tool: fc.constantFrom("fleet_status", "list_instances", "read_events", "read_messages"),
      input: fc.constant({}),
    }),
  )

  it("is the same whether or not strangers have the names and projects that it asks for, in a dry run and in earnest", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(calls, { minLength: 1, maxLength: 6 }), async (asked) => {
        const answers = await Promise.all(
          [world(false), world(true)].map(async ({ call }) => {
            const told: unknown[] = []
            for (const { tool, input } of asked)
              told.push(
                await call(tool, input).then(
                  ({ uid: _, ...answer }) => answer,
                  (error) => [asFault(error).code, asFault(error).message, asFault(error).next],
                ),
              )
            return told
          }),
        )
        expect(answers[1]).toEqual(answers[0])
      }),
      { numRuns: 300 },
    )
  })

  it("names its own project alone, and no fault of a file that people wrote", async () => {
    const { fleet, call } = world(true)
    fleet.world.limits = {
      ...fleet.world.limits,
      refused: "mcp-servers.yaml, line 3: projects: secret",
    }
    expect(await call("fleet_status")).toMatchObject({
      projects: [{ name: "shop", instances: 2 }],
      warnings: [],
    })
    expect(JSON.stringify(await fleet.call(viewer)("fleet_status"))).toContain("secret")
  })

  it("of an answer is whether it has one to its own question, and not to another's", async () => {
    const { fleet, call, parent } = world(true)
    fleet.running("fox--two", { lineage: [parent.uid] })
    const hen = fleet.running("hen-2")
    const ask = async (of: typeof hen): Promise<string> =>
      (await fleet.call(agent(of))("message_instances", { to: ["@operators"], text: "Which?" }))
        .receipts[0].mail
    const mail = await ask(hen)
    await fleet.call(operator)("message_instances", { to: ["hen-2"], replyTo: mail, text: "That." })
    const wait = (id: string) =>
      call("wait_for_instances", {
        names: ["fox--two"],
        until: "answer",
        mail: id,
        timeoutSeconds: 0,
      })
    expect(await wait(mail)).toEqual(await wait("m-none"))
  })
})
