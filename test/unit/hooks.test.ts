import { describe, expect, it } from "vitest"
import type { HooksOptions } from "../../src/agent/hook-answers.ts"
import type { HookInput } from "../../src/agent/hook-input.ts"
import { createHooks } from "../../src/agent/hooks.ts"
import { contextCharactersMax, stopsMax } from "../../src/core/delivery.ts"
import type { Mail, Receipt } from "../../src/core/mail.ts"
import type { TurnFile } from "../../src/run/run-directory.ts"
import { aMail } from "../contract/harness.ts"

/** A claude that meets hooks, moment by moment: each step is a millisecond. */
function session(
  options: {
    turn?: TurnFile
    orders?: readonly string[]
    goal?: string
    full?: () => boolean
  } = {},
) {
  let atMs = 1000
  let turn = options.turn
  const receipts: Receipt[] = []
  const said: string[] = []
  const failed: string[] = []
  const transcripts: string[] = []
  const parts: HooksOptions = {
    nowMs: () => ++atMs,
    nonce: () => "n0nce",
    directive: () => ({
      ...(options.goal !== undefined && { goal: options.goal }),
      orders: (options.orders ?? []).map((text, index) => ({ id: `o-${index}`, text })),
    }),
    turn: () => turn,
    toldBefore: () => undefined,
    keep: (next) => {
      turn = next
      return !options.full?.()
    },
    delivered: [],
    receipt: (receipt) => void receipts.push(receipt),
    transcript: (path) => void transcripts.push(path),
    activity: () => {},
    said: (marker) => void said.push(marker),
    failed: ({ error }) => void failed.push(error),
    working: () => {},
    stopped: () => {},
    goesOn: () => {},
    standstillTold: () => {},
  }
  let hooks = createHooks(parts)
  return {
    receipts,
    said,
    failed,
    transcripts,
    turn: () => turn,
    now: () => atMs,
    begin(iteration: number) {
      turn = {
        id: `t-${iteration}`,
        shim: { pid: 1, startTicks: 1 },
        iteration,
        sinceMs: ++atMs,
        stops: 0,
        offered: [],
      }
      return this
    },
    end() {
      turn = undefined
    },
    /** Another supervisor takes over: the turn's file is all it has. */
    succeed() {
      hooks = createHooks(parts)
    },
    mail: (...mails: readonly Mail[]) => {
      for (const mail of mails) hooks.mail(mail)
    },
    answered: (beganAtMs: number) => hooks.answered(beganAtMs),
    /** A hook whose answer nobody waits for any more. */
    unheard: (event: string) => hooks.hook({ hook_event_name: event }, true),
    /** The ids of the mails in what the hook answers. */
    hook(event: string, more: Partial<HookInput> = {}): string[] {
      const answer = hooks.hook({ hook_event_name: event, ...more })
      hooks.given(answer)
      return [...JSON.stringify(answer).matchAll(/\[Message ([\w-]+) from/g)].map(
        ([, id]) => id ?? "",
      )
    },
    part: (index: number) => hooks.part(index),
    raw(event: string, more: Partial<HookInput> = {}) {
      const answer = hooks.hook({ hook_event_name: event, ...more })
      hooks.given(answer)
      return answer
    },
    /** Asked, but the answer may not have gone out. */
    cut: (event: string) => hooks.hook({ hook_event_name: event }),
    proved: () => receipts.map(({ mail, iteration, hook }) => `${mail} ${iteration} ${hook}`),
  }
}
const late = (id: string): Mail => aMail(id)
const now = (id: string): Mail => aMail(id, { urgency: "now" })
const subagent = { agent_id: "sub" }

describe("the hooks", () => {
  describe("give", () => {
    it.each<[string, string, Mail[], string[]]>([
      ["all at the prompt", "UserPromptSubmit", [late("1"), now("2")], ["1", "2"]],
      [
        "what is urgent, and what is before it, after a tool",
        "PostToolUse",
        [late("1"), now("2"), late("3")],
        ["1", "2"],
      ],
      ["the same after a tool that failed", "PostToolUseFailure", [now("1"), late("2")], ["1"]],
      ["the same after a batch", "PostToolBatch", [now("1"), late("2")], ["1"]],
      ["nothing after a tool when nothing is urgent", "PostToolUse", [late("1")], []],
      ["all at the end", "Stop", [late("1"), now("2")], ["1", "2"]],
      ["nothing before a tool", "PreToolUse", [now("1")], []],
      ["nothing at a failure", "StopFailure", [now("1")], []],
      ["nothing at what is not known", "Notification", [now("1")], []],
    ])("%s", (_, event, mails, expected) => {
      const claude = session().begin(1)
      claude.mail(...mails)
      expect(claude.hook(event)).toEqual(expected)
      expect(claude.turn()?.offered.map(({ mail, proved }) => [mail, proved])).toEqual(
        expected.map((id) => [id, false]),
      )
      expect(claude.receipts).toEqual([])
    })

    it("what came first first, also when the clock was set back between", () => {
      const claude = session().begin(1)
      claude.mail(aMail("first", { atMs: 2 }), aMail("second", { atMs: 1 }))
      expect(claude.hook("UserPromptSubmit")).toEqual(["first", "second"])
    })

    it("nothing that could not be written down, and later what waits", () => {
      let full = true
      const claude = session({ full: () => full }).begin(1)
      claude.mail(now("1"))
      expect(claude.raw("PostToolUse")).toEqual({})
      full = false
      expect(claude.hook("PostToolUse")).toEqual(["1"])
    })

    it("nothing after a tool to a claude that has given up waiting, and the same at the next hook", () => {
      const claude = session().begin(1)
      claude.mail(now("1"))
      expect(claude.unheard("PostToolUse")).toEqual({})
      expect(claude.hook("PostToolBatch")).toEqual(["1"])
    })

    it("nothing after an answer that may not have gone out, which proves nothing and is given again in the next iteration", () => {
      const claude = session().begin(1)
      claude.mail(now("1"))
      claude.cut("UserPromptSubmit") // its supervisor was killed while it answered
      claude.succeed()
      claude.mail(now("1"), now("2"))
      expect(claude.hook("PreToolUse")).toEqual([])
      expect(claude.hook("PostToolUse")).toEqual([])
      expect(claude.hook("Stop")).toEqual([])
      expect(claude.receipts).toEqual([])
      claude.end()
      claude.begin(2)
      expect(claude.hook("UserPromptSubmit")).toEqual(["1", "2"])
      claude.hook("Stop")
      expect(claude.proved()).toEqual(["1 2 UserPromptSubmit", "2 2 UserPromptSubmit"])
    })

    it("long goals and orders in parts, each of which claude hands on whole", () => {
      const claude = session({
        goal: "g".repeat(16_384),
        orders: Array.from({ length: 20 }, () => "o".repeat(500)),
      }).begin(1)
      claude.mail(aMail("1", { text: "x".repeat(8000) }))
      expect(claude.hook("UserPromptSubmit")).toEqual(["1"])
      const parts = [0, 1, 2, 3].map((index) => JSON.stringify(claude.part(index)))
      expect(parts.map((part) => part.length < contextCharactersMax + 200)).toEqual([
        true,
        true,
        true,
        true,
      ])
      expect(parts.join("").match(/g/g)?.length).toBeGreaterThanOrEqual(16_384)
      expect(parts[3]).toBe("{}")
    })

    it("each mail once in an iteration", () => {
      const claude = session().begin(1)
      claude.mail(now("1"))
      expect(claude.hook("PostToolUse")).toEqual(["1"])
      claude.mail(now("1"))
      expect(claude.hook("PostToolUse")).toEqual([])
      expect(claude.hook("Stop")).toEqual([])
    })

    it("in the form that each hook takes", () => {
      const claude = session({ goal: "Sell things.", orders: ["Use euros."] }).begin(1)
      expect(claude.raw("UserPromptSubmit")).toMatchObject({
        hookSpecificOutput: {
          hookEventName: "UserPromptSubmit",
          additionalContext: expect.stringMatching(/Sell things\.(.|\n)*Use euros\./),
        },
      })
      expect(claude.raw("PostToolUse")).toEqual({})
      claude.mail(now("1"))
      expect(claude.raw("PostToolUse")).toMatchObject({
        hookSpecificOutput: {
          hookEventName: "PostToolUse",
          additionalContext: expect.stringContaining("text of 1"),
        },
      })
      claude.mail(late("2"))
      expect(claude.raw("Stop")).toMatchObject({
        decision: "block",
        reason: expect.stringContaining("text of 2"),
      })
    })

    it("nothing to a sub-agent, whose tools and end prove nothing either", () => {
      const claude = session().begin(1)
      claude.mail(late("1"))
      expect(claude.hook("UserPromptSubmit")).toEqual(["1"])
      claude.mail(now("2"))
      for (const event of [
        "UserPromptSubmit",
        "PreToolUse",
        "PostToolUse",
        "PostToolUseFailure",
        "PostToolBatch",
        "Stop",
      ])
        expect(claude.raw(event, subagent)).toEqual({})
      claude.raw("StopFailure", { ...subagent, error: "rate_limit" })
      expect([claude.receipts, claude.said, claude.failed]).toEqual([[], [], []])
      expect(claude.hook("PostToolUse")).toEqual(["2"])
    })

    it("nothing outside an iteration", () => {
      const claude = session()
      claude.mail(now("1"))
      for (const event of ["UserPromptSubmit", "PostToolUse", "Stop"])
        expect(claude.raw(event)).toEqual({})
    })

    it(`at most ${stopsMax} times at the end of one iteration, and what is left in the next`, () => {
      const claude = session().begin(1)
      for (let stop = 1; stop <= stopsMax; stop++) {
        claude.mail(late(`m${stop}`))
        expect(claude.hook("Stop")).toEqual([`m${stop}`])
      }
      claude.mail(late("one-too-many"))
      expect(claude.raw("Stop")).toEqual({})
      expect(claude.proved()).toEqual(
        Array.from({ length: stopsMax }, (_, index) => `m${index + 1} 1 Stop`),
      )
      claude.end()
      claude.begin(2)
      expect(claude.hook("UserPromptSubmit")).toEqual(["one-too-many"])
    })
  })

  describe("prove", () => {
    it("what was given with the prompt by any tool, but not what was given after a tool of the same batch", () => {
      const claude = session().begin(1)
      claude.mail(late("prompt"))
      claude.hook("UserPromptSubmit")
      claude.hook("PreToolUse")
      expect(claude.proved()).toEqual(["prompt 1 UserPromptSubmit"])
      claude.mail(now("tool"))
      expect(claude.hook("PostToolUse")).toEqual(["tool"])
      claude.hook("PreToolUse") // of the same answer: it ran beside the first
      claude.hook("PostToolUse")
      expect(claude.proved()).toHaveLength(1)
      claude.mail(now("batch"))
      expect(claude.hook("PostToolBatch")).toEqual(["batch"])
      expect(claude.proved()).toHaveLength(1)
      claude.hook("PreToolUse") // of the next answer
      expect(claude.proved().slice(1)).toEqual(["tool 1 PostToolUse", "batch 1 PostToolUse"])
    })

    it("nothing of a batch by the batch before it", () => {
      const claude = session().begin(1)
      claude.hook("PreToolUse")
      claude.hook("PostToolUse")
      claude.hook("PostToolBatch")
      claude.hook("PreToolUse")
      claude.mail(now("1"))
      expect(claude.hook("PostToolUse")).toEqual(["1"])
      claude.hook("PreToolUse")
      expect(claude.receipts).toEqual([])
    })

    it("all by the end", () => {
      const claude = session().begin(3)
      claude.mail(late("1"))
      claude.hook("UserPromptSubmit")
      claude.mail(now("2"))
      claude.hook("PostToolUse")
      claude.hook("Stop", { last_assistant_message: "Status: PARTIAL" })
      expect(claude.receipts).toEqual([
        { mail: "1", state: "Delivered", iteration: 3, hook: "UserPromptSubmit" },
        { mail: "2", state: "Delivered", iteration: 3, hook: "PostToolUse" },
      ])
      expect(claude.said).toEqual(["PARTIAL"])
    })

    it("by an answered request of the main agent what was given before it began, and nothing after", () => {
      const claude = session().begin(1)
      claude.mail(now("1"))
      claude.hook("PostToolUse")
      const betweenMs = claude.now()
      claude.mail(now("2"))
      claude.hook("PostToolUse")
      claude.answered(betweenMs - 1)
      expect(claude.proved()).toEqual([])
      claude.answered(betweenMs)
      expect(claude.proved()).toEqual(["1 1 PostToolUse"])
    })

    it("nothing by a failure, which is reported", () => {
      const claude = session().begin(1)
      claude.mail(late("1"))
      claude.hook("UserPromptSubmit")
      claude.hook("StopFailure", { error: "rate_limit" })
      expect([claude.receipts, claude.failed]).toEqual([[], ["rate_limit"]])
    })

    it("each once", () => {
      const claude = session().begin(1)
      claude.mail(late("1"))
      claude.hook("UserPromptSubmit")
      claude.hook("PreToolUse")
      claude.hook("PreToolUse")
      claude.hook("Stop")
      expect(claude.receipts).toHaveLength(1)
    })
  })

  it("offer what stayed unproven again in the next iteration, under the same id", () => {
    const claude = session().begin(1)
    claude.mail(late("1"))
    expect(claude.hook("UserPromptSubmit")).toEqual(["1"])
    claude.end() // killed before it answered
    claude.begin(2)
    expect(claude.hook("UserPromptSubmit")).toEqual(["1"])
    claude.hook("Stop")
    expect(claude.proved()).toEqual(["1 2 UserPromptSubmit"])
  })

  it.each([
    ["in the same iteration", () => {}],
    ["between iterations", (claude: ReturnType<typeof session>) => claude.end()],
    [
      "in a later iteration",
      (claude: ReturnType<typeof session>) => {
        claude.end()
        claude.begin(2)
      },
    ],
    [
      "by a successor, which knows the turn's file",
      (claude: ReturnType<typeof session>) => claude.succeed(),
    ],
  ])("receipt a repeat of what was delivered again and never give it again: %s", (_, meanwhile) => {
    const claude = session().begin(1)
    claude.mail(now("1"))
    claude.hook("UserPromptSubmit")
    claude.hook("Stop")
    const delivered = { mail: "1", state: "Delivered", iteration: 1, hook: "UserPromptSubmit" }
    expect(claude.receipts).toEqual([delivered])
    meanwhile(claude)
    claude.mail(now("1")) // the receipt was not acknowledged yet when the link came back
    expect(claude.receipts).toEqual([delivered, delivered])
    for (const event of ["UserPromptSubmit", "PostToolUse", "Stop"])
      expect(claude.hook(event)).toEqual([])
  })

  it("know from the turn's file what a predecessor offered", () => {
    const claude = session().begin(1)
    claude.mail(now("1"))
    claude.hook("PostToolUse")
    claude.succeed()
    claude.mail(now("1"))
    expect(claude.hook("PostToolUse")).toEqual([])
    claude.hook("Stop")
    expect(claude.proved()).toEqual(["1 1 PostToolUse"])
  })
})
