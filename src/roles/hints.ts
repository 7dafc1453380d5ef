import { type Field, inputFields } from "../core/decode.ts"
import type { Tool } from "../core/tool.ts"
import { kebab, placeholder, renderFlag } from "./flags.ts"

/**
 * Hints are written as calls, for models: `resume_instances {"names":["shop-1"]}`, `dryRun: true`,
 * `"cursor":"3.4"`. For a command line, this file alone translates them into what a person can
 * paste: `blackbox5 resume-instances --names shop-1`, `--dry-run`, `--cursor 3.4`.
 */

export interface Hints {
  /** Translates a hint, or a message that may contain one. */
  text(text: string): string
  /** A tool's result with its hints translated. What agents and people wrote stays as it is. */
  result(result: Readonly<Record<string, unknown>>): Record<string, unknown>
}

/** The keys of a result whose texts may contain hints. */
const hintKeys = new Set(["next", "fix", "do", "why", "note", "refused", "cut", "warnings"])

/** The JSON object or array at the start of a text; undefined when it does not end. */
function leadingJson(text: string): string | undefined {
  let depth = 0
  for (const { 0: part, index } of text.matchAll(/"(?:[^"\\]|\\.)*"|[{}[\]]/g)) {
    if (part === "{" || part === "[") depth++
    if (part === "}" || part === "]") depth--
    if (depth === 0) return text.slice(0, index + part.length)
  }
  return undefined
}

/** Parses JSON in which `…` or `{…}` may stand for a value that the reader fills in. */
function parseLoosely(json: string): unknown {
  const strict = json.replace(/"(?:[^"\\]|\\.)*"|\{…\}|…/g, (part) =>
    part.startsWith('"') ? part : `"${placeholder}"`,
  )
  try {
    return JSON.parse(strict)
  } catch {
    return undefined
  }
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value)

/** All of an input as flags; undefined when it has an unknown field. */
function renderFlags(
  fields: readonly Field[],
  input: Record<string, unknown>,
): readonly string[] | undefined {
  const flags = Object.entries(input).map(([name, value]) => {
    const field = fields.find((one) => one.name === name)
    return field && renderFlag(field, value)
  })
  return flags.every((flag) => flag !== undefined) ? flags : undefined
}

/** `program` is what starts this program in a shell: `blackbox5`, or absolute paths. */
export function createHints(tools: readonly Tool[], program: string): Hints {
  const byName = new Map(tools.map((tool) => [tool.name, tool]))
  const calls = new RegExp(
    `(?<![\\w-])(?:${tools.map(({ name }) => name).join("|")})(?![\\w-])`,
    "g",
  )
  let known: ReadonlyMap<string, Field> | undefined
  /** The fields of all tools, because a hint may name a field without its tool. */
  const fields = (): ReadonlyMap<string, Field> => {
    known ??= new Map(
      tools.flatMap(({ input }) => inputFields(input)).map((field) => [field.name, field]),
    )
    return known
  }

  /**
   * Turns `"names":["a"],"limit":3`, `dryRun: true`, and fields whose names are not English words
   * into flags.
   */
  const withFlags = (text: string): string => {
    if (!/"\w+":|[a-z][A-Z]|: (?:true|\d)/.test(text)) return text
    const pairs = text.replace(
      /"(\w+)":("(?:[^"\\]|\\.)*"|\[[^\]]*\]|\{[^}]*\}|[\w.…-]*[\w…])(,(?="\w+":))?/g,
      (whole, name, json, more) => {
        const field = fields().get(name)
        const value = parseLoosely(json)
        return field && value !== undefined ? renderFlag(field, value) + (more ? " " : "") : whole
      },
    )
    return pairs.replace(
      /(?<![\w"-])([a-z]+(?:[A-Z][a-z]*)*)(: (?:true|\d+)\b)?(?![\w"])/g,
      (whole, name: string, value?: string) => {
        const field = fields().get(name)
        if (!field || (value === undefined && !/[A-Z]/.test(name))) return whole
        if (value === undefined) return `--${kebab(name)}`
        const parsed: unknown = JSON.parse(value.slice(2))
        return field.kind === "boolean" || field.kind === "number"
          ? renderFlag(field, parsed)
          : whole
      },
    )
  }

  const translate = (text: string): string => {
    let done = ""
    let at = 0
    for (const { 0: name, index } of text.matchAll(calls)) {
      if (index < at) continue
      const end = index + name.length
      const json = /^ ?\{/.test(text.slice(end))
        ? leadingJson(text.slice(end).trimStart())
        : undefined
      if (json === undefined && !name.includes("_")) continue // an English word, such as "audit"
      const input = json === undefined ? {} : parseLoosely(json)
      const tool = byName.get(name)
      const flags =
        tool && isObject(input) ? renderFlags(inputFields(tool.input), input) : undefined
      if (!flags) continue
      const after = json === undefined ? end : text.indexOf(json, end) + json.length
      const line = [program, kebab(name), ...flags].join(" ")
      const whole = text.slice(0, index).trim() === "" && /^\.?\s*$/.test(text.slice(after))
      // A command inside a sentence is put into backticks; one on its own can be copied as it is.
      done += withFlags(text.slice(at, index)) + (whole ? line : `\`${line}\``)
      at = whole ? text.length : after
    }
    const rest = done + withFlags(text.slice(at))
    return program === "blackbox5" ? rest : rest.replace(/`blackbox5(?= [a-z])/g, `\`${program}`)
  }

  const walk = (node: unknown, isHint: boolean): unknown => {
    if (typeof node === "string") return isHint ? translate(node) : node
    if (Array.isArray(node)) return node.map((one) => walk(one, isHint))
    return isObject(node)
      ? Object.fromEntries(
          Object.entries(node).map(([key, inner]) => [key, walk(inner, hintKeys.has(key))]),
        )
      : node
  }
  return {
    text: translate,
    result: (result) =>
      Object.fromEntries(
        Object.entries(result).map(([key, inner]) => [key, walk(inner, hintKeys.has(key))]),
      ),
  }
}
