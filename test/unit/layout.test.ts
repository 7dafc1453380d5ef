import { describe, expect, it } from "vitest"
import { inputFields } from "../../src/core/decode.ts"
import { helpOf, nearestCommand, overview } from "../../src/roles/help.ts"
import { columns, paragraph, tableOf } from "../../src/roles/layout.ts"
import { tools } from "../../tools/index.ts"

const rows = [
  {
    name: "shop-1",
    phase: "Running",
    why: "It works on the price list and then on the shop, for as long as it takes.",
  },
  { name: "a-name-of-twenty-nine-letters", phase: "Paused", why: "Paused." },
]
const widest = (text: string): number => Math.max(...text.split("\n").map((line) => line.length))

describe("a table", () => {
  it("cuts what others said within its fence, which always has an end", () => {
    const said = `<untrusted-ab12>\n${"long ".repeat(400)}\n</untrusted-ab12>`
    const [, line = ""] = tableOf(
      [{ name: "a", why: `It asked. Said: "${said}"`, last: said }],
      undefined,
    ).split("\n")
    expect(line).toMatch(
      /It asked\. Said: "<untrusted-ab12> (long )+.*… <\/untrusted-ab12>" +<untrusted-ab12> .* <\/untrusted-ab12>$/,
    )
    expect(line.length).toBeLessThan(1300)
  })

  it("has its last column beside the others where there is room, and below them where there is not", () => {
    expect(tableOf(rows, 80).split("\n").slice(0, 3)).toEqual([
      "NAME                           PHASE    WHY",
      "shop-1                         Running  It works on the price list and then on",
      "                                        the shop, for as long as it takes.",
    ])
    expect(tableOf(rows, 60).split("\n")).toEqual([
      "NAME                           PHASE",
      "    WHY",
      "shop-1                         Running",
      "    It works on the price list and then on the shop, for as",
      "    long as it takes.",
      "a-name-of-twenty-nine-letters  Paused",
      "    Paused.",
    ])
  })

  it("breaks nothing in a pipe", () => {
    expect(tableOf(rows, undefined).split("\n")).toHaveLength(3)
    expect(paragraph("word ".repeat(300).trim(), undefined)).not.toContain("\n")
  })

  it("keeps its indentation", () => {
    expect(columns([["a", "what a is"]], 80, 2)).toBe("  a  what a is")
  })
})

describe("help", () => {
  it.each([60, 80, 120, 200])("fits %i columns, and breaks no flag and no name", (width) => {
    expect(widest(overview("blackbox5", width))).toBeLessThanOrEqual(width)
    for (const tool of tools) {
      const text = helpOf(tool, inputFields(tool.input), "", width)
      expect([tool.name, widest(text)]).toEqual([
        tool.name,
        expect.toSatisfy((found: number) => found <= width),
      ])
      for (const { name } of inputFields(tool.input))
        expect(text).toMatch(
          new RegExp(`^  --${name.replace(/[A-Z]/g, (l) => `-${l.toLowerCase()}`)}\\b`, "m"),
        )
    }
  })

  it("knows every command, and says how to get the command itself only where it is missing", () => {
    const text = overview("blackbox5", 80)
    for (const { name } of tools) expect(text).toContain(`  ${name.replaceAll("_", "-")} `)
    expect(text).not.toContain("connect shell")
    expect(overview("/n/node /a/main.js", 80)).toContain("\n/n/node /a/main.js connect shell\n")
  })

  it("says what a flag is when it is left out", () => {
    const tool = tools.find(({ name }) => name === "list_instances")
    expect(tool && helpOf(tool, inputFields(tool.input), "", 120)).toMatch(/--limit N +default 20/)
  })

  it.each([
    ["list", "list-instances"],
    ["pause", "pause-instances"],
    ["spawn", "spawn-instance"],
    ["list_instances", "list-instances"],
    ["instect-instance", "inspect-instance"],
    ["docter", "doctor"],
    ["xyzzy", undefined],
    ["", undefined],
  ])("takes %s for %s", (word, command) => {
    expect(nearestCommand(word)).toBe(command)
  })
})
