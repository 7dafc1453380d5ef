import fc from "fast-check"
import { describe, expect, it } from "vitest"
import { redactedLines } from "../../src/core/secrets.ts"
import { bounded, clean, oneLine, presented } from "../../src/core/view.ts"
import { parsePolicy } from "../../src/settings/policy.ts"
import { agent, makeFleet, operator } from "./fleet.ts"

/**
 * What looks like a credential is replaced, in whatever it stands, whole or cut. Put together here,
 * so that no scanner takes this file for a leak.
 */

const gone = "[redacted]"
const long = (count: number): string => "aB3".repeat(count).slice(0, count)
const upper = (count: number): string => "A1".repeat(count).slice(0, count)
const jwt = ["eyJ", long(20), ".eyJ", long(40), ".", long(43)].join("")
const body = `${`${long(64)}\n`.repeat(20)}${long(30)}==`
const block = (kind: string, dashes = "-----"): string =>
  `${dashes}BEGIN ${kind}${dashes}\n${body}\n${dashes}END ${kind}${dashes}`

const secrets: readonly (readonly [string, string])[] = [
  ["a person's token of ours", `bb5_${long(43)}`],
  ["the machine's token of ours", `bb5m_${long(43)}`],
  ["a port's token of ours", `bb5p_${"0f".repeat(32)}`],
  ["a run's credential of ours", `bb5c_${long(90)}.${long(43)}`],
  ["Anthropic", `sk-ant-${long(20)}`],
  ["OpenAI", `sk-${long(30)}`],
  ["GitHub", `ghp_${long(36)}`],
  ["GitHub, fine-grained", `github_pat_${long(40)}`],
  ["GitLab, personal", `glpat-${long(20)}`],
  ["GitLab, trigger", `glptt-${long(40)}`],
  ["GitLab, deploy", `gldt-${long(20)}`],
  ["GitLab, runner", `glrt-${long(20)}`],
  ["npm", `npm_${long(36)}`],
  ["AWS, key id", `AKIA${upper(16)}`],
  ["Slack", `xoxb-${long(24)}`],
  ["Google", `AIza${long(35)}`],
  ["Stripe", `sk_live_${long(24)}`],
  ["SendGrid", `SG.${long(22)}.${long(43)}`],
  ["Telegram", `123456789:AA${long(33)}`],
  ["a JSON Web Token", jwt],
  ["Hugging Face", `hf_${long(34)}`],
  ["PyPI", `pypi-${long(60)}`],
  ["Docker Hub", `dckr_pat_${long(27)}`],
]

describe("a secret", () => {
  it.each(secrets)("is taken out, bare, quoted, escaped and in a URL: %s", (_, secret) => {
    expect(clean(secret)).toBe(gone)
    expect(clean(`KEY=${secret}`)).toBe(`KEY=${gone}`)
    expect(clean(JSON.stringify({ text: `first\n${secret}\nlast` }))).toBe(
      JSON.stringify({ text: `first\n${gone}\nlast` }),
    )
    expect(clean(`https://x.example/?key%3D${secret}&a=b`)).toBe(
      `https://x.example/?key%3D${gone}&a=b`,
    )
    for (const hidden of ["\u200b", "\u001b[31m", "\u00ad", "\u{e0061}"])
      expect(clean(`${secret.slice(0, 6)}${hidden}${secret.slice(6)}`)).toBe(gone)
  })

  it.each(secrets)("is not left in part by any cut: %s", (_, secret) => {
    // What shows its kind, and no more, may stay.
    const shown = /^(?:[\w.-]{0,12}|\d{1,10}(?::A?)?)$/
    for (let length = 1; length < secret.length; length++) {
      for (const part of [
        bounded(`go ${secret} on`, 3 + length),
        oneLine(`go ${secret} on`, 4 + length),
        clean(`go ${secret.slice(0, length)}`),
      ]) {
        const left = part.replace(/^go /, "").replace(/….*$/, "")
        expect([part, secret.startsWith(left) && !shown.test(left)]).toEqual([part, false])
      }
    }
  })

  it.each([
    ["Authorization: Bearer ", long(20), ""],
    ["authorization: bearer ", `${long(20)}==`, ""],
    ["Authorization: Basic ", "dXNlcjpwYXNz", ""],
    ['{"Proxy-Authorization":"Basic ', "dXNlcjpwYXNzd29yZA==", '"}'],
    ["AWS_SECRET_ACCESS_KEY=", long(40), ""],
    ['"SecretAccessKey": "', `${long(38)}/+`, '"'],
    ["aws_session_token = ", long(100), ""],
    ["https://hooks.slack.com/services/", `T${upper(8)}/B${upper(8)}/${long(24)}`, ""],
    ["https://api.telegram.org/bot", `123456789:AA${long(33)}`, "/getMe"],
    ["https://", "user:password", "@host.example/a"],
    ["postgres://", "user:p%40ss:word", "@host/db"],
    ["https://", ":token", "@host/a"],
    ["https://", "user:p@ss", "@host/a"],
    ['"https:\\/\\/', "user:password", '@host\\/a"'],
    ["https://", "user:password", ""],
  ])("goes, and what says of what kind it was stays: %s", (before, secret, after) => {
    expect(clean(`x ${before}${secret}${after}`)).toBe(`x ${before}${gone}${after}`)
  })

  it.each([
    "RSA PRIVATE KEY",
    "EC PRIVATE KEY",
    "PRIVATE KEY",
    "ENCRYPTED PRIVATE KEY",
    "OPENSSH PRIVATE KEY",
    "PGP PRIVATE KEY BLOCK",
  ])("is taken out, whole, escaped, cut at either end, and over lines of a log: %s", (kind) => {
    const key = block(kind)
    expect(clean(`a ${key} b`)).toBe(`a ${gone} b`)
    expect(clean(JSON.stringify({ key }))).toBe(JSON.stringify({ key: gone }))
    expect(clean(JSON.stringify({ key: key.slice(0, 500) }))).toBe(JSON.stringify({ key: gone }))
    for (const length of [60, 200, 700, key.length - 5]) {
      expect(clean(`a ${key.slice(0, length)}`)).not.toContain("aB3")
      expect(clean(`${key.slice(length)} b`)).not.toContain("aB3aB3")
    }
    const lines = redactedLines(["before: it", ...key.split("\n"), "after: it"])
    expect([lines[0], lines.at(-1), lines.length]).toEqual([
      "before: it",
      "after: it",
      key.split("\n").length + 2,
    ])
    expect(lines.join("")).not.toContain("aB3")
    const stamped = key.split("\n").map((line) => `2026-11-25T18:50:55Z ${line}`)
    for (const some of [stamped, stamped.slice(0, 9), stamped.slice(9)])
      expect(clean(some.join("\n"))).not.toContain("aB3")
  })

  it.each([
    "task-list, risk-free, ask-me-anything-about-what-you-want",
    "Basic functionality works; basic dXNlcg is no header",
    "http://localhost:3000 and http://localhost:3000/a@b, ssh://git@github.com/acme/shop.git, http://127.0.0.1:7505",
    "git@github.com:acme/shop.git, npm_config_user_agent, npm_lifecycle_event",
    "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
    "-----BEGIN PUBLIC KEY-----\nMIIB\n-----END PUBLIC KEY-----",
    "commit 3f9b2a10aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa, sha512-aB3aB3aB3aB3aB3aB3aB3==",
    "at 12:34:56 the bearer of bad news arrived",
  ])("is not seen where there is none: %s", (text) => {
    expect(clean(text)).toBe(text)
  })

  it("costs time in proportion to the text, whatever it says", () => {
    const pieces = [
      ...[
        "eyJ",
        "eyJa.",
        "eyJ-",
        "eyJ_aaaaaaaaaa.",
        "sk-",
        "-----BEGIN PRIVATE KEY-----",
        "-----END PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----\n",
        "://a:",
      ],
      ...[
        "://",
        "bearer ",
        "authorization: basic ",
        "AKIA",
        "1:",
        "12345678:AA",
        "aws_secret_access_key",
        "\\n",
        "a",
        "a\n",
        "A=\\n",
        "-",
      ],
      ...[
        "2026-01-01T00:00:00Z ",
        "SG.",
        `SG.${"a".repeat(20)}.`,
        "Version: ",
        "PRIVATE KEY",
        "ghp_",
        "https://a:b",
        "%3D",
        " \n ",
      ],
    ]
    const texts = pieces.map(
      (piece) => `${piece.repeat(500_000 / piece.length)} PRIVATE KEY -----END PRIVATE KEY-----`,
    )
    // Where time grows with the square, or worse, none of these comes to an end within the limit of
    // a test.
    for (const text of texts) expect(clean(text).length).toBeLessThanOrEqual(2 * text.length)
    fc.assert(
      fc.property(fc.array(fc.constantFrom(...pieces), { maxLength: 6 }), (some) => {
        const text = some.join("")
        clean(text.repeat(50_000 / Math.max(1, text.length)))
      }),
      { numRuns: 50 },
    )
  }, 60_000)
})

describe("what the policy names", () => {
  const prefixes = ["acme_", "k/(+"]
  it("is replaced as a whole word in every field of an answer, fenced or not", () => {
    const value = {
      a: "see acme_1 (k/(+x).",
      list: [{ untrusted: "acme_secret, \u200bac\u200bme_2" }],
      b: "macme_3 acme-4",
    }
    expect(presented(value, "n", undefined, prefixes)).toEqual({
      a: `see ${gone} (${gone}).`,
      list: [{ untrusted: `<untrusted-n>\n${gone}, ${gone}\n</untrusted-n>` }],
      b: "macme_3 acme-4",
    })
  })

  it("reaches logs, events, messages, goals, and refusals", async () => {
    const fleet = makeFleet()
    fleet.world.secretPrefixes = ["acme_"]
    const one = fleet.running("one", { goal: "Use acme_goal." })
    fleet.logs.push({ atMs: 0, text: "printed acme_log" })
    await fleet.memory.timeline.append({
      id: "e",
      uid: one.uid,
      kind: "IterationEnded",
      message: "said acme_event",
      atMs: 0,
    })
    await fleet.call(agent(one))("message_instances", { to: ["@operators"], text: "is acme_mail" })
    const call = fleet.call(operator)
    const told = JSON.stringify([
      await call("read_logs", { name: "one" }),
      await call("read_events"),
      await call("read_messages"),
      await call("inspect_instance", { name: "one", sections: ["spec", "events", "log"] }),
      await call("list_instances", { detail: true }),
      await call("spawn_instance", { loop: "acme_loop" }).catch(String),
    ])
    expect(told).not.toContain("acme_")
    expect(told.split(gone).length).toBeGreaterThan(7)
  })

  it.each([
    ["redact: [acme_, 'k/(+']", true],
    ["redact: []", true],
    ["redact: [abc]", false],
    ["redact: ['a b c d']", false],
    ["redact: acme_", false],
    [`redact: [${"a".repeat(101)}]`, false],
  ])("is a list of literal beginnings: %s", (text, isOne) => {
    expect("policy" in parsePolicy(text)).toBe(isOne)
  })
})

describe("a log", () => {
  it("gives no line of a key that stands over several lines, also not to a search", async () => {
    const fleet = makeFleet()
    fleet.running("one")
    for (const text of ["before", ...block("RSA PRIVATE KEY").split("\n"), "after"])
      fleet.logs.push({ atMs: 0, text })
    for (const more of [{}, { tail: 10 }, { grep: "aB3" }]) {
      const { untrusted } = await fleet.call(operator)("read_logs", { name: "one", ...more })
      expect(untrusted).not.toContain("aB3")
    }
  })
})
