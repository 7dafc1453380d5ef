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

/**
 * Bounds that a model meets seldom and then hears of in words, because every call is checked by the
 * schema itself. OpenAPI has them all.
 */
const unsaid: ReadonlySet<string> = new Set([
  "propertyNames",
  "pattern",
  "minLength",
  "maxLength",
  "minItems",
  "maxItems",
])
/**
 * Says nothing that a model could use: what is unsaid, that anything else may stand there too, the
 * bounds of safe integers; and of an answer, that nothing else stands there: a client of before
 * would else refuse what a later version adds.
 */
const idle = (keyword: string, value: unknown, io: "input" | "output"): boolean =>
  unsaid.has(keyword) ||
  (keyword === "additionalProperties" && value === false && io === "output") ||
  (keyword === "required" && io === "output") ||
  (keyword === "additionalProperties" && isObject(value) && Object.keys(value).length === 0) ||
  ((keyword === "maximum" || keyword === "minimum") &&
    typeof value === "number" &&
    Math.abs(value) === Number.MAX_SAFE_INTEGER)

/**
 * Without idle keywords. Names of properties look like keywords, so the map of properties is walked
 * apart.
 */
function slim(schema: unknown, io: "input" | "output"): unknown {
  if (Array.isArray(schema)) return schema.map((inner) => slim(inner, io))
  if (!isObject(schema)) return schema
  const entries = Object.entries(schema).filter(([keyword, value]) => !idle(keyword, value, io))
  return Object.fromEntries(
    entries.map(([keyword, value]) => {
      if (keyword === "properties" && isObject(value))
        return [
          keyword,
          Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, slim(inner, io)])),
        ]
      // Values, not schemas.
      if (keyword === "default" || keyword === "const" || keyword === "enum")
        return [keyword, value]
      return [keyword, slim(value, io)]
    }),
  )
}

/**
 * The one place where tools' schemas are made for models, who pay for every byte: as zod prints
 * them, slimmed. An answer says which of its own fields are always there, and leaves that open for
 * what stands deeper.
 */
export function schemaOf(schema: z.ZodObject, io: "input" | "output"): ObjectSchema {
  const {
    $schema: _,
    required,
    ...printed
  } = z.toJSONSchema(schema, { io, unrepresentable: "any" })
  const slimmed = slim(printed, io) as ObjectSchema // zod prints objects as JSON, and slimming only leaves out
  const whole: ObjectSchema = { ...slimmed, type: "object" }
  return required ? { ...whole, required } : whole
}
