import { z } from "zod"

type Json = string | number | boolean | null | Json[] | { [name: string]: Json }
/** A JSON schema of an object, as MCP's tools carry it. */
export interface ObjectSchema {
  [keyword: string]: Json | undefined
  type: "object"
  properties?: { [name: string]: { [keyword: string]: Json } }
  required?: string[]
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value)

/** Bounds that a model meets seldom and then hears of in words, because every call is checked by the schema itself. OpenAPI has them all. */
const unsaid: ReadonlySet<string> = new Set(["propertyNames", "pattern", "minLength", "maxLength", "minItems", "maxItems"])
/** Says nothing that a model could use: what is unsaid, that anything else may stand there too, and the bounds of safe integers. */
const idle = (keyword: string, value: unknown): boolean =>
  unsaid.has(keyword) ||
  (keyword === "additionalProperties" && isObject(value) && Object.keys(value).length === 0) ||
  ((keyword === "maximum" || keyword === "minimum") && typeof value === "number" && Math.abs(value) === Number.MAX_SAFE_INTEGER)

/** Without idle keywords. Names of properties look like keywords, so the map of properties is walked apart. */
function slim(schema: unknown): unknown {
  if (Array.isArray(schema)) return schema.map(slim)
  if (!isObject(schema)) return schema
  const entries = Object.entries(schema).filter(([keyword, value]) => !idle(keyword, value))
  return Object.fromEntries(
    entries.map(([keyword, value]) => {
      if (keyword === "properties" && isObject(value))
        return [keyword, Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, slim(inner)]))]
      // Values, not schemas.
      if (keyword === "default" || keyword === "const" || keyword === "enum") return [keyword, value]
      return [keyword, slim(value)]
    }),
  )
}

/** The one place where tools' schemas are made for models, who pay for every byte: as zod prints them, slimmed. */
export function schemaOf(schema: z.ZodObject, io: "input" | "output"): ObjectSchema {
  const { $schema: _, ...printed } = z.toJSONSchema(schema, { io, unrepresentable: "any" })
  const slimmed = slim(printed)
  return { ...(slimmed as ObjectSchema), type: "object" } // zod prints objects as JSON, and slimming only leaves out
}
