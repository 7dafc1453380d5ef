import fc from "fast-check"
import { describe, expect, it } from "vitest"
import type { Marker } from "../../src/core/beat.ts"
import { markerOf } from "../../src/core/final-message.ts"

const promise = "<promise>COMPLETE</promise>"

describe("a marker in the last message of an iteration", () => {
  it.each<[Marker, string]>([
    ["COMPLETE", promise],
    ["COMPLETE", `All done.\n${promise}`],
    ["COMPLETE", `All done.\r\n\r\n**${promise}**\r\n`],
    ["COMPLETE", "All done.\n<promise> COMPLETE\n</promise>"],
    ["COMPLETE", `Everything passes, so:\n${promise}`],
    ["COMPLETE", `\`\`\`sh\nnpm test\n\`\`\`\n${promise}`],
    ["COMPLETE", `It prints "ready".\n${promise}\nThe log is in "out.txt".`],
    ["COMPLETE", `The label measures 5" across.\n${promise}`],
    ["COMPLETE", `Status: PARTIAL\n\nNow the rest is done, too.\n\n${promise}\nStatus: COMPLETE`],
    ["BLOCKED", "Status: BLOCKED, the key is missing"],
    ["BLOCKED", "Status: BLOCKED until somebody gives me a key"],
    ["BLOCKED", "I have no key.\n\n**Status:** BLOCKED"],
    ["BLOCKED", "**Status: BLOCKED** - no key"],
    ["BLOCKED", "## Status: BLOCKED"],
    ["BLOCKED", "- **Status**: `BLOCKED`"],
    ["BLOCKED", `${promise}\nWait, the tests fail.\nStatus: BLOCKED`],
    ["PARTIAL", "Status:PARTIAL"],
    ["PARTIAL", "STATUS: PARTIAL"],
    ["PARTIAL", "1. Status: PARTIAL"],
    ["PARTIAL", "Status: BLOCKED\nA key turned up.\nStatus: PARTIAL"],
  ])("states %s: %j", (marker, text) => {
    expect(markerOf(text)).toBe(marker)
  })

  it.each<[string, string]>([
    ["nothing", ""],
    ["the bare word", "COMPLETE"],
    ["in a sentence", `I could say ${promise} now.`],
    ["negated in its line", `I am NOT outputting ${promise}`],
    ["negated in the line above", `I am not outputting\n${promise}\nyet.`],
    ["announced as not so", `This I will not say:\n\n${promise}`],
    ["announced for later", `Once all tests pass I will answer:\n\n${promise}`],
    ["said by the prompt", `The prompt says:\n\n${promise}`],
    ["the subject of a sentence", `${promise}\nis what I shall say at the end.`],
    ["a status that somebody else has", "The index says Status: BLOCKED for issue 3."],
    [
      "a status that somebody else has, over two lines",
      "The index still says\nStatus: BLOCKED for issue 3.",
    ],
    ["a status that is talked about", "Status: BLOCKED is what the index says."],
    ["a negated status", "This is not Status: BLOCKED."],
    ["a choice", "Status: BLOCKED | PARTIAL"],
    ["another choice", "**Status:** PARTIAL/BLOCKED"],
    ["a longer word", "Status: BLOCKEDISH"],
    ["in other letters", "status: blocked"],
    ["in inline code", `\`${promise}\``],
    ["in a fence", `\`\`\`\n${promise}\nStatus: BLOCKED\n\`\`\``],
    ["in a fence with a language", `~~~text\n${promise}\n~~~`],
    ["in a fence inside a longer fence", `\`\`\`\`md\n\`\`\`\nx\n\`\`\`\n${promise}\n\`\`\`\``],
    ["in a fence that is never closed", `\`\`\`\n${promise}`],
    ["in a fence of a list item", `1. like this\n   \`\`\`\n   ${promise}\n   \`\`\``],
    ["in indented code", `As in\n\n    ${promise}`],
    ["in code indented by a tab", `As in\n\n\tStatus: BLOCKED`],
    ["in a block quote", `> ${promise}`],
    ["in a nested block quote", `> > Status: BLOCKED`],
    ["in quotes", `"${promise}"`],
    [
      "in a quotation of several lines",
      `You wrote "When it is done, answer\n${promise}\nand stop".`,
    ],
    ["in a quotation of several paragraphs", `You wrote: “Work.\n\n${promise}\n\nThen stop.”`],
    ["in a German quotation", `Dort steht: „Am Ende\n\nStatus: BLOCKED\n\nund Schluss“`],
    ["in our fence around mail", `<untrusted-1a2b>\n${promise}\n</untrusted-1a2b>`],
    ["in a comment", `<!--\n${promise}\n-->`],
  ])("states nothing %s", (_where, text) => {
    expect(markerOf(text)).toBe("NONE")
  })

  /** Prose of which no line can be taken for a marker, for code or for quoting. */
  const prose = fc
    .array(fc.stringMatching(/^[A-Z][a-z ,]{0,30}\.$/), { maxLength: 6 })
    .map((lines) => lines.join("\n"))
  const marker = fc.constantFrom<[Marker, string]>(
    ["COMPLETE", promise],
    ["BLOCKED", "Status: BLOCKED"],
    ["PARTIAL", "**Status:** PARTIAL"],
    ["BLOCKED", "### Status: BLOCKED"],
  )
  const wrapping = fc.constantFrom<(text: string) => string>(
    (text) => `\`\`\`\n${text}\n\`\`\``,
    (text) => `~~~~ md\n${text}\n~~~~`,
    (text) => text.replace(/^/gm, "> "),
    (text) => text.replace(/^/gm, "    "),
    (text) => `"${text}"`,
    (text) => `“\n${text}\n”`,
    (text) => `<untrusted-0f>\n${text}\n</untrusted-0f>`,
    (text) => `I do not say\n${text}`,
  )

  it("is the last one stated, whatever stands around it", () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(prose, marker), { minLength: 1, maxLength: 4 }),
        prose,
        (parts, after) => {
          const text =
            parts.map(([before, [, line]]) => `${before}\n\n${line}\n\n`).join("") + after
          expect(markerOf(text)).toBe(parts.at(-1)?.[1][0])
        },
      ),
    )
  })

  it("is never one that is only shown or quoted", () => {
    fc.assert(
      fc.property(prose, marker, wrapping, prose, (before, [, line], wrap, after) => {
        expect(markerOf(`${before}\n\n${wrap(line)}\n\n${after}`)).toBe("NONE")
      }),
    )
  })

  it("is the stated one where others are shown or quoted behind it", () => {
    fc.assert(
      fc.property(marker, prose, marker, wrapping, ([stated, line], between, [, other], wrap) => {
        expect(markerOf(`${line}\n\n${between}\n\n${wrap(other)}\n`)).toBe(stated)
      }),
    )
  })

  it("is read from any text without an error, and a text may be large", () => {
    fc.assert(
      fc.property(
        fc.array(
          fc.constantFrom(
            "```",
            "> ",
            '"',
            "“",
            "<!--",
            "-->",
            "<pre>",
            "</pre>",
            promise,
            "Status: BLOCKED",
            "\n",
            " ",
            "x",
          ),
        ),
        (parts) => {
          expect(["COMPLETE", "BLOCKED", "NONE"]).toContain(markerOf(parts.join("")))
        },
      ),
    )
    expect(markerOf(`${'> `"“ Status: \n'.repeat(300_000)}${promise}`)).toBe("COMPLETE")
    expect(markerOf(`${"when ".repeat(600_000)}\n\n${promise}`)).toBe("COMPLETE")
    expect(markerOf(`${" ".repeat(3_000_000)}\n${"*".repeat(3_000_000)}\n${promise}`)).toBe(
      "COMPLETE",
    )
  })
})
