/**
 * What looks like a credential, and is replaced wherever text leaves: linear in the text's length,
 * whatever it says.
 */

/**
 * What our own tokens begin with, so that this file and scanners of repositories know one when they
 * see it: of people,
 */
export const tokenPrefix = "bb5_"
/** the machine's, */
export const machineTokenPrefix = "bb5m_"
/** a supervisor's port's, */
export const portTokenPrefix = "bb5p_"
/** and a run's credential. */
export const credentialPrefix = "bb5c_"

const gone = "[redacted]"

/**
 * Where a word begins: also behind an escape of JSON or of a URL, whose last letter belongs to it
 * and not to the word.
 */
const start = String.raw`(?<![A-Za-z0-9](?<!\\[bfnrtv]|%[0-9A-Fa-f]{2}))`
/** Where a text was cut, maybe in the middle of a secret: then a part of one counts. */
const cutOff = "(?=$|…)"
const any = "[A-Za-z0-9_-]"
const word = "[A-Za-z0-9]"

/** Published prefixes, each with the characters that follow it and how many there are at least. */
const prefixed: readonly (readonly [prefix: string, characters: string, min: number])[] = [
  ["bb5[a-z]?_", "[A-Za-z0-9_.-]", 20],
  ["sk-ant-", any, 8],
  ["(?:gh[pousr]|hf)_", word, 20],
  ["github_pat_", "[A-Za-z0-9_]", 20],
  // GitLab: personal, trigger, deploy, runner, job, agent, feed, mail, OAuth and feature-flag
  // tokens.
  ["gl(?:pat|ptt|dt|rt|rtr|cbt|agent|ft|imt|soat|oas|ffct)-", "[A-Za-z0-9_.-]", 16],
  ["npm_", word, 30],
  ["(?:AKIA|ASIA)", "[A-Z0-9]", 16],
  ["xox[abceprs]-", "[A-Za-z0-9-]", 10],
  ["xapp-", "[A-Za-z0-9-]", 10],
  ["AIza", any, 35],
  ["GOCSPX-", any, 20],
  ["ya29\\.", any, 20],
  ["(?:[sr]k|pk)_(?:live|test)_", word, 10],
  ["whsec_", "[A-Za-z0-9+/=]", 20],
  ["pypi-", any, 50],
  ["dckr_pat_", any, 20],
  ["dop_v1_", word, 40],
  ["hvs\\.", any, 20],
  ["lin_api_", word, 30],
  ["AGE-SECRET-KEY-1", "[A-Z0-9]", 40],
]
const words = new RegExp(
  `${start}(?:${[
    ...prefixed.map(
      ([prefix, characters, min]) => `${prefix}(?:${characters}{${min},}|${characters}*${cutOff})`,
    ),
    `sk-(?:${any}{20,}|(?=[a-z_-]*[A-Z0-9])${any}{4,}${cutOff})`,
    // SendGrid.
    `SG\\.(?:${any}{16,64}\\.${any}{16,}|${any}{1,64}(?:\\.${any}{0,15})?${cutOff})`,
    // Telegram.
    `[0-9]{8,10}:AA(?:${any}{30,}|${any}*${cutOff})`,
  ].join("|")})`,
  "g",
)
/**
 * A JSON Web Token: its first part is a JSON object. It begins where a run of its characters does,
 * so that each run is gone through once.
 */
const webToken = new RegExp(
  String.raw`(?<![A-Za-z0-9_-](?<!\\[bfnrtv]|%[0-9A-Fa-f]{2}))eyJ${any}{8,}(?:\.[A-Za-z0-9_.-]{4,}|\.?[A-Za-z0-9_-]{0,3}${cutOff})`,
  "g",
)
/** A bot's token stands in its URLs behind a word. */
const telegram = /(?<=\/bot)[0-9]{8,10}:[A-Za-z0-9_-]{30,}/g

/** `"`, `\"`, `=`, `: ` and the like, between the name of a thing and the thing. */
const between = String.raw`\\?["']?\s{0,4}[:=]\s{0,4}\\?["']?`
/** What stays is the first group: it says of what kind the secret was. */
const behind: readonly RegExp[] = [
  new RegExp(`(\\bbearer\\s{1,4})(?:[A-Za-z0-9._~+/-]{16,}=*|[A-Za-z0-9._~+/-]+${cutOff})`, "gi"),
  new RegExp(`(authorization${between}basic\\s{1,4})[A-Za-z0-9+/_-]{4,}=*`, "gi"),
  new RegExp(`((?:secret_?access_?key|session_?token)${between})[A-Za-z0-9/+=_-]{16,}`, "gi"),
  /(hooks\.slack\.com\\?\/services\\?\/)[A-Za-z0-9/\\]{16,}/g,
]

/**
 * User and password of a URL; its host stays. A user alone is a name, such as git's. The end of a
 * text may have cut the host off, but a port is none.
 */
const inUrls = new RegExp(
  String.raw`(?<=:\\?\/\\?\/)[^\s/?#@:"'<>\\]{0,128}:(?:[^\s/?#"'<>\\]{1,256}(?=@)|(?![0-9]{1,5}${cutOff})[^\s/?#@"'<>\\…]{1,256}${cutOff})`,
  "g",
)

const keyEdges = /-{4,5} ?(BEGIN|END) [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)? ?-{4,5}/g
/** Longer than any private key. */
const keyCharactersMax = 20_000
const stamp = String.raw`\d{4}-\d\d-\d\dT[\d:.]{8,12}Z `
/**
 * What may stand in a key whose end is not there: base64, also with escaped ends of lines, the
 * moments of log lines, headers.
 */
const keyBody = new RegExp(
  String.raw`(?:${stamp}|(?:Proc-Type|DEK-Info|Version|Comment|Hash|Charset): [^\n"\\]{0,200}|[A-Za-z0-9+/=\s\\])*`,
  "y",
)
const keyLine = new RegExp(String.raw`^(?:${stamp})?[A-Za-z0-9+/=\s\\]*$`)

/**
 * Where the body of a key begins whose first lines were cut off, and whose last line ends a text.
 */
function bodyBefore(text: string): number {
  let at = text.length
  while (at > 0) {
    const lineStart = at < 2 ? 0 : text.lastIndexOf("\n", at - 2) + 1
    const line = text.slice(lineStart, at)
    if (!keyLine.test(line))
      return at - (/[A-Za-z0-9+/=\\]*\s?$/.exec(line.slice(-200))?.[0].length ?? 0)
    at = lineStart
  }
  return at
}

/**
 * Private keys of all kinds (PEM, OpenSSH, PGP), also without their end or their beginning.
 * `keepsLines`: of each there are as many lines as before.
 */
function withoutKeys(text: string, keepsLines = false): string {
  if (!text.includes("PRIVATE KEY")) return text
  const edges = [...text.matchAll(keyEdges)]
  let kept = ""
  let from = 0
  const drop = (first: number, last: number): void => {
    const lines = keepsLines ? text.slice(first, last).split("\n").length - 1 : 0
    kept += `${text.slice(from, first)}${gone}${"\n".repeat(lines)}`
    from = last
  }
  let next = 0
  for (const { 0: words, 1: kind, index } of edges) {
    if (index < from) continue
    const after = index + words.length
    if (kind === "END") {
      const first = Math.max(from, index - keyCharactersMax)
      drop(first + bodyBefore(text.slice(first, index)), after)
      continue
    }
    while (next < edges.length && (edges[next]?.[1] !== "END" || (edges[next]?.index ?? 0) < after))
      next++
    const end = edges[next]
    keyBody.lastIndex = after
    if (end && end.index - after <= keyCharactersMax) drop(index, end.index + end[0].length)
    else drop(index, after + (keyBody.exec(text)?.[0].length ?? 0))
  }
  return kept + text.slice(from)
}

const withoutWords = (text: string): string =>
  behind
    .reduce((kept, pattern) => kept.replace(pattern, `$1${gone}`), text)
    .replace(words, gone)
    .replace(webToken, gone)
    .replace(telegram, gone)
    .replace(inUrls, gone)

/**
 * The text with `[redacted]` for what looks like a credential. What would hide one in it has to be
 * taken out before.
 */
export const redacted = (text: string): string => withoutWords(withoutKeys(text))

/** The same of lines, one of which may begin a key that a later one ends. */
export function redactedLines(lines: readonly string[]): readonly string[] {
  const text = lines.map((line) => line.replaceAll("\n", " ")).join("\n")
  return withoutKeys(text, true).split("\n").map(withoutWords)
}

/**
 * Each word that begins with one of these, whatever is behind it: `[redacted]`. Undefined where
 * there are none.
 */
export function wordsWith(prefixes: readonly string[]): RegExp | undefined {
  if (prefixes.length === 0) return undefined
  const literal = prefixes.map((prefix) => prefix.replace(/[\\^$.*+?()[\]{}|/-]/g, "\\$&"))
  return new RegExp(`${start}(?:${literal.join("|")})[^\\s"'\`<>(){}\\[\\],;\\\\…]*`, "g")
}
export const withoutWordsOf = (text: string, pattern: RegExp | undefined): string =>
  pattern === undefined ? text : text.replace(pattern, gone)
