/**
 * House rules about the text of one file. Each brings a sample that breaks it, so that
 * house.test.ts proves that the rule finds what it is meant to find.
 */
export interface Rule {
  readonly name: string
  /** Which files it is about, by path. */
  readonly files: RegExp
  /** What is wrong, a line for each finding. */
  findings(text: string, file: string): readonly string[]
  readonly broken: { readonly file: string; readonly text: string }
}

const sourceFiles = /^(src|tools)\//
const anyFile = /\.ts$/

/** Texts, patterns and template literals emptied: what is left is code. */
const withoutLiterals = (line: string): string =>
  line
    .replaceAll(/"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|`(?:[^`\\]|\\.)*`/g, '""')
    .replaceAll(/\/(?![/*])(?:[^/\\[]|\\.|\[(?:[^\]\\]|\\.)*\])+\/[dgimsuvy]*/g, "//")
const withoutComments = (text: string): string =>
  text.replaceAll(/\/\*[\s\S]*?\*\/|^\s*\/\/.*$/gm, "")

const columnsMax = 100
const linesMax = 250
const testLinesMax = 600

/** As it stands there, without what stands in template literals of several lines. */
const withoutTemplates = (text: string): string =>
  text.replaceAll(/`(?:[^`\\]|\\.)*`/gs, (template) =>
    template.includes("\n") ? template.replaceAll(/[^\n]/g, "") : template,
  )

const linesOver: Rule = {
  name: `has lines of at most ${columnsMax} columns, but for a text that cannot be broken`,
  files: anyFile,
  findings: (text) =>
    withoutTemplates(text)
      .split("\n")
      .filter((line) => line.length > columnsMax && withoutLiterals(line).length > columnsMax),
  broken: { file: "src/core/a.ts", text: `const a = ${"b + ".repeat(40)}c` },
}

const longFile = /^\/\*\*[^/]*\blong file\b/i
const longFiles: Rule = {
  name: `has at most ${linesMax} lines, or says in its first comment why it is a long file`,
  files: sourceFiles,
  findings: (text) =>
    text.split("\n").length > linesMax + 1 && !longFile.test(text)
      ? [`${text.split("\n").length} lines`]
      : [],
  broken: { file: "src/core/a.ts", text: "\n".repeat(linesMax + 2) },
}

const longTests: Rule = {
  name: `has at most ${testLinesMax} lines, or says why: a test file is about one module or tool`,
  files: /^test\/.*\.ts$/,
  findings: (text) =>
    text.split("\n").length > testLinesMax && !longFile.test(text)
      ? [`${text.split("\n").length} lines`]
      : [],
  broken: { file: "test/unit/a.test.ts", text: "\n".repeat(testLinesMax + 2) },
}

const spreads: Rule = {
  name: "spreads no object literal into an object literal",
  files: sourceFiles,
  findings: (text) => text.match(/^.*\.\.\.\{.*$/gm) ?? [],
  broken: { file: "src/core/a.ts", text: "const a = { ...{ b, c }, d }" },
}

const toolsAlone: Rule = {
  name: "holds one tool, of the toolset that its directory is named after",
  files: /^tools\/(?!index\.ts$)/,
  findings(text, file) {
    const [, toolset, tool] = /^tools\/([a-z]+)\/([a-z]+(?:_[a-z]+)*)\.ts$/.exec(file) ?? []
    const isTool =
      tool !== undefined &&
      text.includes("export default defineTool(") &&
      text.includes(`name: "${tool}"`) &&
      text.includes(`toolset: "${toolset}"`)
    return isTool ? [] : ["is no such tool"]
  },
  broken: { file: "tools/fleet/posting.ts", text: "export const a = 1" },
}

const assembly: Rule = {
  name: "knows no adapter",
  files: /^src\/assemble\/assemble\.ts$/,
  findings: (text) => text.match(/from ".*\/adapters\/.*"/g) ?? [],
  broken: {
    file: "src/assemble/assemble.ts",
    text: 'import { sqliteTurns } from "../adapters/sqlite/turns.ts"',
  },
}

/** `main.ts` loads nothing before it must. */
const systemErrors: Rule = {
  name: "asks in one place for the code of a system error",
  files: /^(src|tools)\/(?!core\/error-code\.ts$|main\.ts$)/,
  findings: (text) => text.match(/ErrnoException|\.code === "E[A-Z]+"/g) ?? [],
  broken: { file: "src/host/a.ts", text: 'if (error.code === "ENOENT") return' },
}

/** Words that meant several things, or that nobody else would use, and what stands for them now. */
export const retiredWords: Readonly<Record<string, string>> = {
  door: "hook (claude's) or listener (ours)",
  standing: "credentialWatch",
  outline: "fleetView",
  keeper: "diskRetry",
  turnstile: "claudeShim",
  bus: "mailboxes, timeline, reports or turns",
}
const retired: Rule = {
  name: "uses no retired word in a name",
  files: sourceFiles,
  findings(text, file) {
    const words = Object.keys(retiredWords).join("|")
    const inName = new RegExp(
      `(?:^|[a-z0-9_])(?:${words.replaceAll(/\b\w/g, (letter) => letter.toUpperCase())})s?(?![a-z])|(?<![A-Za-z0-9_])(?:${words})s?(?=[A-Z]|\\b)`,
    )
    const code = withoutLiterals(withoutComments(text).replaceAll("\n", " \n "))
    const names = code.match(/[A-Za-z_$][\w$]*/g) ?? []
    const found = [...names, ...(file.split("/").at(-1)?.split(/[-.]/) ?? [])].filter((name) =>
      inName.test(name),
    )
    // A standing order is a tool's input; the event bus is the MCP SDK's own.
    const isKept = (name: string): boolean =>
      /^standing(Orders?)?$/.test(name) || (file === "src/mcp/modern.ts" && /bus$/i.test(name))
    return [...new Set(found)].filter((name) => !isKept(name))
  },
  broken: { file: "src/agent/keeper.ts", text: "export const createKeeper = 1" },
}

export const rules: readonly Rule[] = [
  linesOver,
  longFiles,
  longTests,
  spreads,
  toolsAlone,
  assembly,
  systemErrors,
  retired,
]

/** The names that a file exports, as they are written there. */
export const exportedNames = (text: string): readonly string[] =>
  [
    ...text.matchAll(
      /^export (?:async )?(?:const|let|function\*?|class|interface|type|enum) (\w+)/gm,
    ),
  ].map(([, name = ""]) => name)

/** Names that several files export, with these files. */
export function exportedTwice(
  texts: ReadonlyMap<string, string>,
): readonly (readonly [string, readonly string[]])[] {
  const filesOf = new Map<string, string[]>()
  for (const [file, text] of texts)
    for (const name of new Set(exportedNames(text)))
      filesOf.set(name, [...(filesOf.get(name) ?? []), file])
  return [...filesOf].filter(([, files]) => files.length > 1)
}

/** Files that import one another in a circle, also for types alone: one such circle, or none. */
export function importCircle(
  importsOf: ReadonlyMap<string, readonly string[]>,
): readonly string[] | undefined {
  const done = new Set<string>()
  const visit = (file: string, path: readonly string[]): readonly string[] | undefined => {
    if (path.includes(file)) return [...path.slice(path.indexOf(file)), file]
    if (done.has(file)) return undefined
    for (const next of importsOf.get(file) ?? []) {
      const found = visit(next, [...path, file])
      if (found) return found
    }
    done.add(file)
    return undefined
  }
  for (const file of importsOf.keys()) {
    const found = visit(file, [])
    if (found) return found
  }
  return undefined
}

/** What is wrong with a commit's subject; undefined when nothing is. */
export function subjectFault(subject: string): string | undefined {
  if (subject.length > 72) return "is longer than 72 characters"
  if (!/^[A-Z]/.test(subject)) return "begins without a capital"
  if (subject.endsWith(".")) return "ends with a full stop"
  if (/^\w+(?:ed|ing)\b/.test(subject) && !/^(?:Bring|Embed|Feed|Need|Speed)\b/.test(subject))
    return "is no imperative"
  return undefined
}
