import * as fc from "fast-check"
import { describe, expect, it } from "vitest"
import {
  choose,
  contextCharactersMax,
  opening,
  openingPartsMax,
  renderMail,
} from "../../src/core/delivery.ts"
import { goalSchema } from "../../src/core/instance.ts"
import type { Mail } from "../../src/core/mail.ts"
import {
  bounded,
  charactersOf,
  clean,
  countWithin,
  cut,
  oneLine,
  partsOf,
  presented,
} from "../../src/core/view.ts"

/**
 * Text that is cut, at every place: people and models see whole characters, and nothing that JSON
 * or the model's service refuses.
 */

const clusters = new Intl.Segmenter("en", { granularity: "grapheme" })
const segments = (text: string): string[] =>
  Array.from(clusters.segment(text), ({ segment }) => segment)

const character = fc.constantFrom(
  ...[
    "a",
    " ",
    "\n",
    "\r\n",
    "é",
    "e\u0301",
    "ß",
    "中",
    "😀",
    "👍🏽",
    "👨‍👩‍👧‍👦",
    "🏳️‍🌈",
    "🇨🇭",
    "🇩🇪",
    "한",
    "க்ஷி",
    "\u0301",
    "\u200d",
  ],
)
const text = fc.string({
  unit: fc.oneof(character, fc.constantFrom("\ud83d", "\udc4d")),
  maxLength: 30,
})
const wholeText = fc.string({ unit: character, maxLength: 30 })

describe("a text that is cut", () => {
  it("is whole characters of its own beginning, at every offset", () => {
    fc.assert(
      fc.property(wholeText, (whole) => {
        const all = segments(whole)
        for (let max = 0; max <= whole.length + 1; max++) {
          const kept = cut(whole, max)
          expect(kept.length).toBeLessThanOrEqual(max)
          expect(all.slice(0, segments(kept).length).join("")).toBe(kept)
          // As much as fits: the next character would be too much.
          expect((kept + (all[segments(kept).length] ?? "")).length > max || kept === whole).toBe(
            true,
          )
        }
      }),
      { numRuns: 300 },
    )
  })

  it("never has half a surrogate pair, whatever it had before", () => {
    fc.assert(
      fc.property(text, fc.nat(40), (some, max) => {
        for (const result of [
          cut(some, max),
          oneLine(some, max),
          clean(some),
          clean(bounded(some, max)),
        ])
          expect(result.isWellFormed()).toBe(true)
        const shown = presented({ untrusted: some, list: [{ why: some }] }, "n1")
        expect(
          JSON.stringify(shown).isWellFormed() && !/\\ud[89a-f]/.test(JSON.stringify(shown)),
        ).toBe(true)
        expect(oneLine(some, max).length).toBeLessThanOrEqual(Math.max(1, max))
      }),
      { numRuns: 500 },
    )
  })

  it("is cut between code points where one character is a pile of marks", () => {
    const pile = `a${"\u0301".repeat(5000)}`
    expect(cut(pile, 1000)).toHaveLength(1000)
    expect(cut(`😀${"\u200d😀".repeat(5000)}`, 1000).isWellFormed()).toBe(true)
  })

  it("takes no time that grows with what is not looked at", () => {
    // Quadratic work would not end before the test does.
    const long = "👨‍👩‍👧‍👦e\u0301".repeat(150_000)
    expect(partsOf(long, 1000).join("")).toBe(long)
  })
})

describe("a text in parts", () => {
  it("is the same text, in parts that fit and begin with a whole character", () => {
    fc.assert(
      fc.property(wholeText, fc.integer({ min: 1, max: 40 }), (whole, max) => {
        const parts = partsOf(whole, max)
        expect(parts.join("")).toBe(whole)
        for (const part of parts) {
          expect(part.length <= Math.max(2, max)).toBe(true)
          expect(part.isWellFormed()).toBe(true)
        }
        if (segments(whole).every((one) => one.length <= max))
          expect(parts.flatMap(segments)).toEqual(segments(whole))
      }),
      { numRuns: 500 },
    )
  })

  it("knows its characters as people see them", () => {
    expect(charactersOf("ab")).toEqual(["a", "b"])
    expect(charactersOf("e\u0301👨‍👩‍👧‍👦🇨🇭")).toEqual(["e\u0301", "👨‍👩‍👧‍👦", "🇨🇭"])
  })
})

describe("what a model is told", () => {
  const goal = (unit: string): string => {
    const bytes = Buffer.byteLength(unit)
    return goalSchema.parse(unit.repeat(Math.floor(16_384 / bytes)))
  }
  it.each(["a", "é", "😀", "👨‍👩‍👧‍👦", "🇨🇭", "e\u0301"])(
    "of a goal of %s, comes in parts that reach it whole",
    (unit) => {
      const orders = Array.from({ length: 20 }, (_, index) => ({
        id: `o-${index}`,
        text: "x".repeat(500),
      }))
      const { parts } = opening({ goal: goal(unit), orders })
      expect(parts.length).toBeGreaterThan(1)
      expect(parts.length).toBeLessThanOrEqual(openingPartsMax)
      for (const part of parts) {
        expect(part.length).toBeLessThanOrEqual(contextCharactersMax)
        expect(part.isWellFormed()).toBe(true)
      }
      const together = parts.map((part) => part.replace(/^\[.*?\]\n/, "")).join("")
      expect(segments(together).filter((one) => one === unit).length).toBeGreaterThanOrEqual(
        goal(unit).length / unit.length - 1,
      )
    },
  )

  it("in a mail has no half of a pair", () => {
    const mail: Mail = {
      id: "m-1",
      from: "instance a",
      authority: "peer",
      text: "a\ud83d",
      urgency: "now",
      atMs: 1,
    }
    expect(renderMail(mail, "n1").isWellFormed()).toBe(true)
    expect(choose([mail], "Stop")).toEqual([mail])
  })
})

describe("a list that is cut by bytes", () => {
  it("has as many of the first as fit, and one at least", () => {
    fc.assert(
      fc.property(fc.array(text, { maxLength: 10 }), fc.nat(200), (items, bytesMax) => {
        const count = countWithin(items, bytesMax)
        const bytes = (some: readonly string[]): number =>
          some.reduce((sum, item) => sum + Buffer.byteLength(JSON.stringify(item)) + 1, 0)
        if (items.length > 0) expect(count).toBeGreaterThan(0)
        if (count > 1) expect(bytes(items.slice(0, count))).toBeLessThanOrEqual(bytesMax)
        if (count < items.length) expect(bytes(items.slice(0, count + 1))).toBeGreaterThan(bytesMax)
      }),
    )
  })
})
