import { z } from "zod"

type Json = string | number | boolean | null | Json[] | { [name: string]: Json }
/** A JSON schema of an object, as MCP's tools have it. */
export interface ObjectSchema {
  [keyword: string]: Json | undefined
  type: "object"
  properties?: { [name: string]: { [keyword: string]: Json } }
  required?: string[]
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value)

/**
 * Bounds that a model rarely reaches. Every call is validated, so the error explains them then.
 * OpenAPI has them all.
 */
const omitted: ReadonlySet<string> = new Set([
  "propertyNames",
  "pattern",
  "minLength",
  "maxLength",
  "minItems",
  "maxItems",
])
/**
 * Keywords of no use to a model: omitted bounds, permission for any other field, the bounds of safe
 * integers. In an output also the ban on other fields, because an older client would reject fields
 * that a later version adds.
 */
const isUseless = (keyword: string, value: unknown, io: "input" | "output"): boolean =>
  omitted.has(keyword) ||
  (keyword === "additionalProperties" && value === false && io === "output") ||
  (keyword === "required" && io === "output") ||
  (keyword === "additionalProperties" && isObject(value) && Object.keys(value).length === 0) ||
  ((keyword === "maximum" || keyword === "minimum") &&
    typeof value === "number" &&
    Math.abs(value) === Number.MAX_SAFE_INTEGER)

/** Drops useless keywords. Property names may look like keywords, so they are walked separately. */
function slim(schema: unknown, io: "input" | "output"): unknown {
  if (Array.isArray(schema)) return schema.map((inner) => slim(inner, io))
  if (!isObject(schema)) return schema
  const entries = Object.entries(schema).filter(
    ([keyword, value]) => !isUseless(keyword, value, io),
  )
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
 * The only place that prints tools' schemas for models, which pay for every byte. An output says
 * which of its top-level fields are required, but not deeper down.
 */
export function schemaOf(schema: z.ZodObject, io: "input" | "output"): ObjectSchema {
  const {
    $schema: _,
    required,
    ...printed
  } = z.toJSONSchema(schema, { io, unrepresentable: "any" })
  // Zod prints an object, and slim only removes keys.
  const slimmed = slim(printed, io) as ObjectSchema
  const whole: ObjectSchema = { ...slimmed, type: "object" }
  return required ? { ...whole, required } : whole
}
