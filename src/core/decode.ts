import { z } from "zod"

/**
 * What faces were given, as a tool's input: flat text (a query string, command-line flags) by the
 * tool's own JSON schema, and JSON.
 */

export interface Field {
  readonly name: string
  readonly kind: "boolean" | "number" | "string" | "list" | "object" | "json"
  readonly required: boolean
  readonly description?: string
  readonly choices?: readonly string[]
  /** What it is when it is left out. */
  readonly otherwise?: unknown
  /** Of an object, where they are known; a record of texts has none. */
  readonly fields?: readonly Field[]
}

const kindOf = (schema: JsonSchema): Field["kind"] => {
  if (schema.type === "boolean") return "boolean"
  if (schema.type === "integer" || schema.type === "number") return "number"
  if (schema.type === "string") return "string"
  if (schema.type === "object") return "object"
  return schema.type === "array" && schema.items?.type === "string" ? "list" : "json"
}
interface JsonSchema {
  readonly type?: string
  readonly items?: JsonSchema
  readonly enum?: readonly string[]
  readonly description?: string
  readonly default?: unknown
  readonly properties?: Readonly<Record<string, JsonSchema>>
  readonly required?: readonly string[]
  readonly anyOf?: readonly JsonSchema[]
}

/** What may also be null is read as what it otherwise is; the word null alone is null. */
const withoutNull = (schema: JsonSchema): JsonSchema => {
  const rest = schema.anyOf?.filter(({ type }) => type !== "null") ?? []
  const [only, second] = rest
  return only && !second ? Object.assign({}, only, schema) : schema
}

function fieldOf(name: string, declared: JsonSchema, required: boolean): Field {
  const schema = withoutNull(declared)
  const choices = schema.enum ?? schema.items?.enum
  const { description, properties } = schema
  const inner = Object.entries(properties ?? {})
  return {
    name,
    kind: kindOf(schema),
    required,
    ...(description !== undefined && { description }),
    ...(choices && { choices }),
    ...(schema.default !== undefined && { otherwise: schema.default }),
    ...(properties && {
      fields: inner.map(([key, one]) => fieldOf(key, one, schema.required?.includes(key) ?? false)),
    }),
  }
}

/** The fields of a tool's input, in the order they were declared. */
export function inputFields(input: z.ZodObject): readonly Field[] {
  return Object.entries(input.shape).map(([name, field]) =>
    fieldOf(
      name,
      // toJSONSchema's result is the JSON-schema vocabulary; the keywords read here have these
      // types by that standard.
      z.toJSONSchema(field, { io: "input", unrepresentable: "any" }) as JsonSchema,
      !field.safeParse(undefined).success,
    ),
  )
}

const parsed = (text: string): unknown => {
  try {
    return JSON.parse(text)
  } catch {
    return text
  }
}

function listOf(text: string): readonly unknown[] {
  const list = text.startsWith("[") ? parsed(text) : undefined
  // Text that merely begins like JSON is comma-separated text.
  return Array.isArray(list) ? list : text.split(",").filter((part) => part !== "")
}

/** A comma ends a value only where another `key=` follows: a cron line has commas of its own. */
const pairEnd = /,(?=[\w./-]+=)/

/**
 * `team=web,tier=db`, repeated or not; a JSON object; or a bare number where the object has a field
 * `usd`, for money is what people mean by it. What is none of these stays text.
 */
function objectOf(texts: readonly string[], fields: readonly Field[] | undefined): unknown {
  const last = texts.at(-1) ?? ""
  if (last === "null" || last.startsWith("{")) return parsed(last)
  const money = fields?.some(({ name }) => name === "usd") ?? false
  const entries: [string, unknown][] = []
  for (const pair of texts.flatMap((text) => text.split(pairEnd))) {
    const [, key, value] = /^([^=]+)=(.*)$/s.exec(pair) ?? []
    if (key !== undefined && value !== undefined) {
      const field = fields?.find(({ name }) => name === key)
      entries.push([key, field ? read(field, [value]) : value])
    } else if (money && isNumber(pair)) entries.push(["usd", Number(pair)])
    else return last
  }
  return Object.fromEntries(entries)
}

const isNumber = (text: string): boolean => text.trim() !== "" && Number.isFinite(Number(text))

function read(field: Field | undefined, texts: readonly string[]): unknown {
  const text = texts.at(-1) ?? ""
  switch (field?.kind) {
    case "boolean":
      return text === "true" || text === "false" ? text === "true" : text
    case "number":
      return isNumber(text) ? Number(text) : text
    case "list":
      return texts.flatMap(listOf)
    case "object":
      return objectOf(texts, field.fields)
    case "json":
      return parsed(text)
    default:
      return text
  }
}

type Schema = z.core.$ZodType
const takes = (field: Schema, value: unknown): boolean => z.safeParse(field, value).success

/** What stands inside a field that may be left out, or has a default. */
function withoutWrapping(schema: Schema | undefined): Schema | undefined {
  if (
    schema instanceof z.ZodOptional ||
    schema instanceof z.ZodNullable ||
    schema instanceof z.ZodDefault
  )
    return withoutWrapping(schema.unwrap())
  return schema
}

/**
 * A call's input before it is validated, the same for every face. `null` in a field that may be
 * left out means that it is not given: many MCP clients send all fields. Half a surrogate pair
 * becomes U+FFFD. It goes no deeper than the schema, and leaves to it what is wrong.
 */
export function readInput(schema: Schema, raw: unknown): unknown {
  const inner = withoutWrapping(schema)
  if (typeof raw === "string") return raw.toWellFormed()
  if (typeof raw !== "object" || raw === null) return raw
  if (Array.isArray(raw))
    return inner instanceof z.ZodArray ? raw.map((item) => readInput(inner.element, item)) : raw
  const fieldOf = (name: string): Schema | undefined => {
    if (inner instanceof z.ZodRecord) return inner.valueType
    return inner instanceof z.ZodObject && Object.hasOwn(inner.shape, name)
      ? inner.shape[name]
      : undefined
  }
  return Object.fromEntries(
    Object.entries(raw).flatMap(([name, value]) => {
      const field = fieldOf(name)
      if (value === null && field && !takes(field, null) && takes(field, undefined)) return []
      return [[name, field ? readInput(field, value) : value]]
    }),
  )
}

/**
 * What cannot be read as its kind stays text, so that the tool's schema says what is wrong with it.
 * A list is comma-separated, repeated, or a JSON array.
 */
export function decode(
  fields: readonly Field[],
  flat: ReadonlyMap<string, readonly string[]>,
): Record<string, unknown> {
  const byName = new Map(fields.map((field) => [field.name, field]))
  return Object.fromEntries([...flat].map(([name, texts]) => [name, read(byName.get(name), texts)]))
}
