import { type Field, inputFields } from "../core/decode.ts"
import type { Tool } from "../core/tool.ts"
import { flagOf, kebab, placeholder } from "./flags.ts"

/**
 * Hints are written as calls, which is what models read: `resume_instances {"names":["shop-1"]}`,
 * `dryRun: true`, `"cursor":"3.4"`. On a command line they become what a person can paste:
 * `blackbox5 resume-instances --names shop-1`, `--dry-run`, `--cursor 3.4`. This is the only place
 * that translates.
 */

export interface Hints {
  /** A hint, or a message that may hold one. */
  text(text: string): string
  /**
   * A tool's result with every hint in it translated; what agents and people wrote stays as it is.
   */
  result(result: Readonly<Record<string, unknown>>): Record<string, unknown>
}

/** The keys of a result whose texts may hold hints. */
const hintKeys = new Set(["next", "fix", "do", "why", "note", "refused", "cut", "warnings"])

/** The JSON object or array that begins a text; undefined when it has no end. */
function bracketed(text: string): string | undefined {
  let depth = 0
  for (const { 0: part, index } of text.matchAll(/"(?:[^"\\]|\\.)*"|[{}[\]]/g)) {
    if (part === "{" || part === "[") depth++
    if (part === "}" || part === "]") depth--
    if (depth === 0) return text.slice(0, index + part.length)
  }
  return undefined
}

/** JSON in which `…` or `{…}` may stand for a value that the reader fills in. */
function readLoosely(json: string): unknown {
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

/** Flags for all of an input; undefined when the fields do not have all of it. */
function flagsOf(
  fields: readonly Field[],
  input: Record<string, unknown>,
): readonly string[] | undefined {
  const flags = Object.entries(input).map(([name, value]) => {
    const field = fields.find((one) => one.name === name)
    return field && flagOf(field, value)
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
  /** The fields of all tools: a hint names one without saying whose it is. */
  const fields = (): ReadonlyMap<string, Field> => {
    known ??= new Map(
      tools.flatMap(({ input }) => inputFields(input)).map((field) => [field.name, field]),
    )
    return known
  }

  /**
   * `"names":["a"],"limit":3` as flags, `dryRun: true` as `--dry-run`, and other fields whose names
   * are no words as flags.
   */
  const withFlags = (text: string): string => {
    if (!/"\w+":|[a-z][A-Z]|: (?:true|\d)/.test(text)) return text
    const pairs = text.replace(
      /"(\w+)":("(?:[^"\\]|\\.)*"|\[[^\]]*\]|\{[^}]*\}|[\w.…-]*[\w…])(,(?="\w+":))?/g,
      (whole, name, json, more) => {
        const field = fields().get(name)
        const value = readLoosely(json)
        return field && value !== undefined ? flagOf(field, value) + (more ? " " : "") : whole
      },
    )
    return pairs.replace(
      /(?<![\w"-])([a-z]+(?:[A-Z][a-z]*)*)(: (?:true|\d+)\b)?(?![\w"])/g,
      (whole, name: string, value?: string) => {
        const field = fields().get(name)
        if (!field || (value === undefined && !/[A-Z]/.test(name))) return whole
        if (value === undefined) return `--${kebab(name)}`
        const said: unknown = JSON.parse(value.slice(2))
        return field.kind === "boolean" || field.kind === "number" ? flagOf(field, said) : whole
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
        ? bracketed(text.slice(end).trimStart())
        : undefined
      if (json === undefined && !name.includes("_")) continue // a word of English, as audit is
      const input = json === undefined ? {} : readLoosely(json)
      const tool = byName.get(name)
      const flags = tool && isObject(input) ? flagsOf(inputFields(tool.input), input) : undefined
      if (!flags) continue
      const after = json === undefined ? end : text.indexOf(json, end) + json.length
      const line = [program, kebab(name), ...flags].join(" ")
      const whole = text.slice(0, index).trim() === "" && /^\.?\s*$/.test(text.slice(after))
      // A command within a sentence is set off; one that is all of it can be copied as it is.
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
