import { spawn, spawnSync } from "node:child_process"
import { once } from "node:events"
import {
  chownSync,
  closeSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterEach, describe, expect, it, vi } from "vitest"
import { appended, isPrompt } from "../../src/agent/claude-shim.ts"
import { createDiskRetry } from "../../src/agent/disk-retry.ts"
import type { HooksOptions } from "../../src/agent/hook-answers.ts"
import type { HookInput } from "../../src/agent/hook-input.ts"
import { createHooks } from "../../src/agent/hooks.ts"
import { createIterations } from "../../src/agent/iterations.ts"
import { startLoop } from "../../src/agent/launch.ts"
import { logsSchema, meter as meterLogs, usedBy } from "../../src/agent/meter.ts"
import { captureOutput, logBytesMax } from "../../src/agent/output.ts"
import { mergeSettings, wayOut } from "../../src/agent/settings.ts"
import { createSpool, keptEventsMax, spooledEventsMax } from "../../src/agent/spool.ts"
import { contextCharactersMax, stopsMax } from "../../src/core/delivery.ts"
import type { Sequenced } from "../../src/core/frames.ts"
import type { Mail, Receipt } from "../../src/core/mail.ts"
import { nothingGuarded, planView } from "../../src/host/agent-view.ts"
import {
  type IsolationKind,
  isolated,
  probeIsolation,
  scratchOf,
  warningOf,
} from "../../src/host/isolation.ts"
import {
  end,
  find,
  freeze,
  identify,
  instanceVariable,
  isAlive,
  type ProcessMarker,
  processesOfInstance,
  processesOfRun,
  processId,
  thaw,
} from "../../src/host/processes.ts"
import { systemPath } from "../../src/host/system-path.ts"
import type { RunDirectory, TurnFile } from "../../src/run/run-directory.ts"
import { createRunDirectory } from "../../src/run/runs.ts"
import { followPolicy, parsePolicy } from "../../src/settings/policy.ts"
import { aMail, uid } from "../contract/harness.ts"

const directories: string[] = []
const temporary = (): string => {
  const path = mkdtempSync(join(tmpdir(), "bb5-agent-"))
  directories.push(path)
  return path
}
afterEach(() => {
  for (const path of directories.splice(0)) rmSync(path, { recursive: true, force: true })
})

const everyOf = (marker: ProcessMarker) => () => find(marker, new Set())

/** Looks until it holds: what other processes do has no event here. */
const until = async (holds: () => boolean): Promise<void> => {
  while (!holds()) await new Promise((resolve) => setTimeout(resolve, 5))
}

describe("the claude shim", () => {
  it.each<[boolean, string[]]>([
    [true, ["-p", "--dangerously-skip-permissions"]],
    [true, []],
    [true, ["-p", "update the prices"]],
    [true, ["-p", "doctor"]],
    [true, ["-p", "what does --version print?"]],
    [true, ["-c", "-p", "go on"]],
    [false, ["--version"]],
    [false, ["-v"]],
    [false, ["-p", "--help"]],
    [false, ["mcp", "list"]],
    [false, ["doctor"]],
    [false, ["setup-token"]],
  ])("a turn is needed: %j for %j", (needed, args) => {
    expect(isPrompt(args)).toBe(needed)
  })

  describe("settings", () => {
    const ours = {
      disableAllHooks: false,
      env: { TELEMETRY: "1" },
      hooks: { Stop: [{ hooks: ["ours"] }] },
      permissions: { allow: ["mcp__ours"] },
    }
    const merge = (args: readonly string[], files: Readonly<Record<string, unknown>> = {}) => {
      const directory = temporary()
      for (const [name, content] of Object.entries(files))
        writeFileSync(join(directory, name), JSON.stringify(content))
      const [flag, text = "", ...rest] = mergeSettings(
        args.map((arg) => arg.replace("@", `${directory}/`)),
        ours,
        { TELEMETRY: "0", OTHERWISE: "2" },
      )
      return { flag, merged: JSON.parse(text), rest }
    }

    it("stand alone where the caller has none, and its arguments stay", () => {
      expect(merge(["-p", "--model", "x"])).toEqual({
        flag: "--settings",
        merged: { ...ours, env: { TELEMETRY: "1", OTHERWISE: "2" } },
        rest: ["-p", "--model", "x"],
      })
    })

    it.each<[string, string[], Record<string, unknown>]>([
      [
        "as JSON",
        ["--settings", '{"env":{"A":"1","TELEMETRY":"0"},"disableAllHooks":true,"model":"m"}'],
        {},
      ],
      [
        "as JSON with =",
        ['--settings= {"env":{"A":"1","TELEMETRY":"0"},"disableAllHooks":true,"model":"m"}'],
        {},
      ],
      [
        "in a file",
        ["--settings", "@theirs"],
        { theirs: { env: { A: "1", TELEMETRY: "0" }, disableAllHooks: true, model: "m" } },
      ],
    ])("keep the caller's own, %s, but ours win", (_, args, files) => {
      const { merged, rest } = merge([...args, "-p"], files)
      expect(rest).toEqual(["-p"])
      expect(merged).toEqual({
        ...ours,
        env: { A: "1", TELEMETRY: "1", OTHERWISE: "2" },
        model: "m",
      })
    })

    it("run the caller's hooks after ours", () => {
      const { merged } = merge([
        "--settings",
        '{"hooks":{"Stop":[{"hooks":["theirs"]}],"Notification":[{"hooks":["n"]}]}}',
      ])
      expect(merged.hooks).toEqual({
        Stop: [{ hooks: ["ours"] }, { hooks: ["theirs"] }],
        Notification: [{ hooks: ["n"] }],
      })
    })

    it("add what ours allow to what the caller allows", () => {
      const { merged } = merge([
        "--settings",
        '{"permissions":{"allow":["Bash"],"deny":["WebFetch"]}}',
      ])
      expect(merged.permissions).toEqual({ allow: ["Bash", "mcp__ours"], deny: ["WebFetch"] })
    })

    it.each([
      [["-p", "--settings"]],
      [["-p", "--settings", "{broken"]],
      [["--settings=/nowhere.json", "-p"]],
    ])("leave what cannot be read to claude, which says what is wrong: %j", (args) => {
      expect(merge(args).rest).toEqual(args)
    })

    it("let no project lead the way to the model elsewhere: a person's settings count, then the environment", () => {
      const home = temporary()
      const project = temporary()
      const below = join(project, "a/b")
      mkdirSync(join(home, ".claude"))
      mkdirSync(join(project, ".claude"))
      mkdirSync(join(below, ".claude"), { recursive: true })
      const env = {
        HOME: home,
        ANTHROPIC_BASE_URL: "http://environment",
        HTTPS_PROXY: "http://proxy",
      }
      const expected = { ANTHROPIC_BASE_URL: "http://environment", HTTPS_PROXY: "http://proxy" }
      expect(wayOut(env, below)).toEqual(expected)
      const hostile = { ANTHROPIC_BASE_URL: "http://trap", http_proxy: "http://trap", OTHER: "x" }
      writeFileSync(join(project, ".claude/settings.json"), JSON.stringify({ env: hostile }))
      writeFileSync(
        join(below, ".claude/settings.local.json"),
        JSON.stringify({ env: { CLAUDE_CODE_SIMPLE: 1 } }),
      )
      expect(wayOut(env, below)).toEqual({ ...expected, http_proxy: "", CLAUDE_CODE_SIMPLE: "" })
      const settings = { env: { ANTHROPIC_BASE_URL: "http://person", RETRIES: 3 } }
      writeFileSync(join(home, ".claude/settings.json"), JSON.stringify(settings))
      expect(wayOut(env, home)).toEqual({ ...expected, ANTHROPIC_BASE_URL: "http://person" })
      writeFileSync(
        join(home, "settings.json"),
        JSON.stringify({ env: { ANTHROPIC_BASE_URL: "http://elsewhere" } }),
      )
      expect(wayOut({ ...env, CLAUDE_CONFIG_DIR: home }, home)).toMatchObject({
        ANTHROPIC_BASE_URL: "http://elsewhere",
      })
    })
  })

  it("puts its flags behind the caller's, but before what is none", () => {
    expect(appended(["-p", "--mcp-config", "a"], ["--x"])).toEqual([
      "-p",
      "--mcp-config",
      "a",
      "--x",
    ])
    expect(appended(["-p", "--", "--mcp-config"], ["--x"])).toEqual([
      "-p",
      "--x",
      "--",
      "--mcp-config",
    ])
  })
})

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
  let doors = createHooks(parts)
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
      doors = createHooks(parts)
    },
    mail: (...mails: readonly Mail[]) => {
      for (const mail of mails) doors.mail(mail)
    },
    answered: (beganAtMs: number) => doors.answered(beganAtMs),
    /** A hook whose answer nobody waits for any more. */
    unheard: (event: string) => doors.hook({ hook_event_name: event }, true),
    /** The ids of the mails in what the hook answers. */
    hook(event: string, more: Partial<HookInput> = {}): string[] {
      const answer = doors.hook({ hook_event_name: event, ...more })
      doors.given(answer)
      return [...JSON.stringify(answer).matchAll(/\[Message ([\w-]+) from/g)].map(
        ([, id]) => id ?? "",
      )
    },
    part: (index: number) => doors.part(index),
    raw(event: string, more: Partial<HookInput> = {}) {
      const answer = doors.hook({ hook_event_name: event, ...more })
      doors.given(answer)
      return answer
    },
    /** Asked, but the answer may not have gone out. */
    cut: (event: string) => doors.hook({ hook_event_name: event }),
    proved: () => receipts.map(({ mail, iteration, hook }) => `${mail} ${iteration} ${hook}`),
  }
}
const late = (id: string): Mail => aMail(id)
const now = (id: string): Mail => aMail(id, { urgency: "now" })
const subagent = { agent_id: "sub" }

describe("the doors", () => {
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

    it("nothing after a tool to a claude that has given up waiting, and the same at the next door", () => {
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

describe("the meter", () => {
  const request = (fields: Record<string, string | number>) => ({
    timeUnixNano: String(BigInt(2000) * 1_000_000n),
    attributes: Object.entries({
      "event.name": "api_request",
      "session.id": "s1",
      "event.sequence": 1,
      "event.timestamp": "2026-01-01T00:00:00Z",
      query_source: "sdk",
      duration_ms: "500",
      cost_usd: 0.25,
      input_tokens: "10",
      output_tokens: 20,
      cache_read_tokens: "300",
      cache_creation_tokens: "4000",
      ...fields,
    }).map(([key, value]) => ({
      key,
      value:
        typeof value === "string"
          ? { stringValue: value }
          : Number.isInteger(value)
            ? { intValue: value }
            : { doubleValue: value },
    })),
  })
  const meter = (...args: Parameters<typeof meterLogs>) => {
    const { requests, mainBeganAtMs } = meterLogs(...args)
    return { used: usedBy(requests), counted: requests.map(({ key }) => key), mainBeganAtMs }
  }
  const logs = (...records: ReturnType<typeof request>[]) =>
    logsSchema.parse({ resourceLogs: [{ scopeLogs: [{ logRecords: records }] }] })

  it("adds cost and tokens of every kind, and says when the request began", () => {
    expect(
      meter(logs(request({}), request({ "event.sequence": 2, cost_usd: "0.5" })), []),
    ).toMatchObject({
      used: { usd: 0.75, tokens: 2 * 4330 },
      mainBeganAtMs: [1500, 1500],
    })
  })

  it("counts a repeated export once, in one body and over several", () => {
    const first = meter(logs(request({}), request({})), [])
    expect(first.used).toEqual({ usd: 0.25, tokens: 4330 })
    expect(first.counted).toHaveLength(1)
    expect(meter(logs(request({})), first.counted)).toEqual({
      used: { usd: 0, tokens: 0 },
      counted: [],
      mainBeganAtMs: [],
    })
  })

  it.each([
    ["session", { "session.id": "s2" }],
    ["sequence", { "event.sequence": 2 }],
    [
      "moment: a session that is continued begins its sequence anew",
      { "event.timestamp": "2026-01-01T00:00:01Z" },
    ],
  ])("takes another %s for another request", (_, other) => {
    expect(meter(logs(request(other)), meter(logs(request({})), []).counted).used.usd).toBe(0.25)
  })

  it("counts the requests of sub-agents, which prove nothing", () => {
    expect(
      meter(logs(request({ query_source: "agent:builtin:general-purpose" })), []),
    ).toMatchObject({
      used: { usd: 0.25, tokens: 4330 },
      mainBeganAtMs: [],
    })
  })

  it("passes over other records and senseless numbers", () => {
    expect(meter(logs(request({ "event.name": "tool_result" })), []).counted).toEqual([])
    expect(meter(logs(request({ cost_usd: "NaN", input_tokens: "-5" })), []).used).toEqual({
      usd: 0,
      tokens: 4320,
    })
    expect(meter(logsSchema.parse({}), []).counted).toEqual([])
  })
})

describe("the spool", () => {
  const event = (id: number) =>
    ({ type: "event", event: { id: `e${id}`, kind: "Warning", message: "", atMs: 0 } }) as const
  const receipt = (id: number) =>
    ({ type: "receipt", receipt: { mail: `m${id}`, state: "Delivered" } }) as const

  it("keeps what is not acknowledged, in order", () => {
    const spool = createSpool({ left: [], keep: () => {}, dropped: () => {} })
    const seqs = [spool.add(event(1)), spool.add(receipt(1)), spool.add(event(2))].map(
      ({ seq }) => seq,
    )
    expect(spool.all().map(({ seq }) => seq)).toEqual(seqs)
    spool.acknowledge(seqs[1] ?? 0)
    spool.acknowledge(seqs[1] ?? 0)
    spool.acknowledge(999)
    expect(spool.all().map(({ seq }) => seq)).toEqual([seqs[0], seqs[2]])
  })

  it("drops the oldest events above its bound, tells it, and never drops a receipt", () => {
    let dropped = 0
    const spool = createSpool({
      left: [],
      keep: () => {},
      dropped: (count) => {
        dropped += count
      },
    })
    for (let id = 0; id < 10; id++) spool.add(receipt(id))
    for (let id = 0; id < spooledEventsMax + 7; id++) spool.add(event(id))
    for (let id = 10; id < 20; id++) spool.add(receipt(id))
    expect(dropped).toBe(7)
    const events = spool.all().filter((frame) => frame.type === "event")
    expect(events).toHaveLength(spooledEventsMax)
    expect(events[0]).toMatchObject(event(7))
    expect(spool.all().filter(({ type }) => type === "receipt")).toHaveLength(20)
    // What was acknowledged makes room again.
    for (const { seq } of events) spool.acknowledge(seq)
    spool.add(event(1))
    expect(dropped).toBe(7)
  })

  it("leaves to a successor every receipt and the newest events, until all is acknowledged", () => {
    let kept: readonly Sequenced[] = []
    const keep = (frames: readonly Sequenced[]): void => {
      kept = frames
    }
    const before = createSpool({ left: [], keep, dropped: () => {} })
    before.add(receipt(1))
    for (let id = 0; id < keptEventsMax + 5; id++) before.add(event(id))
    const after = createSpool({ left: kept, keep, dropped: () => {} })
    expect(after.receipts()).toEqual([receipt(1).receipt])
    expect(after.all()).toHaveLength(1 + keptEventsMax)
    expect(after.all()[1]).toMatchObject(event(5))
    const { seq } = after.add(receipt(2))
    expect(kept.filter((frame) => frame.seq === seq)).toHaveLength(1)
    for (const frame of after.all()) after.acknowledge(frame.seq)
    expect(kept).toEqual([])
  })
})

/** No installation beside the run. */
const alone = { guarded: () => nothingGuarded, warn: () => {} }
const probed = (stateDirectory: string, path?: string) =>
  probeIsolation({ stateDirectory, guarded: nothingGuarded, ...(path !== undefined && { path }) })
const aRun = (
  more: {
    command?: string[]
    directory?: string
    claude?: string
    isolation?: IsolationKind
    place?: string
  } = {},
): RunDirectory =>
  createRunDirectory(temporary(), {
    ...{
      name: "one",
      uid: uid("u-one"),
      place: "p1",
      revision: "1-0",
      startedAtMs: 0,
      mode: "continuous",
    },
    ...{ iterationsBefore: 0, command: ["true"], directory: "/", claude: process.execPath },
    ...{ isolation: "process tree", socketPath: "/none", credential: "none", ...more },
  })

describe("an iteration whose claude asks no hook", () => {
  /** Iterations that find one running, as a successor does. */
  const running = (directory: RunDirectory) => {
    const run = directory.get("run")
    if (!run) throw new Error("no run")
    const overs: number[] = []
    const parts = {
      directory,
      keeper: createDiskRetry(directory, () => {}),
      adopted: false,
      run,
      nowMs: () => 5,
      search: () => [],
      steadyMs: () => performance.now(),
      emit: () => {},
      changed: () => {},
      claude: () => ({ path: "/claude" }),
      zone: () => "UTC",
      jitterMs: () => 0,
      printed: () => [],
      over: ({ code }: { code: number }) => void overs.push(code),
    }
    return { ...createIterations({ ...parts, granted: () => ({ settings: {} }) }), overs }
  }
  const begun = (unheard: boolean): RunDirectory => {
    const directory = aRun()
    const shim = { pid: 1, startTicks: 1 }
    directory.set("turn", {
      id: "t-1",
      shim,
      iteration: 3,
      sinceMs: 1,
      stops: 0,
      unheard,
      offered: [],
    })
    return directory
  }
  const holdOf = (iterations: ReturnType<typeof running>) => iterations.report(undefined).hold

  it("is to be ended after a minute that it ran, once, and withholds the next one until somebody resumes it", () => {
    const directory = begun(true)
    const iterations = running(directory)
    expect(iterations.unheard(59_999)).toBeUndefined()
    expect(iterations.unheard(1)).toMatchObject({ id: "t-1" })
    expect(iterations.unheard(60_000)).toBeUndefined()
    iterations.ended("t-1", 143, 60_000)
    for (const each of [iterations, running(directory)]) {
      expect(holdOf(each)).toEqual({
        reason: "Uncontrolled",
        message: expect.stringMatching(/iteration 3 .*for a minute and was ended/),
      })
      expect(each.uncontrolled()).toBe(true)
    }
    expect(iterations.overs).toEqual([]) // not even a run of mode once is over by it
  })

  it.each<[string, boolean, number, boolean]>([
    ["is uncontrolled when it ends well", true, 0, true],
    [
      "has failed when it ends at once with an error: claude says itself what is wrong",
      true,
      1,
      false,
    ],
    ["is as any other once it has asked", false, 0, false],
  ])("%s", (_, unheard, code, uncontrolled) => {
    const iterations = running(begun(unheard))
    if (!unheard) expect(iterations.unheard(600_000)).toBeUndefined()
    iterations.ended("t-1", code, 1)
    expect(iterations.uncontrolled()).toBe(uncontrolled)
    expect(iterations.report(undefined).last?.outcome).toBe(unheard ? "FAILED" : "NONE")
    expect(iterations.overs).toEqual(uncontrolled ? [] : [code])
  })
})

describe("an iteration that fails", () => {
  const limit = {
    error: "rate_limit",
    message: "You've hit your session limit · resets 11:06am (UTC)",
    details: "",
  }
  const tooLarge = {
    error: "invalid_request",
    message: "Request too large (max 32MB).",
    details: "",
  }
  const nowMs = Date.UTC(2026, 0, 1, 10)
  const supervised = (directory: RunDirectory) => {
    const run = directory.get("run")
    if (!run) throw new Error("no run")
    const ends: { failed: boolean; waits: boolean }[] = []
    const events: string[] = []
    const iterations = createIterations({
      directory,
      keeper: createDiskRetry(directory, () => {}),
      adopted: false,
      run,
      nowMs: () => nowMs,
      search: () => [],
      steadyMs: () => performance.now(),
      claude: () => ({ path: "/claude" }),
      zone: () => "UTC",
      jitterMs: () => 7,
      printed: () => ["error: unknown option '--nope'"],
      granted: () => ({ settings: {} }),
      emit: (kind, message) => void events.push(`${kind}: ${message}`),
      changed: () => {},
      over: ({ failed, waits }) => void ends.push({ failed, waits }),
    })
    const seen = () => iterations.report(undefined)
    return {
      ...iterations.word,
      end: (code: number) => iterations.ended("t-1", code, 1000),
      seen,
      ends,
      events,
      iterations,
    }
  }
  const begun = (unheard = false): RunDirectory => {
    const directory = aRun()
    const shim = { pid: 1, startTicks: 1 }
    directory.set("turn", {
      id: "t-1",
      shim,
      iteration: 1,
      sinceMs: 1,
      stops: 0,
      unheard,
      offered: [],
    })
    return directory
  }

  it("because of a limit, before the model did anything, is none of the budget's, and waits with claude's words", () => {
    const { failed, end, seen, ends, events } = supervised(begun())
    failed(limit)
    end(1)
    expect(seen()).toMatchObject({
      used: { iterations: 0 },
      last: { iteration: 1, outcome: "FAILED", text: limit.message },
      hold: {
        reason: "RateLimited",
        message: expect.stringContaining(limit.message),
        untilMs: nowMs + 67 * 60_000 + 7,
      },
    })
    expect(ends).toEqual([{ failed: true, waits: true }])
    expect(events.at(-1)).toBe(
      `IterationEnded: Iteration 1 was refused after 1 s and does not count. ${limit.message}`,
    )
  })

  it("because of a limit, after it had worked, counts and waits", () => {
    const { working, failed, end, seen, ends } = supervised(begun())
    working()
    failed(limit)
    end(1)
    expect(seen()).toMatchObject({ used: { iterations: 1 }, hold: { reason: "RateLimited" } })
    expect(ends).toEqual([{ failed: true, waits: true }])
  })

  it("after the model's last word has failed, whatever the exit code; what was heard outlives the supervisor", () => {
    const directory = begun()
    const before = supervised(directory)
    before.said("COMPLETE", "Done.")
    before.failed(tooLarge)
    const { end, seen, ends } = supervised(directory)
    end(0)
    expect(seen().last).toMatchObject({ outcome: "FAILED", text: tooLarge.message })
    expect(ends).toEqual([{ failed: true, waits: false }])
  })

  it("because of a limit that a predecessor heard, waits too", () => {
    const directory = begun()
    supervised(directory).failed(limit)
    const { end, seen } = supervised(directory)
    end(1)
    expect(seen()).toMatchObject({ used: { iterations: 0 }, hold: { reason: "RateLimited" } })
  })

  it("and recovers has not failed", () => {
    const { failed, said, end, seen, ends } = supervised(begun())
    failed(limit)
    said("PARTIAL", "More to do.")
    end(0)
    expect(seen().last).toMatchObject({ outcome: "PARTIAL", text: "More to do." })
    expect(seen().hold).toBeUndefined()
    expect(ends).toEqual([{ failed: false, waits: false }])
  })

  it("while the model works on after a word is told by that failure, not by the word", () => {
    const { said, working, end, seen } = supervised(begun())
    said("COMPLETE", "Done.")
    working()
    end(137)
    expect(seen().last).toMatchObject({
      outcome: "FAILED",
      text: expect.stringContaining("SIGKILL"),
    })
  })

  it("because claude refused to start says what it printed", () => {
    const { end, seen } = supervised(begun(true))
    end(1)
    expect(seen().last?.text).toBe(
      "claude refused to start (exit code 1). It printed: error: unknown option '--nope'",
    )
  })

  it("in ten ways, without a git repository, opens no circuit for want of progress", () => {
    const { end, iterations, seen } = supervised(begun())
    end(0)
    for (let count = 0; count < 20; count++) iterations.judge(undefined)
    expect(seen().hold).toBeUndefined()
  })
})

describe("the loop's output", () => {
  /**
   * What stands in the log after these were written, one after the other, each read before the
   * next.
   */
  const logged = async (
    ...chunks: (string | Buffer)[]
  ): Promise<{ run: RunDirectory; lines: string[]; stamps: string[] }> => {
    const run = aRun()
    let atMs = 0
    const output = captureOutput(run, () => ++atMs)
    const file = output.openForLoop()
    for (const chunk of chunks) {
      writeSync(file, typeof chunk === "string" ? Buffer.from(chunk) : chunk)
      await new Promise((resolve) => setTimeout(resolve, 5)) // lets it arrive as a chunk of its own; what must hold, holds also if it does not
    }
    closeSync(file)
    await output.finish()
    const whole = readFileSync(run.log, "utf8").split("\n").slice(0, -1)
    return {
      run,
      lines: whole.map((line) => line.slice(line.indexOf(" ") + 1)),
      stamps: whole.map((line) => line.split(" ")[0] ?? ""),
    }
  }

  it("is kept line by line, each with the moment of its arrival", async () => {
    const { lines, stamps } = await logged("one\ntwo\n", "three\n")
    expect(lines).toEqual(["one", "two", "three"])
    for (const stamp of stamps) expect(stamp).toMatch(/^1970-01-01T00:00:00\.\d{3}Z$/)
    expect(stamps.toSorted()).toEqual(stamps)
  })

  it("keeps a line whole that comes in parts, also within a character", async () => {
    const euro = Buffer.from("€")
    expect(
      (await logged("price: ", euro.subarray(0, 1), euro.subarray(1), " 5\nnext")).lines,
    ).toEqual(["price: € 5", "next"])
  })

  it.each([
    ["that ends", "\n"],
    ["that never ends", ""],
  ])("breaks a line %s where it is too long", async (_, ending) => {
    const { lines } = await logged("x".repeat(40_000) + ending)
    expect(lines.map(({ length }) => length)).toEqual([16_384, 16_384, 40_000 - 2 * 16_384])
  })

  it("goes on in a new part when one is full, and keeps the part before", async () => {
    const run = aRun()
    const output = captureOutput(run, () => 0)
    const lines = Math.ceil((logBytesMax + 1_000_000) / 1024)
    const file = output.openForLoop()
    const writer = spawn("sh", ["-c", `yes "$0" | head -n ${lines}`, "y".repeat(1023)], {
      stdio: ["ignore", file, "inherit"],
    })
    closeSync(file)
    await once(writer, "exit")
    await output.finish()
    const parts = [`${run.log}.1`, run.log]
    for (const path of parts) expect(statSync(path).size).toBeLessThanOrEqual(logBytesMax)
    // Each line that was written is there, whole: nothing is lost where one part follows the other.
    const kept = parts.flatMap((path) => readFileSync(path, "utf8").split("\n").slice(0, -1))
    expect(kept).toHaveLength(lines)
    expect(kept.filter((line) => line !== `1970-01-01T00:00:00.000Z ${"y".repeat(1023)}`)).toEqual(
      [],
    )
  })
})

describe("a loop that cannot be started", () => {
  it.each<
    [
      string,
      string,
      (at: string) => { command?: string[]; directory?: string; claude?: string },
      RegExp,
    ]
  >([
    [
      "its directory is gone",
      "DirectoryMissing",
      (at) => ({ directory: `${at}/gone` }),
      /gone is not there any more\. Bring it back/,
    ],
    [
      "the loop is gone",
      "ProgramMissing",
      (at) => ({ command: [`${at}/loop.sh`] }),
      /loop\.sh \(the loop\) is not there/,
    ],
    [
      "the loop is not executable",
      "NotExecutable",
      (at) => {
        writeFileSync(`${at}/loop.sh`, "", { mode: 0o644 })
        return { command: [`${at}/loop.sh`] }
      },
      /Run chmod \+x .*loop\.sh/,
    ],
  ])("says what to do when %s", (_, reason, made, words) => {
    const run = aRun(made(temporary()))
    const output = { openForLoop: () => -1, finish: async () => {} }
    const started = startLoop(
      run,
      createDiskRetry(run, () => {}),
      output,
      { port: 1, token: "t" },
      () => {},
      alone,
    )
    expect(started).toMatchObject({ reason, message: expect.stringMatching(words) })
    expect(run.get("loop")).toBeUndefined()
  })
})

describe("a loop in the strongest isolation that works here", () => {
  const markers: ProcessMarker[] = []
  afterEach(async () => {
    for (const marker of markers.splice(0)) await end(marker, new Set(), 0)
  })
  /** Runs a script as the loop; `ended` is its exit code, `said` its output so far. */
  const looped = async (script: string) => {
    const kind = (await probed(temporary())).kind
    const place = `p${process.pid}-${performance.now()}`
    const run = aRun({ command: ["bash", "-c", script], isolation: kind, place })
    const marker = processesOfRun("u-one", place)
    markers.push(marker)
    const file = openSync(`${run.path}/out`, "w")
    const output = { openForLoop: () => file, finish: async () => {} }
    const ended = Promise.withResolvers<number>()
    expect(
      startLoop(
        run,
        createDiskRetry(run, () => {}),
        output,
        { port: 1, token: "t" },
        ended.resolve,
        alone,
      ),
    ).toBeUndefined()
    return {
      kind,
      run,
      ended: ended.promise,
      pids: () => find(marker, new Set()).map(({ pid }) => pid),
      said: () => readFileSync(`${run.path}/out`, "utf8"),
      marker,
    }
  }

  it("ends with its own exit code, after what it left behind was told to end", async () => {
    const { kind, run, ended, said } = await looped(
      `echo began; setsid -f bash -c 'trap "echo told; exit" TERM; echo ready; while :; do sleep 0.01; done'; sleep 0.3; exit 7`,
    )
    expect(await ended).toBe(7)
    expect(run.get("ended")).toEqual({ code: 7 })
    // Without a namespace its supervisor tells them.
    expect(said().split("\n").includes("told")).toBe(kind !== "process tree")
  })

  it("is asked for by a process that sees another pid of its own than everybody else", async () => {
    const { said, pids, marker } = await looped(
      "read -r stat < /proc/self/stat; echo $stat; sleep 1000; :",
    )
    await until(() => said().includes("\n"))
    const fields = said().trim().split(" ")
    const self = { pid: Number(fields[0]), startTicks: Number(fields[21]) }
    const found = identify(self, everyOf(marker))
    expect(pids()).toContain(found?.pid)
    expect(processId(found?.pid ?? 0)).toEqual(found)
    expect(readFileSync(`/proc/${found?.pid}/comm`, "utf8")).toBe("bash\n")
    expect(identify({ ...self, startTicks: self.startTicks + 1 }, everyOf(marker))).toBeUndefined()
    expect(identify(self, everyOf(processesOfRun("u-one", "p2")))).toBeUndefined()
  })

  it("of an ordinary user has no rights in its namespace, cannot take the view away, and ssh still reads its configuration", () => {
    const uid = process.geteuid?.() || 33 // www-data: one that every system knows
    const stateDirectory = temporary()
    writeFileSync(join(stateDirectory, "token"), "secret")
    const script = [
      "id -u; grep CapEff /proc/self/status",
      `ls ${stateDirectory}; cat ${stateDirectory}/token`,
      `umount -l ${stateDirectory} || unshare --user --map-root-user --mount umount -l ${stateDirectory} || echo kept`,
      'for path in /etc/ssh/ssh_config.d/*; do test ! -e "$path" || stat -c "ssh %u" "$path"; done',
      "exit 9",
    ].join("; ")
    vi.spyOn(process, "geteuid").mockReturnValue(uid)
    const view = planView({
      stateDirectory,
      scratch: scratchOf(stateDirectory),
      guarded: nothingGuarded,
      work: [],
    })
    const options = { stateDirectory, directory: "/", graceSeconds: 0, view }
    const [program = "", ...args] = isolated(
      "pid and mount namespaces",
      ["sh", "-c", script],
      options,
    )
    vi.restoreAllMocks()
    const owned = readdirSync(stateDirectory).map((name) => join(stateDirectory, name))
    for (const path of [stateDirectory, ...owned]) chownSync(path, uid, uid)
    const as = { uid, gid: uid, encoding: "utf8" } as const
    const { status, stdout, stderr } = spawnSync(program, args, as)
    const allowed =
      spawnSync("unshare", ["--user", "--pid", "--fork", "--mount", "--mount-proc", "true"], as)
        .status === 0
    // Where a user may have no namespaces, nothing is run at all, and the probe has said so.
    if (!allowed) expect(stderr).toMatch(/unshare/)
    else {
      const [who, capabilities, ...rest] = stdout.trim().split("\n")
      expect({ who, capabilities }).toEqual({
        who: String(uid),
        capabilities: "CapEff:\t0000000000000000",
      })
      expect(rest.slice(0, 3)).toEqual(["clones", "trees", "kept"])
      expect(rest.slice(3).filter((line) => line !== `ssh ${uid}`)).toEqual([])
    }
    expect({ ran: stdout !== "", status: status === 9 }).toEqual({ ran: allowed, status: allowed })
  })

  it("is over, and all of it, when the first process of its namespace is killed", async () => {
    const { kind, ended, pids, said } = await looped(
      "env -i setsid -f sleep 1000; echo on; trap '' TERM; sleep 1000",
    )
    await until(() => said().includes("on"))
    const first = pids().find((pid) =>
      /^\/bin\/sh\0-c\0[^\0]*\0blackbox5-first\0/.test(
        readFileSync(`/proc/${pid}/cmdline`, "utf8"),
      ),
    )
    expect(first === undefined).toBe(kind === "process tree")
    for (const pid of first === undefined ? pids() : [first]) process.kill(pid, "SIGKILL")
    expect(await ended).toBeGreaterThan(0)
    await until(() => pids().length === 0)
  })
})

describe("the isolation that works here", () => {
  it.each<[string, string, RegExp]>([
    ["there is no unshare", "", /no program unshare .* in /],
    [
      "unshare is refused",
      "echo 'unshare: unshare failed: Operation not permitted' >&2; exit 1",
      /made: unshare: .*not permitted\.$/,
    ],
  ])("is none but the process tree when %s, and says why", async (_, script, why) => {
    const directory = temporary()
    if (script) writeFileSync(join(directory, "unshare"), `#!/bin/sh\n${script}\n`, { mode: 0o755 })
    const found = await probed(
      join(directory, "state"),
      script ? `${directory}:${systemPath}` : directory,
    )
    expect(found).toEqual({ kind: "process tree", why: expect.stringMatching(why) })
    expect(warningOf(found)).toContain(found.why)
  })

  it("lacks the view where nothing can be mounted", async () => {
    const directory = temporary()
    const whole = await probed(join(directory, "state"))
    writeFileSync(join(directory, "mount"), "#!/bin/sh\necho 'mount: not here' >&2; exit 32\n", {
      mode: 0o755,
    })
    const { kind, why } = await probed(join(directory, "state"), `${directory}:${systemPath}`)
    expect(kind).toBe(whole.kind === "process tree" ? "process tree" : "pid namespace")
    expect(why).toContain(whole.kind === "process tree" ? "" : "mount: not here")
  })
})

describe("the policy", () => {
  it("takes nothing for the defaults, and what it says otherwise", () => {
    expect(parsePolicy("")).toMatchObject({
      policy: { instancesMax: 50, turnsMax: 4, budget: { usd: 10 }, loops: {} },
    })
    expect(parsePolicy("# nothing\n")).toEqual(parsePolicy("{}"))
    expect(parsePolicy("turnsMax: 2\nloops:\n  mine: [./loop.sh, '{project}']\n")).toMatchObject({
      policy: {
        instancesMax: 50,
        turnsMax: 2,
        loops: { mine: { command: ["./loop.sh", "{project}"], completion: "exit" } },
      },
    })
    expect(parsePolicy("loops:\n  mine: { command: [x], completion: marker }\n")).toMatchObject({
      policy: { loops: { mine: { command: ["x"], completion: "marker" } } },
    })
  })

  it.each<[string, string, RegExp]>([
    ["a number that is none", "instancesMax: 2\nturnsMax: many\n", /^line 2: turnsMax: .*number/],
    ["a number out of bounds", "\n\ninstancesMax: 0\n", /^line 3: instancesMax: /],
    ["an unknown key", "turnsMax: 1\nturnMax: 2\n", /^line 2: turnMax: .*[Uu]nrecognized/],
    ["an unknown key within", "budget:\n  usd: 5\n  euros: 5\n", /^line 3: budget\.euros: /],
    ["a value within", "budget:\n  tokens: 10\n  usd: -1\n", /^line 3: budget\.usd: /],
    ["a relative path", "claude: bin/claude\n", /^line 1: claude: must be an absolute path/],
    [
      "a reserved loop",
      "turnsMax: 1\nloops:\n  ralf: [x]\n",
      /^line 2: loops: the name ralf is reserved/,
    ],
    ["a loop's name", "loops:\n  fine: [x]\n  Not Fine: [x]\n", /^line 3: loops\.Not Fine: /],
    [
      "a loop's name that is a number of YAML",
      "loops:\n  fine: [x]\n  -7: [x]\n",
      /^line 3: loops\.-7: /,
    ],
    ["a loop without words", "loops:\n  a: [x]\n  b: []\n", /^line 3: loops\.b: /],
    ["a word that is none", "loops:\n  a: [x]\n  b:\n    - x\n    - 3\n", /^line 5: loops\.b\.1: /],
    [
      "a loop without a command",
      "loops:\n  a: [x]\n  b: { completion: exit }\n",
      /^line 3: loops\.b\.command: /,
    ],
    [
      "a completion that is none",
      "loops:\n  b:\n    command: [x]\n    completion: never\n",
      /^line 4: loops\.b\.completion: /,
    ],
    ["broken YAML", "turnsMax: 1\nbudget: {usd: 1\n", /^line [23]: /],
    ["a key twice", "turnsMax: 1\nturnsMax: 2\n", /^line 2: /],
    ["an alias of nothing", "turnsMax: 1\nbudget: *none\n", /^line 2: .*none/],
    ["an isolation that is none", "isolation: strong\n", /^line 1: isolation: /],
    ["a list", "- turnsMax\n", /^line 1: .*object/],
    ["a text", "# a comment\nturnsMax\n", /^line 2: .*object/],
    ["several documents", "turnsMax: 1\n---\nturnsMax: 2\n", /^line 2: /],
  ])("refuses %s with its line", (_, text, words) => {
    expect(parsePolicy(text)).toEqual({ refused: expect.stringMatching(words) })
  })

  it("tells all that is wrong at once", () => {
    expect(parsePolicy("turnsMax: x\ninstancesMax: y\n")).toEqual({
      refused: expect.stringMatching(
        /line 2: instancesMax.*; line 1: turnsMax|line 1: turnsMax.*; line 2: instancesMax/,
      ),
    })
  })

  it("stays as it was while its file cannot be read, and says so", async () => {
    const directory = temporary()
    const path = join(directory, "policy.yaml")
    writeFileSync(path, "turnsMax: 7\n")
    const ended = new AbortController()
    const reports: string[] = []
    const policy = followPolicy(directory, (message) => void reports.push(message), ended.signal)
    try {
      expect(policy.current().turnsMax).toBe(7)
      rmSync(path)
      mkdirSync(path)
      await until(() => policy.refused() !== undefined)
      expect(policy.current().turnsMax).toBe(7)
      expect(policy.refused()).toContain(path)
      expect(reports).toHaveLength(1)
      // None at all means the defaults; one that can be read counts again.
      rmSync(path, { recursive: true })
      await until(() => policy.current().turnsMax === 4)
      expect(policy.refused()).toBeUndefined()
      writeFileSync(path, "turnsMax: 9\n")
      await until(() => policy.current().turnsMax === 9)
    } finally {
      ended.abort()
    }
  })
})

describe("the processes of an instance", () => {
  const trees: ProcessMarker[] = []
  const none = new Set<number>()
  const all = (marker: ProcessMarker) => () => find(marker, none)
  afterEach(async () => {
    for (const marker of trees.splice(0)) await end(marker, none, 0)
  })
  const stateOf = (pid: number): string => {
    try {
      const text = readFileSync(`/proc/${pid}/stat`, "latin1")
      return text.slice(text.lastIndexOf(")") + 2, text.lastIndexOf(")") + 3)
    } catch {
      return "gone"
    }
  }
  let count = 0
  /** A tree as claude makes it: a child, and one in a session of its own whose parent has ended. */
  const tree = (
    script = "sleep 1000 & setsid sh -c 'sleep 1001 & exec sleep 1002' > /dev/null 2>&1 & wait",
    [id, place] = [`u-test-${process.pid}-${++count}`, "p1"],
  ) => {
    const marker = processesOfRun(id, place)
    trees.push(marker)
    const child = spawn("bash", ["-c", script], {
      env: { PATH: process.env.PATH, [instanceVariable]: `${id}/${place}` },
      stdio: "ignore",
      detached: true,
    })
    return { id, marker, child, pids: () => find(marker, none).map(({ pid }) => pid) }
  }
  const commandOf = (pid: number): string => {
    try {
      return readFileSync(`/proc/${pid}/comm`, "utf8").trim()
    } catch {
      return "gone"
    }
  }
  /** Every process has become what it is to be, and waits. */
  const settled = ({ pids }: { pids(): number[] }): boolean =>
    pids().map(commandOf).toSorted().join(" ") === "bash sleep sleep sleep" &&
    pids().every((pid) => stateOf(pid) === "S")
  const whole = 4

  it("are found by their marker, also in another session and without their parent, and nobody else's are", async () => {
    const one = tree()
    const other = tree(undefined, [one.id, "p12"]) // another run of the same instance, whose place begins alike
    const stranger = tree(undefined, [`${one.id}0`, "p1"])
    await until(() => [one, other, stranger].every(settled))
    expect(one.pids().filter((pid) => other.pids().includes(pid))).toEqual([])
    const ofBoth = find(processesOfInstance(one.id), none).map(({ pid }) => pid)
    expect(ofBoth.toSorted()).toEqual([...one.pids(), ...other.pids()].toSorted())

    one.child.kill("SIGKILL")
    await until(() => one.pids().length === whole - 1)
    expect(one.pids().map(commandOf)).toEqual(["sleep", "sleep", "sleep"])
    const [spared = 0, ...rest] = one.pids()
    expect(find(one.marker, new Set([spared])).map(({ pid }) => pid)).toEqual(rest)
  })

  it("are found below one that bears the marker, also when they cleared their environment", async () => {
    const { pids } = tree("env -i sleep 1000 & wait")
    await until(() => pids().map(commandOf).includes("sleep"))
    expect(pids()).toHaveLength(2)
  })

  it("stand still all together, go on, and end all together", async () => {
    const one = tree()
    const bystander = tree()
    await until(() => settled(one) && settled(bystander))
    const { marker, pids } = one
    const known = pids()
    expect(freeze(all(marker))).toBe(true)
    await until(() => known.every((pid) => stateOf(pid) === "T"))
    expect(freeze(all(marker))).toBe(true)
    expect(bystander.pids().map(stateOf)).toEqual(bystander.pids().map(() => "S"))
    thaw(all(marker))
    await until(() => known.every((pid) => stateOf(pid) === "S"))
    expect(freeze(all(marker))).toBe(true)
    await end(marker, none, 3600) // a frozen process takes SIGTERM when it is let go: no grace passes
    expect(known.map(stateOf).filter((state) => state !== "Z" && state !== "gone")).toEqual([])
    expect(bystander.pids()).toHaveLength(whole)
  })

  it("leave out who is spared", async () => {
    const one = tree()
    await until(() => settled(one))
    const { marker, child } = one
    const spared = new Set([child.pid ?? 0])
    expect(freeze(() => find(marker, spared))).toBe(true)
    expect(stateOf(child.pid ?? 0)).not.toBe("T")
    await end(marker, spared, 0)
    expect(find(marker, spared)).toEqual([])
  })

  it("that do not listen to SIGTERM are killed after the grace", async () => {
    const { marker, pids } = tree(`trap "" TERM; sleep 1000 & while :; do wait; done`)
    await until(() => pids().length >= 2)
    await end(marker, none, 0.2)
    expect(pids()).toEqual([])
  })

  it("stand still also while they fork", async () => {
    const { marker, pids } = tree(
      "for one in 1 2 3 4; do while :; do sleep 0.01; done & done; wait",
    )
    await until(() => pids().length >= 5)
    for (let round = 0; round < 30; round++) {
      expect(freeze(all(marker))).toBe(true)
      expect(find(marker, none).map(({ state }) => state)).toEqual(pids().map(() => "T"))
      thaw(all(marker))
    }
  })

  it("are told apart by when they began", async () => {
    const { child } = tree("exec sleep 1000")
    const id = processId(child.pid ?? 0)
    if (!id) throw new Error("it does not run")
    expect(isAlive(id)).toBe(true)
    expect(isAlive({ ...id, startTicks: id.startTicks + 1 })).toBe(false)
    child.kill("SIGKILL")
    await once(child, "exit")
    expect(isAlive(id)).toBe(false)
    expect(processId(id.pid)).toBeUndefined()
  })
})
