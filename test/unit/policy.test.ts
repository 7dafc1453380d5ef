import { mkdirSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { describe, expect, it } from "vitest"
import { followPolicy, parsePolicy } from "../../src/settings/policy.ts"
import { temporary, until } from "./scratch.ts"

describe("the policy", () => {
  it("takes nothing for the defaults, and what it says otherwise", () => {
    expect(parsePolicy("")).toMatchObject({
      policy: { instancesMax: 50, turnsMax: 4, budget: { usd: 10 }, loops: {} },
    })
    expect(parsePolicy("# nothing\n")).toEqual(parsePolicy("{}"))
    expect(parsePolicy("turnsMax: 2\nloops:\n  mine: [./loop.sh, '{project}']\n")).toMatchObject({
      policy: {
        instancesMax: 50,
        turnsMax: 2,
        loops: { mine: { command: ["./loop.sh", "{project}"], completion: "exit" } },
      },
    })
    expect(parsePolicy("loops:\n  mine: { command: [x], completion: marker }\n")).toMatchObject({
      policy: { loops: { mine: { command: ["x"], completion: "marker" } } },
    })
  })

  it.each<[string, string, RegExp]>([
    ["a number that is none", "instancesMax: 2\nturnsMax: many\n", /^line 2: turnsMax: .*number/],
    ["a number out of bounds", "\n\ninstancesMax: 0\n", /^line 3: instancesMax: /],
    ["an unknown key", "turnsMax: 1\nturnMax: 2\n", /^line 2: turnMax: .*[Uu]nrecognized/],
    ["an unknown key within", "budget:\n  usd: 5\n  euros: 5\n", /^line 3: budget\.euros: /],
    ["a value within", "budget:\n  tokens: 10\n  usd: -1\n", /^line 3: budget\.usd: /],
    ["a relative path", "claude: bin/claude\n", /^line 1: claude: must be an absolute path/],
    [
      "a reserved loop",
      "turnsMax: 1\nloops:\n  ralf: [x]\n",
      /^line 2: loops: the name ralf is reserved/,
    ],
    ["a loop's name", "loops:\n  fine: [x]\n  Not Fine: [x]\n", /^line 3: loops\.Not Fine: /],
    [
      "a loop's name that is a number of YAML",
      "loops:\n  fine: [x]\n  -7: [x]\n",
      /^line 3: loops\.-7: /,
    ],
    ["a loop without words", "loops:\n  a: [x]\n  b: []\n", /^line 3: loops\.b: /],
    ["a word that is none", "loops:\n  a: [x]\n  b:\n    - x\n    - 3\n", /^line 5: loops\.b\.1: /],
    [
      "a loop without a command",
      "loops:\n  a: [x]\n  b: { completion: exit }\n",
      /^line 3: loops\.b\.command: /,
    ],
    [
      "a completion that is none",
      "loops:\n  b:\n    command: [x]\n    completion: never\n",
      /^line 4: loops\.b\.completion: /,
    ],
    ["broken YAML", "turnsMax: 1\nbudget: {usd: 1\n", /^line [23]: /],
    ["a key twice", "turnsMax: 1\nturnsMax: 2\n", /^line 2: /],
    ["an alias of nothing", "turnsMax: 1\nbudget: *none\n", /^line 2: .*none/],
    ["an isolation that is none", "isolation: strong\n", /^line 1: isolation: /],
    ["a list", "- turnsMax\n", /^line 1: .*object/],
    ["a text", "# a comment\nturnsMax\n", /^line 2: .*object/],
    ["several documents", "turnsMax: 1\n---\nturnsMax: 2\n", /^line 2: /],
  ])("refuses %s with its line", (_, text, words) => {
    expect(parsePolicy(text)).toEqual({ refused: expect.stringMatching(words) })
  })

  it("tells all that is wrong at once", () => {
    expect(parsePolicy("turnsMax: x\ninstancesMax: y\n")).toEqual({
      refused: expect.stringMatching(
        /line 2: instancesMax.*; line 1: turnsMax|line 1: turnsMax.*; line 2: instancesMax/,
      ),
    })
  })

  it("stays as it was while its file cannot be read, and says so", async () => {
    const directory = temporary()
    const path = join(directory, "policy.yaml")
    writeFileSync(path, "turnsMax: 7\n")
    const ended = new AbortController()
    const reports: string[] = []
    const policy = followPolicy(directory, (message) => void reports.push(message), ended.signal)
    try {
      expect(policy.current().turnsMax).toBe(7)
      rmSync(path)
      mkdirSync(path)
      await until(() => policy.refused() !== undefined)
      expect(policy.current().turnsMax).toBe(7)
      expect(policy.refused()).toContain(path)
      expect(reports).toHaveLength(1)
      // None at all means the defaults; one that can be read counts again.
      rmSync(path, { recursive: true })
      await until(() => policy.current().turnsMax === 4)
      expect(policy.refused()).toBeUndefined()
      writeFileSync(path, "turnsMax: 9\n")
      await until(() => policy.current().turnsMax === 9)
    } finally {
      ended.abort()
    }
  })
})
