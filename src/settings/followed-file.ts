import { type FSWatcher, mkdirSync, readFileSync, watch } from "node:fs"
import { dirname } from "node:path"
import {
  type Document,
  isMap,
  isNode,
  isScalar,
  isSeq,
  LineCounter,
  parseDocument,
  visit,
} from "yaml"
import type { z } from "zod"
import { errorCode } from "../core/error-code.ts"
import { type Source, topic } from "../core/source.ts"

/** A YAML file that people write, checked and read again whenever it changes. */

const settleMs = 100

/** The value of a text, or why it is invalid: its findings, each with its line in the file. */
export function parseYaml<S extends z.ZodType>(schema: S, text: string): Parsed<z.output<S>> {
  const lines = new LineCounter()
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false })
  const [broken] = document.errors
  if (broken) return { refused: `line ${lines.linePos(broken.pos[0]).line}: ${broken.message}` }
  let value: unknown
  try {
    value = document.toJS() ?? {}
  } catch (error) {
    // An alias without an anchor, or one that expands to too much.
    return {
      refused: `line ${lines.linePos(brokenAlias(document)).line}: ${error instanceof Error ? error.message : error}`,
    }
  }
  const parsed = schema.safeParse(value)
  if (parsed.success) return { value: parsed.data }
  const findings = parsed.error.issues.map(({ path, message, ...issue }) => {
    const keys =
      "keys" in issue && Array.isArray(issue.keys) ? [...path, String(issue.keys[0])] : path
    const offset = offsetOf(document.contents, keys)
    return [
      `line ${lines.linePos(offset).line}`,
      ...(keys.length > 0 ? [keys.join(".")] : []),
      message,
    ].join(": ")
  })
  return { refused: findings.slice(0, 5).join("; ") }
}

/** The offset of the deepest key of the path that exists. */
function offsetOf(node: unknown, path: readonly PropertyKey[]): number {
  let at = node
  let offset = startOf(node)
  for (const key of path) {
    // YAML may read a key as a number that the schema sees as text.
    const pair = isMap(at)
      ? at.items.find((item) => isScalar(item.key) && String(item.key.value) === String(key))
      : undefined
    const item = isSeq(at) ? at.items[Number(key)] : undefined
    at = pair ? pair.value : item
    const found = pair ? pair.key : item
    if (found === undefined) break
    offset = startOf(found) || offset
  }
  return offset
}
const startOf = (node: unknown): number => (isNode(node) ? (node.range?.[0] ?? 0) : 0)

/** The offset of the first alias that has no anchor. */
function brokenAlias(document: Document): number {
  let offset = 0
  visit(document, {
    Alias(_, node) {
      if (node.resolve(document)) return undefined
      offset = startOf(node)
      return visit.BREAK
    },
  })
  return offset
}

/** No file means the defaults. */
function readText(path: string): { text: string } | { refused: string } {
  try {
    return { text: readFileSync(path, "utf8") }
  } catch (error) {
    const code = errorCode(error) ?? String(error)
    return code === "ENOENT" ? { text: "" } : { refused: `cannot read it (${code})` }
  }
}
type Parsed<T> = { readonly value: T } | { readonly refused: string }
/** The file as it is now, without following it. */
export function parseFile<S extends z.ZodType>(schema: S, path: string): Parsed<z.output<S>> {
  const found = readText(path)
  return "text" in found ? parseYaml(schema, found.text) : found
}

export interface FollowedFile<T> {
  readonly path: string
  current(): T
  /** Why the file on disk is invalid; undefined when it is in force. */
  refused(): string | undefined
  /** Yields `name` after each change. */
  readonly changed: Source
}
export interface Followed<S extends z.ZodType> {
  readonly path: string
  /** What people call it, for messages. */
  readonly name: string
  readonly schema: S
  report(message: string): void
}

/**
 * Reads the file, and follows it until the signal. No file means the defaults. While it is invalid,
 * the previous version stays in force.
 */
export function followFile<S extends z.ZodType>(
  { path, name, schema, report }: Followed<S>,
  signal: AbortSignal,
): FollowedFile<z.output<S>> {
  const directory = dirname(path)
  mkdirSync(directory, { recursive: true, mode: 0o700 })
  const changes = topic(async () => [name])
  let value = schema.parse({})
  let refused: string | undefined
  let lastText: string | undefined
  const load = (): void => {
    const found = readText(path)
    const text = JSON.stringify(found)
    if (text === lastText) return
    lastText = text
    const parsed = "text" in found ? parseYaml(schema, found.text) : found
    if ("value" in parsed) {
      value = parsed.value
      refused = undefined
    } else {
      refused = `${path}: ${parsed.refused}`
      report(`${name} is invalid; the previous version is still in force. ${refused}`)
    }
    changes.changed(name)
  }
  load()
  // Watch the directory, because editors replace files. A file is empty for a moment while it is
  // written, so wait until it settles.
  let settling: NodeJS.Timeout | undefined
  const follow = (): FSWatcher | undefined => {
    try {
      return watch(directory, () => {
        clearTimeout(settling)
        settling = setTimeout(load, settleMs)
      }).on("error", () => {})
    } catch {
      return undefined // the directory is gone
    }
  }
  const watcher = follow()
  signal.addEventListener("abort", () => {
    clearTimeout(settling)
    watcher?.close()
  })
  return { path, current: () => value, refused: () => refused, changed: changes.source }
}
