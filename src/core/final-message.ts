import type { Marker } from "./beat.ts"

/**
 * What the last message of an iteration states about itself. Models quote their prompt, show code
 * and write about markers, so a marker counts only where a reader of the Markdown would take it for
 * the model's own statement.
 */

/** A line that is nothing but the promise; emphasis and a full stop do not change what it says. */
const promise = /^ {0,3}(?:\*{1,3}|_{1,3})?<promise>COMPLETE<\/promise>(?:\*{1,3}|_{1,3})?[.!]?\s*$/

/** A line that begins with its status, as a heading, a list item or in bold, too. */
const status =
  /^ {0,3}(?:#{1,6}\s+|[-*+]\s+|\d{1,3}[.)]\s+)?[*_]{0,3}(?:Status|STATUS)[*_]{0,3}:[*_]{0,3}\s*[*_`]{0,3}(?<word>BLOCKED|PARTIAL|COMPLETED?|DONE)\b(?<rest>.*)$/

/** Behind the word: a choice of words as in a prompt's template, or a sentence about the word. */
const aboutTheWord =
  /^[*_`]*\s*(?:[|/?]|(?:or|is|was|would|means|if|when|unless|only|does|should|must)\b)/i

/**
 * In front of a marker: a line that announces what others say, or what is not or not yet so, and
 * ends in a colon.
 */
const announcement =
  /(?:\b(?:not|never|cannot|without|until|unless|once|if|when|would|will|say(?:s|ing)?|said|reads?|quot\w+|example|e\.g\.)\b|n['’]t\b)[^.!?]*:[*_]*\s*$/i

/**
 * A line that breaks off where a sentence cannot end: the marker on the next line is part of that
 * sentence.
 */
const unfinished =
  /(?:\b(?:not|never|cannot|without|instead of|until|unless|say(?:s|ing)?|said|reads|with|output(?:s|ting)?|print(?:s|ing)?|writ(?:e|es|ing)|emit(?:s|ting)?|a|an|the)|n['’]t)\s*$/i

/** How such a sentence goes on behind the marker. */
const continuation = /^\s*(?:is|was|would|means|only|when|once|until|unless|if|yet)\b/

/** Tags between which a text quotes something; `untrusted-…` is our own fence around mail. */
const quotingTag =
  /^\s*<(?<close>\/?)(?<name>(?:untrusted(?:-\w+)?|blockquote|quote|pre|code|prompt|example))>\s*$/

interface Line {
  readonly text: string
  /** Neither code nor quoted as a block. */
  readonly spoken: boolean
}

/** The marker that the text states last, or NONE. Takes time in proportion to the text. */
export function markerOf(text: string): Marker {
  const lines = spokenLines(
    text.replace(/<promise>\s*COMPLETE\s*<\/promise>/g, "<promise>COMPLETE</promise>"),
  )
  const quoted = quotedLines(lines)
  let marker: Marker = "NONE"
  for (const [index, line] of lines.entries()) {
    const word = line.spoken && !quoted[index] ? statedIn(line.text) : undefined
    if (word === undefined || isPartOfSentence(lines, index)) continue
    // "Status: COMPLETE" promises nothing, but it is a later word than "Status: BLOCKED".
    if (word !== "NONE" || marker !== "COMPLETE") marker = word
  }
  return marker
}

/** What one line states by itself; undefined when it is no status line. */
function statedIn(line: string): Marker | undefined {
  if (promise.test(line)) return "COMPLETE"
  const { word, rest = "" } = status.exec(line)?.groups ?? {}
  if (word === undefined || aboutTheWord.test(rest)) return undefined
  return word === "BLOCKED" || word === "PARTIAL" ? word : "NONE"
}

/**
 * Splits into lines, and tells those in fenced or indented code, block quotes, comments and quoting
 * tags from the others.
 */
function spokenLines(text: string): readonly Line[] {
  let fence: string | undefined
  let comment = false
  const open: string[] = []
  return text.split(/\r\n|[\n\r\u2028\u2029]/).map((line) => {
    if (fence !== undefined) {
      const closing = /^[\s>]*(?<mark>`{3,}|~{3,})\s*$/.exec(line)?.groups?.mark
      if (closing?.startsWith(fence)) fence = undefined
      return { text: line, spoken: false }
    }
    // A fence may stand in a list item or a block quote. Behind an opening one made of backticks
    // there is no further backtick.
    const opening = /^[\s>]*(?:(?:[-*+]|\d{1,3}[.)])\s+)?(?<mark>`{3,}(?=[^`]*$)|~{3,})/.exec(line)
      ?.groups?.mark
    if (opening !== undefined) {
      fence = opening
      return { text: line, spoken: false }
    }
    const commented = comment || line.includes("<!--")
    if (commented)
      comment =
        line.lastIndexOf("-->") < line.lastIndexOf("<!--") || (comment && !line.includes("-->"))
    const tag = quotingTag.exec(line)?.groups
    if (tag?.close === "") open.push(tag.name ?? "")
    const inTag = open.length > 0
    if (tag?.close === "/" && open.at(-1) === tag.name) open.pop()
    return { text: line, spoken: !commented && !inTag && !/^(?: {0,3}>|\s*\t| {4})/.test(line) }
  })
}

const pairs = [
  ["“", "”"],
  ["„", "“"],
  ["«", "»"],
] as const

/** True for lines between a quotation mark that was opened before and is closed behind them. */
function quotedLines(lines: readonly Line[]): readonly boolean[] {
  // In code, marks are part of the code; one on an inch or a minute has no partner behind the
  // marker.
  const spoken = lines.map((line) => (line.spoken ? line.text.replace(/`[^`]*`/g, "") : ""))
  const quoted = lines.map(() => false)
  const mark = (
    isOpen: (text: string, open: boolean) => boolean,
    closesIn: (text: string) => boolean,
  ): void => {
    const lastClosing = spoken.findLastIndex(closesIn)
    let open = false
    for (const [index, text] of spoken.entries()) {
      if (open && index < lastClosing) quoted[index] = true
      open = isOpen(text, open)
    }
  }
  mark(
    (text, open) => open !== (text.split('"').length % 2 === 0),
    (text) => text.includes('"'),
  )
  for (const [begin, end] of pairs)
    mark(
      (text, open) =>
        text.includes(begin) || text.includes(end)
          ? text.lastIndexOf(begin) > text.lastIndexOf(end)
          : open,
      (text) => text.includes(end),
    )
  return quoted
}

/** As much of a line as is looked at for the end of a sentence. */
const sentenceCharacters = 300

/**
 * True for a line that belongs to a sentence of the lines around it, which says something about the
 * marker.
 */
function isPartOfSentence(lines: readonly Line[], index: number): boolean {
  const endOf = (at: number): string => lines[at]?.text.slice(-sentenceCharacters) ?? ""
  const above = endOf(index - 1)
  if (unfinished.test(above) || continuation.test(lines[index + 1]?.text ?? "")) return true
  return announcement.test(above.trim() === "" ? endOf(index - 2) : above)
}
