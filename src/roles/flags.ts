import { type ParseArgsConfig, parseArgs } from "node:util"
import { decode, type Field } from "../core/decode.ts"
import { shellWord } from "../core/view.ts"
import { argumentMistake } from "./parse-args.ts"

/** Translates between a tool's input and the flags of a command line. */

export const kebab = (name: string): string =>
  name.replaceAll("_", "-").replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)

/** The field that positional arguments go to. */
export const positionalOf = (fields: readonly Field[]): Field | undefined =>
  ["name", "names", "to", "of"]
    .map((word) => fields.find(({ name }) => name === word))
    .find((field) => field !== undefined)

export interface ParsedInput {
  readonly input: Record<string, unknown>
  readonly json: boolean
  readonly jsonLines: boolean
}

/** The tool's input from a command line, or what is wrong with it. */
export function parseInput(
  fields: readonly Field[],
  argv: readonly string[],
  { hasLines = false }: { readonly hasLines?: boolean } = {},
): ParsedInput | string {
  const options: NonNullable<ParseArgsConfig["options"]> = {
    input: { type: "string" },
    json: { type: "boolean" },
  }
  if (hasLines) options["json-lines"] = { type: "boolean" }
  for (const { name, kind } of fields)
    options[kebab(name)] = {
      type: kind === "boolean" ? "boolean" : "string",
      multiple: kind !== "boolean",
    }
  let parsed: ReturnType<typeof parseArgs>
  try {
    parsed = parseArgs({
      args: [...argv],
      options,
      allowPositionals: true,
      allowNegative: true,
      strict: true,
    })
  } catch (error) {
    return argumentMistake(error)
  }
  const { values, positionals } = parsed
  let whole: unknown = {}
  try {
    if (typeof values.input === "string") whole = JSON.parse(values.input)
  } catch {
    return "--input must be JSON."
  }
  if (typeof whole !== "object" || whole === null || Array.isArray(whole))
    return "--input must be a JSON object."
  const flat = new Map<string, readonly string[]>()
  for (const { name } of fields) {
    const value = values[kebab(name)]
    if (value !== undefined) flat.set(name, [value].flat().map(String))
  }
  const positional = positionalOf(fields)
  if (positionals.length > 0) {
    if (!positional) return `Unexpected argument: ${JSON.stringify(positionals[0])}`
    if (positional.kind !== "list" && positionals.length > 1)
      return `Give only one ${positional.name}.`
    flat.set(positional.name, [...(flat.get(positional.name) ?? []), ...positionals])
  }
  return {
    input: { ...whole, ...decode(fields, flat) },
    json: values.json === true,
    jsonLines: values["json-lines"] === true,
  }
}

/** Stands for a value that the reader must fill in. */
export const placeholder = "…"

/** The text that `decode` turns back into the value. */
function encode({ kind }: Field, value: unknown): string {
  if (typeof value === "string" && kind !== "json") return value
  if (kind === "list" && Array.isArray(value)) {
    const plain =
      value.length > 0 && value.every((one) => typeof one === "string" && /^[^,[][^,]*$/.test(one))
    if (plain) return value.join(",")
  }
  if (kind === "object" && typeof value === "object" && value !== null) {
    const pairs = Object.entries(value)
    const plain = pairs.every(([key, one], at) => {
      const name = at === 0 ? /^[^=,{\s-][^=,]*$/ : /^[\w./-]+$/
      return name.test(key) && (typeof one !== "object" || one === null) && !`${one}`.includes(",")
    })
    if (plain && pairs.length > 0) return pairs.map(([key, one]) => `${key}=${one}`).join(",")
  }
  return JSON.stringify(value)
}

/** One field of an input as typed in a shell. */
export function renderFlag(field: Field, value: unknown): string {
  const flag = `--${kebab(field.name)}`
  if (field.kind === "boolean" && typeof value === "boolean")
    return value ? flag : `--no-${kebab(field.name)}`
  const text = encode(field, value)
  const word = text === placeholder ? `"${placeholder}"` : shellWord(text)
  return `${flag}${text.startsWith("-") ? "=" : " "}${word}`
}
