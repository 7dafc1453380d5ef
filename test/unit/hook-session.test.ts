import { describe, expect, it } from "vitest"
import {
  confirm,
  type HookSession,
  type MailOffer,
  newSession,
  offer,
  prove,
  proveAll,
  proveByTool,
  receive,
  waitingNews,
} from "../../src/agent/hook-session.ts"
import { stopsMax } from "../../src/core/delivery.ts"
import type { Hook, Receipt } from "../../src/core/mail.ts"
import type { TurnFile } from "../../src/run/run-directory.ts"
import { aMail } from "../contract/harness.ts"

const offered = (mail: string, more: Partial<MailOffer> = {}): MailOffer => ({
  mail,
  hook: "UserPromptSubmit",
  atMs: 10,
  given: true,
  proved: false,
  ...more,
})
const turn = (...offers: readonly MailOffer[]): TurnFile => ({
  id: "t-1",
  shim: { pid: 1, startTicks: 1 },
  iteration: 4,
  sinceMs: 1,
  stops: 0,
  offered: [...offers],
})
const session = (more: Partial<HookSession> = {}): HookSession => ({
  ...newSession([]),
  turn: turn(),
  ...more,
})
const receipt = (mail: string, hook: Hook = "UserPromptSubmit"): Receipt => ({
  mail,
  state: "Delivered",
  iteration: 4,
  hook,
})
const waiting = [aMail("1"), aMail("2", { urgency: "now" }), aMail("3")]

describe("a mail", () => {
  it.each<[string, HookSession, readonly string[], Receipt | undefined]>([
    ["that is new waits", session(), ["1"], undefined],
    ["that waits already is the same", session({ waiting: [aMail("1")] }), ["1"], undefined],
    ["that was delivered before", session({ delivered: [receipt("1")] }), [], receipt("1")],
    [
      "that a predecessor delivered in this turn",
      session({ turn: turn(offered("1", { proved: true })) }),
      [],
      receipt("1"),
    ],
    [
      "that was offered but not proved waits",
      session({ turn: turn(offered("1")) }),
      ["1"],
      undefined,
    ],
    ["that finds no turn waits", session({ turn: undefined }), ["1"], undefined],
  ])("%s", (_, before, waits, known) => {
    const [after, answer] = receive(before, aMail("1"))
    expect([after.waiting.map(({ id }) => id), answer]).toEqual([waits, known])
  })
})

describe("an offer", () => {
  it.each<[string, Hook, Partial<HookSession>, readonly string[], number]>([
    ["gives all at the prompt", "UserPromptSubmit", {}, ["1", "2", "3"], 0],
    ["gives up to what is urgent after a tool", "PostToolUse", {}, ["1", "2"], 0],
    ["gives all at the end, and counts it", "Stop", {}, ["1", "2", "3"], 1],
    ["gives nothing without a turn", "Stop", { turn: undefined }, [], 0],
    [
      "gives nothing behind mail that may not have gone out",
      "Stop",
      { turn: turn(offered("0", { given: false })) },
      [],
      0,
    ],
    [
      "gives what comes behind mail that was given",
      "Stop",
      { turn: turn(offered("1"), offered("2")) },
      ["3"],
      1,
    ],
    [
      "gives nothing at the end any more",
      "Stop",
      { turn: { ...turn(), stops: stopsMax } },
      [],
      stopsMax,
    ],
    ["gives nothing that does not wait", "Stop", { waiting: [] }, [], 0],
  ])("%s", (_, hook, more, ids, stops) => {
    const before = session({ waiting, ...more })
    const [after, mails] = offer(before, hook, 20)
    expect(mails.map(({ id }) => id)).toEqual(ids)
    expect(after.turn?.stops ?? 0).toBe(stops)
    const fresh = { hook, atMs: 20, given: false, proved: false }
    expect(after.turn?.offered ?? []).toEqual([
      ...(before.turn?.offered ?? []),
      ...ids.map((mail) => ({ mail, ...fresh })),
    ])
    expect(after.waiting).toBe(before.waiting) // it waits until it is proved
  })

  it("leaves room for what goes out with it", () => {
    const [, mails] = offer(session({ waiting }), "UserPromptSubmit", 20, 9_600)
    expect(mails.map(({ id }) => id)).toEqual(["1"])
  })

  it("that went out whole is given", () => {
    const [after, mails] = offer(session({ waiting }), "PostToolUse", 20)
    const given = (one: HookSession) => one.turn?.offered.map((offer) => offer.given)
    expect(given(confirm(after, mails))).toEqual([true, true])
    expect(given(confirm(after, mails.slice(1)))).toEqual([false, true])
  })
})

describe("proof", () => {
  const offers = [
    offered("1"),
    offered("2", { hook: "PostToolUse", atMs: 20 }),
    offered("3", { hook: "PostToolUse", atMs: 30, given: false }),
    offered("4", { proved: true }),
  ]
  const before = session({ turn: turn(...offers), waiting, batchAtMs: 15 })
  it.each<[string, ReturnType<typeof prove>, readonly string[]]>([
    ["by the end is of all that was given", proveAll(before), ["1", "2"]],
    ["by a tool is of the prompt alone", proveByTool(before), ["1"]],
    [
      "by a tool after the batch is of what the batch gave, too",
      proveByTool({ ...before, batchAtMs: 20 }),
      ["1", "2"],
    ],
    ["by a request is of what was given before", prove(before, ({ atMs }) => atMs <= 10), ["1"]],
    ["of nothing changes nothing", prove(before, () => false), []],
    ["without a turn changes nothing", proveAll(session({ turn: undefined })), []],
  ])("%s", (_, [after, receipts], ids) => {
    expect(receipts.map(({ mail }) => mail)).toEqual(ids)
    expect(after.delivered).toEqual(receipts)
    for (const { id } of after.waiting) expect(ids).not.toContain(id)
    for (const { mail, proved } of after.turn?.offered ?? [])
      expect([mail, proved]).toEqual([mail, ids.includes(mail) || mail === "4"])
  })

  it("says in which iteration and at which hook the model got it", () => {
    const [, receipts] = proveAll(before)
    expect(receipts).toEqual([receipt("1"), receipt("2", "PostToolUse")])
  })

  it("is remembered of the last thousand", () => {
    const delivered = Array.from({ length: 1000 }, (_, index) => receipt(`old-${index}`))
    const [after] = proveAll({ ...before, delivered })
    expect(after.delivered).toHaveLength(1000)
    expect(after.delivered[0]?.mail).toBe("old-2")
    expect(after.delivered.at(-1)?.mail).toBe("2")
  })
})

it.each<[string, HookSession["waiting"], string | undefined]>([
  ["nothing", [], undefined],
  ["mail of others", [aMail("1", { authority: "peer" })], "mail"],
  [
    "an operator's word among it",
    [aMail("1", { authority: "peer" }), aMail("2", { authority: "operator" })],
    "instruction",
  ],
])("the next iteration would hear %s", (_, mails, news) => {
  expect(waitingNews(session({ waiting: mails }))).toBe(news)
})
