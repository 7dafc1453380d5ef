import { type FSWatcher, mkdirSync, readFileSync, watch } from "node:fs"
import { join } from "node:path"
import { type Document, isMap, isNode, isScalar, isSeq, LineCounter, parseDocument, visit } from "yaml"
import { z } from "zod"
import { budgetSchema } from "./core/instance.ts"
import { type Source, topic } from "./core/source.ts"
import type { Limits } from "./core/tool.ts"

/** The fleet's policy: one YAML file, `policy.yaml`, checked and read again whenever it changes. */

const reserved = "ralf"
const settleMs = 100
export const policySchema = z.strictObject({
  /** Instances that may have a running loop at once. */
  instancesMax: z.int().min(1).max(10_000).default(50),
  /** Iterations that may run at once, in the whole fleet. */
  turnsMax: z.int().min(1).max(1000).default(4),
  /** What an instance may use when nobody says. */
  budget: budgetSchema.default({ usd: 10 }),
  model: z.string().min(1).max(200).optional(),
  /** The real claude, an absolute path; without it the first on PATH. */
  claude: z.string().startsWith("/", "an absolute path").optional(),
  /** Whether usage is charged by the token; `auto` means: yes where an API key is in the environment. */
  billing: z.enum(["auto", "subscription", "metered"]).default("auto"),
  /** `auto`: the strongest that works here. `off`: none, for loops that need setuid programs (sudo), which a user namespace disables. */
  isolation: z.enum(["auto", "off"]).default("auto"),
  /** More loops than `ralf`: argv, in which `{project}` stands for the project's directory. */
  loops: z
    .record(z.string().regex(/^[a-z0-9][a-z0-9-]{0,62}$/), z.array(z.string()).min(1))
    .refine((loops) => !(reserved in loops), `the name ${reserved} is taken`)
    .default({}),
})
export type Policy = z.output<typeof policySchema>

/** The policy, or why the text is none: one line a finding, each with its line in the file. */
export function parsePolicy(text: string): { policy: Policy } | { refused: string } {
  const lines = new LineCounter()
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false })
  const [broken] = document.errors
  if (broken) return { refused: `line ${lines.linePos(broken.pos[0]).line}: ${broken.message}` }
  let value: unknown
  try {
    value = document.toJS() ?? {}
  } catch (error) {
    // An alias of nothing, or of too much.
    return { refused: `line ${lines.linePos(brokenAlias(document)).line}: ${error instanceof Error ? error.message : error}` }
  }
  const parsed = policySchema.safeParse(value)
  if (parsed.success) return { policy: parsed.data }
  const findings = parsed.error.issues.map(({ path, message, ...issue }) => {
    const keys = "keys" in issue && Array.isArray(issue.keys) ? [...path, String(issue.keys[0])] : path
    const offset = offsetOf(document.contents, keys)
    return [`line ${lines.linePos(offset).line}`, ...(keys.length > 0 ? [keys.join(".")] : []), message].join(": ")
  })
  return { refused: findings.slice(0, 5).join("; ") }
}

/** Where the last key of the path that is there stands. */
function offsetOf(node: unknown, path: readonly PropertyKey[]): number {
  let at = node
  let offset = startOf(node)
  for (const key of path) {
    // A key that YAML reads as a number is text to whoever checks it.
    const pair = isMap(at) ? at.items.find((item) => isScalar(item.key) && String(item.key.value) === String(key)) : undefined
    at = pair ? pair.value : isSeq(at) ? at.items[Number(key)] : undefined
    const found = pair ? pair.key : at
    if (found === undefined) break
    offset = startOf(found) || offset
  }
  return offset
}
const startOf = (node: unknown): number => (isNode(node) ? (node.range?.[0] ?? 0) : 0)

/** Where the first alias stands that names nothing. */
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

export const policyPath = (directory: string): string => join(directory, "policy.yaml")

/** No file means the defaults. */
function readText(path: string): { text: string } | { refused: string } {
  try {
    return { text: readFileSync(path, "utf8") }
  } catch (error) {
    const code = error instanceof Error && "code" in error ? String(error.code) : String(error)
    return code === "ENOENT" ? { text: "" } : { refused: `it cannot be read (${code})` }
  }
}

/** The policy as its file reads now, or why that is none: for those who only look. */
export function readPolicy(directory: string): ReturnType<typeof parsePolicy> {
  const found = readText(policyPath(directory))
  return "text" in found ? parsePolicy(found.text) : found
}

export interface PolicyFile {
  readonly path: string
  current(): Policy
  /** Why the file on disk is not the policy in force. */
  refused(): string | undefined
  limits(): Omit<Limits, "isolation">
  readonly changed: Source
}

/** Reads the policy and follows its file until the signal. An invalid file is refused, with its line, while the policy before stays. */
export function followPolicy(directory: string, report: (message: string) => void, signal: AbortSignal): PolicyFile {
  mkdirSync(directory, { recursive: true, mode: 0o700 })
  const path = policyPath(directory)
  const changes = topic(async () => ["policy"])
  let policy: Policy = policySchema.parse({})
  let refused: string | undefined
  let before: string | undefined
  const load = (): void => {
    const found = readText(path)
    const seen = JSON.stringify(found)
    if (seen === before) return
    before = seen
    const parsed = "text" in found ? parsePolicy(found.text) : found
    if ("policy" in parsed) {
      policy = parsed.policy
      refused = undefined
    } else {
      refused = `${path}: ${parsed.refused}`
      report(`The policy was refused, the one before stays in force. ${refused}`)
    }
    changes.changed("policy")
  }
  load()
  // The directory is watched, not the file: editors replace files. A file that is being written is empty for a moment, so it is let settle.
  let settling: NodeJS.Timeout | undefined
  const follow = (): FSWatcher | undefined => {
    try {
      return watch(directory, () => {
        clearTimeout(settling)
        settling = setTimeout(load, settleMs)
      }).on("error", () => {})
    } catch {
      return undefined // there is nothing to watch
    }
  }
  const watcher = follow()
  signal.addEventListener("abort", () => {
    clearTimeout(settling)
    watcher?.close()
  })
  return {
    path,
    current: () => policy,
    refused: () => refused,
    limits: () => ({
      instancesMax: policy.instancesMax,
      turnsMax: policy.turnsMax,
      loops: [reserved, ...Object.keys(policy.loops)],
      defaultLoop: reserved,
      budget: policy.budget,
      ...(policy.model !== undefined && { model: policy.model }),
      billing: policy.billing === "auto" ? (process.env.ANTHROPIC_API_KEY ? "metered" : "subscription") : policy.billing,
      ...(refused !== undefined && { refused }),
    }),
    changed: changes.source,
  }
}
