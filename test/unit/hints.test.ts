import { execFileSync } from "node:child_process"
import { readFileSync } from "node:fs"
import fc from "fast-check"
import { describe, expect, it } from "vitest"
import { type Field, inputFields } from "../../src/core/decode.ts"
import { kebab, parseInput, renderFlag } from "../../src/roles/flags.ts"
import { createHints } from "../../src/roles/hints.ts"
import { tools } from "../../tools/index.ts"

const hints = createHints(tools, "blackbox5")
/** The words that a shell makes of a line. */
const wordsOf = (line: string): readonly string[] =>
  execFileSync("sh", ["-c", `printf '%s\\0' ${line}`], { encoding: "utf8" })
    .split("\0")
    .slice(0, -1)

describe("a hint on a command line", () => {
  it.each([
    ['resume_instances {"names":["shop-1"]}', "blackbox5 resume-instances --names shop-1"],
    [
      'resume_instances {"names":["a","b"],"dryRun":true}.',
      "blackbox5 resume-instances --names a,b --dry-run",
    ],
    ["list_instances", "blackbox5 list-instances"],
    [
      "list_instances {} shows those that exist.",
      "`blackbox5 list-instances` shows those that exist.",
    ],
    [
      'Raise its budget: update_instance {"name":"a","budget":{…}}',
      'Raise its budget: `blackbox5 update-instance --name a --budget "…"`',
    ],
    [
      'update_instance {"name":"a","schedule":…}',
      'blackbox5 update-instance --name a --schedule "…"',
    ],
    [
      'update_instance {"name":"a","budget":{"usd":5}}',
      "blackbox5 update-instance --name a --budget usd=5",
    ],
    [
      'Run read_logs {"name":"a"}, fix the cause, then run resume_instances {"names":["a"]}',
      "Run `blackbox5 read-logs --name a`, fix the cause, then run `blackbox5 resume-instances --names a`",
    ],
    [
      'message_instances {"to":["<sender>"],"replyTo":"m-1","text":"…"}',
      `blackbox5 message-instances --to '<sender>' --reply-to m-1 --text "…"`,
    ],
    ['Not yet: call it again with "cursor":"3.4".', "Not yet: call it again with --cursor 3.4."],
    [
      'Give both, as in "until":"answer","mail":"m-…".',
      "Give both, as in --until answer --mail 'm-…'.",
    ],
    [
      'Nothing was changed. Call it without dryRun and with "expect":3 to do it.',
      "Nothing was changed. Call it without --dry-run and with --expect 3 to do it.",
    ],
    [
      "all: true means 5 instances now, and needs expect.",
      "--all means 5 instances now, and needs expect.",
    ],
    ["raise turnsMax in the policy", "raise turnsMax in the policy"],
    ["Try again.", "Try again."],
  ])("%s", (call, line) => {
    expect(hints.text(call)).toBe(line)
  })

  it("leaves alone what an agent said", () => {
    const asked = 'Shall I call stop_instances {"names":["b"]}. Or dryRun: true?'
    const result = {
      why: "Held: dryRun: true shows it.",
      untrusted: asked,
      next: 'resume_instances {"names":["a"]}',
      warnings: ["3 unread from agents: read_messages {}."],
      needsYou: [{ name: "a", do: "list_instances {} shows it" }],
      goal: { untrusted: "call list_instances" },
      headline: "list_instances",
    }
    expect(hints.result(result)).toEqual({
      why: "Held: --dry-run shows it.",
      untrusted: asked,
      next: "blackbox5 resume-instances --names a",
      warnings: ["3 unread from agents: `blackbox5 read-messages`."],
      needsYou: [{ name: "a", do: "`blackbox5 list-instances` shows it" }],
      goal: { untrusted: "call list_instances" },
      headline: "list_instances",
    })
  })

  it("names the program by its path where the command is not installed", () => {
    const elsewhere = createHints(tools, "/n/node '/a b/main.js'")
    expect(elsewhere.text('read_logs {"name":"a"}')).toBe(
      "/n/node '/a b/main.js' read-logs --name a",
    )
    expect(elsewhere.text("Look at the log of `blackbox5 serve`.")).toBe(
      "Look at the log of `/n/node '/a b/main.js' serve`.",
    )
  })
})

/**
 * Every text in the sources that names a call or a part of one, with a plausible value in each
 * hole.
 */
const hintsInSources = (): readonly string[] => {
  const files = execFileSync(
    "git",
    // A schedule is JSON in the shell too (src/adapters/cron).
    [
      "ls-files",
      ...["core", "adapters/local", "adapters/sqlite", "api", "mcp/confirmation.ts"].map(
        (at) => `src/${at}`,
      ),
      "tools",
    ],
    { encoding: "utf8" },
  )
  const names = new RegExp(`\\b(?:${tools.map(({ name }) => name).join("|")})\\b`)
  return files
    .split("\n")
    .filter((file) => file.endsWith(".ts"))
    .flatMap((file) => {
      // Descriptions are for models alone, comments for us; names of tools as such are no hints.
      const code = readFileSync(file, "utf8")
        .replace(/\/\*[\s\S]*?\*\/|^\s*\/\/.*$/gm, "")
        .replace(/description:\s*(?:"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')/g, "")
      return code.match(/`(?:[^`\\]|\\.)*`|"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'/g) ?? []
    })
    .map((literal) =>
      literal
        .slice(1, -1)
        .replaceAll("\\`", "`")
        .replace(/\$\{JSON\.stringify\([^}]*\)\}/g, '["m-1"]')
        .replace(/(?<=")\$\{[^{}]*\}(?=")/g, "x-1")
        .replace(/(?<=[\]"}])\$\{[^{}]*\}/g, "")
        .replace(/\$\{[^{}]*\}/g, "1"),
    )
    .filter(
      (text) =>
        (names.test(text) && /[ {]/.test(text)) || /^(?![\s\S]*\$\{)[^\n]*"\w+":/.test(text),
    )
}

describe("every hint in the sources", () => {
  const found = hintsInSources()

  it("is found", () => {
    expect(found.length).toBeGreaterThan(40)
  })

  it("becomes a command line without a trace of JSON", () => {
    const called = tools.map(({ name }) => name).filter((name) => name.includes("_"))
    const traces = new RegExp(`"\\w+":|\\{"|(?<![\\w-])(?:${called.join("|")})(?![\\w-])`)
    expect(found.map((text) => hints.text(text)).filter((text) => traces.test(text))).toEqual([])
  })

  it("is read by the command that it names", () => {
    for (const text of found.map((one) => hints.text(one))) {
      const whole = text.startsWith("blackbox5 ") ? [text] : []
      const lines = [
        ...whole,
        ...[...text.matchAll(/`(blackbox5 [^`]*)`/g)].map(([, line = ""]) => line),
      ]
      for (const line of lines) {
        const [, command, ...words] = wordsOf(line)
        const tool = tools.find(({ name }) => kebab(name) === command)
        if (tool)
          expect([line, typeof parseInput(inputFields(tool.input), words)]).toEqual([
            line,
            "object",
          ])
      }
    }
  })
})

/** Any value of a field, as far as flags can say it. */
function valuesOf(field: Field): fc.Arbitrary<unknown> {
  const text = fc
    .string({ unit: "grapheme", maxLength: 12 })
    .filter((one) => !one.includes("\0") && one !== "…")
  switch (field.kind) {
    case "boolean":
      return fc.boolean()
    case "number":
      return fc.oneof(fc.integer(), fc.double({ noNaN: true, noDefaultInfinity: true }))
    case "list":
      return fc.array(text, { maxLength: 3 })
    case "object":
      return field.fields
        ? fc.record(
            Object.fromEntries(field.fields.map((inner) => [inner.name, valuesOf(inner)])),
            { requiredKeys: [] },
          )
        : fc.dictionary(
            fc
              .string({ minLength: 1, maxLength: 5 })
              .filter((key) => key !== "__proto__" && !key.includes("\0")),
            text,
            { maxKeys: 3 },
          )
    case "json":
      return fc.jsonValue()
    default:
      return text
  }
}

it("flags bring every input of every tool through a shell as it was", () => {
  for (const tool of tools) {
    const fields = inputFields(tool.input)
    const inputs = fc.record(
      Object.fromEntries(fields.map((field) => [field.name, valuesOf(field)])),
      { requiredKeys: [] },
    )
    fc.assert(
      fc.property(inputs, (input) => {
        const line = fields
          .flatMap((field) => (field.name in input ? [renderFlag(field, input[field.name])] : []))
          .join(" ")
        const parsed = parseInput(fields, line === "" ? [] : wordsOf(line))
        expect(parsed).toEqual({
          input: JSON.parse(JSON.stringify(input)),
          json: false,
          jsonLines: false,
        })
      }),
      { numRuns: 25 },
    )
  }
})
