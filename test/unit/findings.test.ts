import { describe, expect, it } from "vitest"
import { z } from "zod"
import { renderFindings } from "../../src/core/findings.ts"

const schema = z.strictObject({
  goal: z.string().min(1).optional(),
  text: z.string().max(3).optional(),
  names: z
    .array(z.string().regex(/^[a-z]+$/, "must be lower-case letters"))
    .min(1)
    .max(2)
    .optional(),
  limit: z.int().min(1).max(200).optional(),
  share: z.number().positive().optional(),
  all: z.boolean().optional(),
  mode: z.enum(["once", "continuous"]).optional(),
  kind: z.literal("loop").optional(),
  budget: z.strictObject({ usd: z.number() }).optional(),
  ref: z
    .string()
    .refine((text) => text !== "x", "has an invisible character")
    .optional(),
})
const findings = (input: unknown): string => {
  const { error } = schema.safeParse(input, { reportInput: true })
  if (!error) throw new Error("nothing was found")
  return renderFindings(error)
}

describe("a finding", () => {
  it.each<[string, unknown]>([
    ["goal must not be empty", { goal: "" }],
    ["text must have at most 3 characters", { text: "long" }],
    ["names must not be empty", { names: [] }],
    ["names must have at most 2 items", { names: ["a", "b", "c"] }],
    ["names[1] must be lower-case letters", { names: ["a", "B"] }],
    ["limit must be at least 1", { limit: 0 }],
    ["limit must be at most 200", { limit: 201 }],
    ["limit must be a number", { limit: "many" }],
    ["limit must be a whole number", { limit: 1.5 }],
    ["share must be more than 0", { share: 0 }],
    ["all must be true or false", { all: "yes" }],
    ["mode must be one of: once, continuous", { mode: "never" }],
    ["kind must be loop", { kind: "x" }],
    ["budget.usd is required", { budget: {} }],
    ['budget has no field "euros"', { budget: { usd: 1, euros: 1 } }],
    ["ref has an invisible character", { ref: "x" }],
    ['The input has no field "colour", "size"', { colour: 1, size: 2 }],
    ["The input must be an object", "text"],
    ["goal must not be empty\nlimit must be at least 1", { goal: "", limit: 0 }],
  ])("says %j", (text, input) => {
    expect(findings(input)).toBe(text)
  })

  it("is one of ten at most", () => {
    const many = Object.fromEntries(Array.from({ length: 30 }, (_, index) => [`k${index}`, -1]))
    const error = z.record(z.string(), z.int().min(0)).safeParse(many).error
    if (!error) throw new Error("nothing was found")
    expect(renderFindings(error).split("\n")).toHaveLength(10)
  })
})
