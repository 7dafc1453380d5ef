import { describe, expect, it } from "vitest"
import { transcriptLines } from "../../src/adapters/local/transcript.ts"

const at = { timestamp: "2026-01-01T00:00:00.000Z" }
const texts = (record: object): readonly string[] =>
  transcriptLines(JSON.stringify({ ...at, ...record })).map(({ text }) => text)
const content = (type: "user" | "assistant", ...parts: object[]): object => ({
  type,
  message: { content: parts },
})

describe("a record of a transcript reads as", () => {
  it.each<[string, object, string[]]>([
    ["the prompt", { type: "user", message: { content: "Do\nit." } }, ["prompt: Do it."]],
    ["what claude said", content("assistant", { type: "text", text: "Done." }), ["claude: Done."]],
    [
      "the tool and what it does",
      content("assistant", {
        type: "tool_use",
        name: "Bash",
        input: { command: "npm test", description: "Test it" },
      }),
      ["tool Bash: Test it"],
    ],
    ["a result", content("user", { type: "tool_result", content: "ok" }), ["result: ok"]],
    [
      "a result of parts",
      content("user", {
        type: "tool_result",
        content: [{ type: "text", text: "a" }, { type: "image" }, "b"],
      }),
      ["result: a b"],
    ],
    [
      "a failure",
      content("user", { type: "tool_result", content: "Exit code 2", is_error: true }),
      ["error: Exit code 2"],
    ],
    [
      "what a hook added",
      { type: "attachment", attachment: { type: "hook_additional_context", content: ["Mail"] } },
      ["hook: Mail"],
    ],
    ["what the program said", { type: "system", content: "API error" }, ["system: API error"]],
    [
      "a sub-agent's word",
      { ...content("assistant", { type: "text", text: "Hm." }), isSidechain: true },
      ["sub-agent claude: Hm."],
    ],
    [
      "several lines",
      content("assistant", { type: "text", text: "a" }, { type: "tool_use", name: "Read" }),
      ["claude: a", "tool Read: "],
    ],
    [
      "nothing: a hook without words",
      { type: "attachment", attachment: { type: "hook_success", content: "" } },
      [],
    ],
    [
      "nothing: another attachment",
      { type: "attachment", attachment: { type: "skill_listing", content: "much" } },
      [],
    ],
    ["nothing: thought", content("assistant", { type: "thinking", thinking: "…" }), []],
    ["nothing: no content", { type: "assistant" }, []],
    ["nothing: bad content", { type: "assistant", message: { content: 7 } }, []],
    ["nothing: a bad moment", { type: "system", content: "x", timestamp: "yesterday" }, []],
  ])("%s", (_, record, expected) => {
    expect(texts(record)).toEqual(expected)
  })

  it("no more than a screen, whatever a tool gave", () => {
    const [line] = texts(content("user", { type: "tool_result", content: "x".repeat(100_000) }))
    expect(line?.length).toBeLessThan(600)
  })
})
