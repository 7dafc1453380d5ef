import { redacted, withoutWordsOf, wordsWith } from "./secrets.ts"

/**
 * The one choke point through which every result passes: secrets out, control characters out,
 * untrusted text fenced.
 */

// ANSI escape sequences (CSI and OSC), then the rest of C0, DEL and C1; tab and newline stay.
// biome-ignore lint/suspicious/noControlCharactersInRegex: taking them out is what this file is for
const ansi = /\u001b(?:\[[0-?]*[ -/]*[@-~]|\][^\u0007\u001b]*(?:\u0007|\u001b\\)?|[@-Z\\-_])/g
// biome-ignore lint/suspicious/noControlCharactersInRegex: as above
const controls = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/g

/**
 * What nobody sees and a model reads all the same: all format characters (Cf: zero-width,
 * bidirectional, tags), what Unicode lets fonts ignore (variation selectors, fillers), and its own
 * ends of lines and paragraphs.
 */
const invisible = /[\p{Cf}\p{Default_Ignorable_Code_Point}\p{Zl}\p{Zp}]/u
const invisibles = new RegExp(invisible, "gu")
/**
 * Letters and marks of the scripts in which a joiner or its absence changes how a word is written.
 */
const joiningScripts = [
  "Arab",
  "Syrc",
  "Deva",
  "Beng",
  "Guru",
  "Gujr",
  "Orya",
  "Taml",
  "Telu",
  "Knda",
  "Mlym",
  "Sinh",
]
const joining = `[[\\p{L}\\p{M}]&&[${joiningScripts.map((script) => `\\p{scx=${script}}`).join("")}]]`
/**
 * What ordinary text needs of them, one at each place: the joiner inside an emoji, its variant, and
 * joiners between letters that join.
 */
const needed = new RegExp(
  [
    "(?<=\\p{Extended_Pictographic}[\\ufe0f\\u{1f3fb}-\\u{1f3ff}]?)\\u200d(?=\\p{Extended_Pictographic})",
    "(?<=[\\p{Emoji}--[0-9#*]])[\\ufe0e\\ufe0f]|(?<=[0-9#*])\\ufe0f(?=\\u20e3)",
    `(?<=${joining})[\\u200c\\u200d](?=${joining})`,
  ].join("|"),
  "vg",
)

/**
 * Without what moves a cursor, colours a terminal, reorders a line, or is not seen. Half a
 * surrogate pair becomes U+FFFD.
 */
export function stripped(text: string): string {
  const printed = text.toWellFormed().replace(ansi, "").replace(controls, "")
  if (!invisible.test(printed)) return printed
  const kept = new Set(Array.from(printed.matchAll(needed), ({ index }) => index))
  return printed.replace(invisibles, (character, index: number) => {
    if (kept.has(index)) return character
    return character === "\u2028" || character === "\u2029" ? "\n" : ""
  })
}

/**
 * Text that is what it looks like, and gives no secret away: what could hide one is taken out
 * first. JSON would carry half a surrogate pair, and the model's service then refuses all of it.
 */
export const clean = (text: string): string => redacted(stripped(text))

/** A longer cluster is a pile of marks that nobody reads: it is cut between two of them. */
const clusterMax = 64
/**
 * How far back the clusters before a cut are looked at: in a longer row of flags, two halves may be
 * taken for one.
 */
const lookBackMax = 4096
/** Below it are no marks or surrogates: but for CR LF, each character stands for itself. */
const firstMark = 0x300

let clusters: Intl.Segmenter | undefined
const clustersOf = (text: string): Intl.Segments => {
  clusters ??= new Intl.Segmenter("en", { granularity: "grapheme" })
  return clusters.segment(text)
}
const isPair = (text: string, at: number): boolean =>
  /^[\ud800-\udbff][\udc00-\udfff]$/.test(text.slice(at - 1, at + 1))
/**
 * The last place of at most `max` at which a text may be cut: between two characters as people see
 * them (Unicode's grapheme clusters).
 */
function cutAt(text: string, max: number): number {
  if (max >= text.length) return text.length
  if (max <= 0) return 0
  const [before, after] = [text.charCodeAt(max - 1), text.charCodeAt(max)]
  if (before < firstMark && after < firstMark && after !== 10) return max
  const from = Math.max(0, max - lookBackMax)
  const start =
    from + (clustersOf(text.slice(from, max + clusterMax)).containing(max - from)?.index ?? 0)
  if (max - start <= clusterMax) return start
  return isPair(text, max) ? max - 1 : max
}

/**
 * The first characters of a text, at most `max` UTF-16 units of them; none is cut in two. All text
 * that is cut is cut here.
 */
export const cut = (text: string, max: number): string =>
  text.length <= max ? text.toWellFormed() : text.slice(0, cutAt(text, max)).toWellFormed()

/** An end of at most that, but behind the first character. */
function withoutHalf(text: string, start: number, end: number): number {
  if (!isPair(text, end)) return end
  return end - 1 > start ? end - 1 : end + 1
}

/**
 * A text in parts of at most `max` UTF-16 units, none of which begins inside a character but where
 * one alone is larger.
 */
export function partsOf(text: string, max: number): readonly string[] {
  if (text.length <= max) return [text]
  const parts: string[] = []
  for (let start = 0; start < text.length; ) {
    const whole = start + cutAt(text.slice(start, start + max + clusterMax), max)
    const end = whole > start ? whole : withoutHalf(text, start, start + max)
    parts.push(text.slice(start, end))
    start = end
  }
  return parts
}

/** The characters of a text, as people see them. */
export const charactersOf = (text: string): readonly string[] =>
  /^[ -~]*$/.test(text) ? text.split("") : Array.from(clustersOf(text), ({ segment }) => segment)

/**
 * At most `max` characters, cleaned before a cut could leave a part of a secret; says how much was
 * cut.
 */
export function bounded(given: string, max: number): string {
  const text = clean(given)
  if (text.length <= max) return text
  const kept = cut(text, max)
  return `${kept}… [${counted(text.length - kept.length, "more character")}]`
}

/**
 * How many of these, the first ones first, fit into so many bytes, of JSON unless `render` says
 * otherwise: at least one.
 */
export function countWithin<T>(
  items: readonly T[],
  bytesMax: number,
  render: (item: T) => string = (item) => JSON.stringify(item),
): number {
  const encoder = new TextEncoder()
  let bytes = 0
  const firstBeyond = items.findIndex((item) => {
    bytes += encoder.encode(render(item)).length + 1
    return bytes > bytesMax
  })
  return firstBeyond < 0 ? items.length : Math.max(1, firstBeyond)
}

/** `a, b, c and 5 more`. */
export function listed(items: readonly string[], max: number): string {
  const shown = items.slice(0, max).join(", ")
  return items.length > max ? `${shown} and ${items.length - max} more` : shown
}

/**
 * What an answer has not room for: `Left out: older messages.`; undefined where that is nothing.
 */
export const leftOut = (parts: readonly string[]): string | undefined =>
  parts.length > 0 ? `Left out: ${parts.join("; ")}.` : undefined

/**
 * Text of somebody who gives no orders here. The nonce, new for each result, cannot be forged by
 * the text.
 */
export const fenced = (text: string, nonce: string): string =>
  `<untrusted-${nonce}>\n${text}\n</untrusted-${nonce}>`

/** The text that such a fence is around; undefined for any other. */
export const insideFence = (text: string): string | undefined =>
  /^<untrusted-(\w+)>\n([\s\S]*)\n<\/untrusted-\1>$/.exec(text)?.[2]

/**
 * Our words, and beside them what others said, in quotation marks: as one text for a table or a
 * line.
 */
export const withSaid = (ours: string, untrusted: string | undefined): string =>
  untrusted === undefined ? ours : `${ours} Said: "${untrusted}"`

/**
 * A result without its undefined fields, and every string of it cleaned, also of words that begin
 * with one of `prefixes`; those under a key named `untrusted`, at any depth, fenced as well.
 * `reveals`: the top field that is left as it is.
 */
export function presented<T>(
  value: T,
  nonce: string,
  reveals?: string,
  prefixes: readonly string[] = [],
): T {
  const secretWords = wordsWith(prefixes)
  const shownText = (text: string): string => withoutWordsOf(clean(text), secretWords)
  const walk = (node: unknown, fence: boolean): unknown => {
    if (typeof node === "string") return fence ? fenced(shownText(node), nonce) : shownText(node)
    if (Array.isArray(node)) return node.map((item) => walk(item, fence))
    if (node === null || typeof node !== "object") return node
    return Object.fromEntries(
      Object.entries(node).flatMap(([name, inner]) =>
        inner === undefined ? [] : [[name, walk(inner, fence || name === "untrusted")]],
      ),
    )
  }
  const kept = reveals !== undefined && typeof value === "object" ? Object.entries(value ?? {}) : []
  const shown = kept.filter(([name]) => name === reveals)
  const walked = walk(value, false)
  // Same shape: only the contents of strings change.
  return (shown.length > 0 ? { ...(walked as object), ...Object.fromEntries(shown) } : walked) as T
}

/** A word as a POSIX shell reads it back. */
export const shellWord = (text: string): string =>
  /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`

/** `1 commit`, `2 commits`. */
export const counted = (count: number, one: string, many = `${one}s`): string =>
  `${count} ${count === 1 ? one : many}`

/** One line of at most `max` characters. */
export const oneLine = (text: string, max: number): string => {
  const line = clean(text).replace(/\s+/g, " ").trim()
  return line.length <= max ? line : `${cut(line, max - 1)}…`
}

/** `41 s` below two minutes, then minutes, hours, days: as people say it. */
export function spanOf(ms: number): string {
  const seconds = Math.max(0, Math.round(ms / 1000))
  if (seconds < 120) return `${seconds} s`
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`
  if (seconds < 172_800) return `${Math.round(seconds / 3600)} h`
  return `${Math.round(seconds / 86_400)} days`
}
