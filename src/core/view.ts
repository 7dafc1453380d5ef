/** The one choke point through which every result passes: secrets out, control characters out, untrusted text fenced. */

/** What people's tokens begin with, so that this file and scanners of repositories know one when they see it. */
export const tokenPrefix = "bb5_"

// Our own tokens; published prefixes of Anthropic, OpenAI, GitHub, AWS, Slack and Google credentials, bearer headers, and private key blocks.
const secrets = [
  /\bbb5_[A-Za-z0-9_-]{20,}/g,
  /\bsk-ant-[A-Za-z0-9_-]{8,}/g,
  /\bsk-[A-Za-z0-9_-]{20,}/g,
  /\b(?:ghp|gho|ghu|ghs|ghr)_[A-Za-z0-9]{20,}/g,
  /\bgithub_pat_[A-Za-z0-9_]{20,}/g,
  /\b(?:AKIA|ASIA)[A-Z0-9]{16}\b/g,
  /\bxox[abprs]-[A-Za-z0-9-]{10,}/g,
  /\bAIza[A-Za-z0-9_-]{35}/g,
  /(?<=\b[Bb]earer )[A-Za-z0-9._~+/-]{16,}=*/g,
  /-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)/g,
]

// ANSI escape sequences (CSI and OSC) first, then what is left of C0, DEL, C1 and the bidirectional overrides; tab and newline stay.
// biome-ignore lint/suspicious/noControlCharactersInRegex: taking them out is what this file is for
const ansi = /\u001b(?:\[[0-?]*[ -/]*[@-~]|\][^\u0007\u001b]*(?:\u0007|\u001b\\)?|[@-Z\\-_])/g
// biome-ignore lint/suspicious/noControlCharactersInRegex: as above
const controls = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g

/** Text that cannot move a cursor, colour a terminal, reorder a line or give a secret away. */
export const clean = (text: string): string =>
  secrets.reduce((kept, secret) => kept.replace(secret, "[redacted]"), text.replace(ansi, "").replace(controls, ""))

/** At most `max` characters; says how much was cut. */
export const bounded = (text: string, max: number): string =>
  text.length <= max ? text : `${text.slice(0, max)}… [${text.length - max} more characters]`

/** Text of somebody who gives no orders here. The nonce, new for each result, cannot be forged by the text. */
export const fenced = (text: string, nonce: string): string => `<untrusted-${nonce}>\n${text}\n</untrusted-${nonce}>`

/** Every string of a result cleaned; those under a key named `untrusted`, at any depth, fenced as well. `reveals`: the top field that is left as it is. */
export function presented<T>(value: T, nonce: string, reveals?: string): T {
  const walk = (node: unknown, fence: boolean): unknown => {
    if (typeof node === "string") return fence ? fenced(clean(node), nonce) : clean(node)
    if (Array.isArray(node)) return node.map((item) => walk(item, fence))
    if (node === null || typeof node !== "object") return node
    return Object.fromEntries(Object.entries(node).map(([name, inner]) => [name, walk(inner, fence || name === "untrusted")]))
  }
  const kept = reveals !== undefined && typeof value === "object" ? Object.entries(value ?? {}) : []
  const shown = kept.filter(([name]) => name === reveals)
  const walked = walk(value, false)
  return (shown.length > 0 ? { ...(walked as object), ...Object.fromEntries(shown) } : walked) as T // same shape: only the contents of strings change
}

/** A word as a POSIX shell reads it back. */
export const shellWord = (text: string): string => (/^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`)

/** One line of at most `max` characters. */
export const oneLine = (text: string, max: number): string => {
  const line = clean(text).replace(/\s+/g, " ").trim()
  return line.length <= max ? line : `${line.slice(0, Math.max(0, max - 1))}…`
}

/** `41 s` below two minutes, then minutes, hours, days: as people say it. */
export function spanOf(ms: number): string {
  const seconds = Math.max(0, Math.round(ms / 1000))
  if (seconds < 120) return `${seconds} s`
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`
  if (seconds < 172_800) return `${Math.round(seconds / 3600)} h`
  return `${Math.round(seconds / 86_400)} days`
}
