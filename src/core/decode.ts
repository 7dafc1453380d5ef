import { z } from "zod"

/** What faces were given, as a tool's input: flat text (a query string, command-line flags) by the tool's own JSON schema, and JSON. */

export interface Field {
  readonly name: string
  readonly kind: "boolean" | "number" | "string" | "list" | "json"
  readonly required: boolean
  readonly description?: string
  readonly choices?: readonly string[]
}

const kindOf = (schema: JsonSchema): Field["kind"] => {
  if (schema.type === "boolean") return "boolean"
  if (schema.type === "integer" || schema.type === "number") return "number"
  if (schema.type === "string") return "string"
  return schema.type === "array" && schema.items?.type === "string" ? "list" : "json"
}
interface JsonSchema {
  readonly type?: string
  readonly items?: JsonSchema
  readonly enum?: readonly string[]
  readonly description?: string
}

/** The fields of a tool's input, in the order they were declared. */
export function fieldsOf(input: z.ZodObject): readonly Field[] {
  return Object.entries(input.shape).map(([name, field]) => {
    // toJSONSchema's result is the JSON-schema vocabulary; the four keywords read here have these types by that standard.
    const schema = z.toJSONSchema(field, { io: "input", unrepresentable: "any" }) as JsonSchema
    const choices = schema.enum ?? schema.items?.enum
    const description = schema.description
    return {
      name,
      kind: kindOf(schema),
      required: !field.safeParse(undefined).success,
      ...(description !== undefined && { description }),
      ...(choices && { choices }),
    }
  })
}

type Schema = z.core.$ZodType
const takes = (field: Schema, value: unknown): boolean => z.safeParse(field, value).success

/** What stands inside a field that may be left out, or has a default. */
function withoutWrapping(schema: Schema | undefined): Schema | undefined {
  if (schema instanceof z.ZodOptional || schema instanceof z.ZodNullable || schema instanceof z.ZodDefault)
    return withoutWrapping(schema.unwrap())
  return schema
}

/**
 * A call's input before it is validated, the same for every face. `null` in a field that may be left out means that it is not given: many MCP
 * clients send all fields. Half a surrogate pair becomes U+FFFD. It goes no deeper than the schema, and leaves to it what is wrong.
 */
export function readInput(schema: Schema, raw: unknown): unknown {
  const inner = withoutWrapping(schema)
  if (typeof raw === "string") return raw.toWellFormed()
  if (typeof raw !== "object" || raw === null) return raw
  if (Array.isArray(raw)) return inner instanceof z.ZodArray ? raw.map((item) => readInput(inner.element, item)) : raw
  const fieldOf = (name: string): Schema | undefined => {
    if (inner instanceof z.ZodRecord) return inner.valueType
    return inner instanceof z.ZodObject && Object.hasOwn(inner.shape, name) ? inner.shape[name] : undefined
  }
  return Object.fromEntries(
    Object.entries(raw).flatMap(([name, value]) => {
      const field = fieldOf(name)
      if (value === null && field && !takes(field, null) && takes(field, undefined)) return []
      return [[name, field ? readInput(field, value) : value]]
    }),
  )
}

/** What cannot be read as its kind stays text, so that the tool's schema says what is wrong with it. A list is comma-separated, repeated, or a JSON array. */
export function decode(fields: readonly Field[], flat: ReadonlyMap<string, readonly string[]>): Record<string, unknown> {
  const kinds = new Map(fields.map(({ name, kind }) => [name, kind]))
  const listOf = (text: string): readonly unknown[] => {
    try {
      const list: unknown = text.startsWith("[") && JSON.parse(text)
      if (Array.isArray(list)) return list
    } catch {
      // Text that merely begins like JSON is comma-separated text.
    }
    return text.split(",").filter((part) => part !== "")
  }
  const read = (kind: Field["kind"] | undefined, texts: readonly string[]): unknown => {
    const text = texts.at(-1) ?? ""
    switch (kind) {
      case "boolean":
        return text === "true" || text === "false" ? text === "true" : text
      case "number":
        return text.trim() !== "" && Number.isFinite(Number(text)) ? Number(text) : text
      case "list":
        return texts.flatMap(listOf)
      case "json":
        try {
          return JSON.parse(text)
        } catch {
          return text
        }
      default:
        return text
    }
  }
  return Object.fromEntries([...flat].map(([name, texts]) => [name, read(kinds.get(name), texts)]))
}
