import { describe, expect, it } from "vitest"
import { z } from "zod"
import { decode, inputFields, readInput } from "../../src/core/decode.ts"

const fields = inputFields(
  z.strictObject({
    name: z.string().describe("which one"),
    phases: z.array(z.enum(["Running", "Paused"])).optional(),
    limit: z.int().default(20),
    all: z.boolean().optional(),
    mode: z.enum(["once", "continuous"]).optional(),
    budget: z.strictObject({ usd: z.number().optional(), tokens: z.int().optional() }).optional(),
    labels: z.record(z.string(), z.string()).optional(),
    schedule: z.strictObject({ cron: z.string(), minutes: z.int() }).nullable().optional(),
    orders: z.array(z.strictObject({ text: z.string() })).optional(),
  }),
)
const read = (...flat: [string, string[]][]) => decode(fields, new Map(flat))

describe("fields of an input", () => {
  it("have kind, need, description and choices, in their order", () => {
    const number = (name: string, required: boolean) => ({ name, kind: "number", required })
    expect(fields).toEqual([
      { name: "name", kind: "string", required: true, description: "which one" },
      { name: "phases", kind: "list", required: false, choices: ["Running", "Paused"] },
      { name: "limit", kind: "number", required: false, otherwise: 20 },
      { name: "all", kind: "boolean", required: false },
      { name: "mode", kind: "string", required: false, choices: ["once", "continuous"] },
      {
        name: "budget",
        kind: "object",
        required: false,
        fields: [number("usd", false), number("tokens", false)],
      },
      { name: "labels", kind: "object", required: false },
      {
        ...{ name: "schedule", kind: "object", required: false },
        fields: [{ name: "cron", kind: "string", required: true }, number("minutes", true)],
      },
      { name: "orders", kind: "json", required: false },
    ])
  })
})

describe("flat text as an input", () => {
  it.each<[string, string[], unknown]>([
    ["name", ["12"], "12"],
    ["name", ["a", "b"], "b"],
    ["limit", ["3"], 3],
    ["limit", ["1e3"], 1000],
    ["all", ["true"], true],
    ["all", ["false"], false],
    ["phases", ["Running,Paused"], ["Running", "Paused"]],
    ["phases", ["Running", "Paused,"], ["Running", "Paused"]],
    ["phases", ['["a,b",""]'], ["a,b", ""]],
    ["phases", ["[]"], []],
    ["budget", ['{"usd":1}'], { usd: 1 }],
    ["budget", ["5"], { usd: 5 }],
    ["budget", ["0.5"], { usd: 0.5 }],
    ["budget", ["usd=5,tokens=1000"], { usd: 5, tokens: 1000 }],
    ["budget", ["5", "tokens=1000"], { usd: 5, tokens: 1000 }],
    ["labels", ["team=web"], { team: "web" }],
    ["labels", ["team=web,tier=12", "old="], { team: "web", tier: "12", old: "" }],
    ["labels", ["a=x=y"], { a: "x=y" }],
    ["labels", ['{"a":"b"}'], { a: "b" }],
    ["schedule", ["cron=0 9,17 * * 1,3,minutes=60"], { cron: "0 9,17 * * 1,3", minutes: 60 }],
    ["schedule", ["null"], null],
  ])("reads %s of %j as %j", (name, texts, value) => {
    expect(read([name, texts])).toEqual({ [name]: value })
  })

  it.each<[string, string]>([
    ["limit", "many"],
    ["limit", " "],
    ["limit", "Infinity"],
    ["all", "yes"],
    // Only a bare flag of the command line means true without a word, and that arrives as "true".
    ["all", ""],
    ["budget", "{usd:1}"],
    ["budget", "five"],
    ["budget", ""],
    ["labels", "team"],
    ["labels", "5"],
    ["strange", "1"],
  ])("leaves %s=%j as text, for the schema to refuse", (name, text) => {
    expect(read([name, [text]])).toEqual({ [name]: text })
  })

  it("takes a list that merely begins like JSON as commas say", () => {
    expect(read(["phases", ["[a,b"]])).toEqual({ phases: ["[a", "b"] })
  })

  it("makes no prototype of a field's name", () => {
    const input = read(["__proto__", ["x"]])
    expect(Object.getPrototypeOf(input)).toBe(Object.prototype)
    expect(Object.hasOwn(input, "__proto__")).toBe(true)
  })
})

describe("an input before it is validated", () => {
  const schema = z.strictObject({
    name: z.string(),
    goal: z.string().optional(),
    limit: z.int().default(20),
    schedule: z
      .strictObject({ cron: z.string(), minutes: z.int().optional() })
      .nullable()
      .optional(),
    labels: z.record(z.string(), z.string()).default({}),
    orders: z.array(z.strictObject({ text: z.string(), id: z.string().optional() })).optional(),
  })

  it("lacks what is null and may be left out, at every depth the schema knows", () => {
    const given = {
      name: "a",
      goal: null,
      limit: null,
      labels: null,
      orders: [{ text: "x", id: null }],
    }
    expect(schema.parse(readInput(schema, given))).toEqual({
      name: "a",
      limit: 20,
      labels: {},
      orders: [{ text: "x" }],
    })
    const timed = { name: "a", schedule: { cron: "* * * * *", minutes: null } }
    expect(schema.parse(readInput(schema, timed)).schedule).toEqual({ cron: "* * * * *" })
  })

  it("keeps null where it means something, is wrong, or nobody knows the field", () => {
    expect(
      readInput(schema, {
        name: null,
        schedule: null,
        labels: { a: null },
        other: null,
        __proto__: null,
      }),
    ).toEqual({
      name: null,
      schedule: null,
      labels: { a: null },
      other: null,
    })
    expect(schema.safeParse(readInput(schema, { name: "a", labels: { a: null } })).success).toBe(
      false,
    )
    for (const raw of [null, undefined, 3, "x", []]) expect(readInput(schema, raw)).toEqual(raw)
  })

  it("has no half of a surrogate pair", () => {
    const given = { name: "a\ud83d", labels: { a: "\udc4d" }, orders: [{ text: "\ud83d" }] }
    expect(readInput(schema, given)).toEqual({
      name: "a\ufffd",
      labels: { a: "\ufffd" },
      orders: [{ text: "\ufffd" }],
    })
  })

  it("of great depth costs nothing", () => {
    let deep: unknown = null
    for (let depth = 0; depth < 100_000; depth++) deep = [deep]
    expect(readInput(schema, { goal: deep })).toEqual({ goal: deep })
  })
})
