import { rmSync } from "node:fs"
import { join } from "node:path"
import { describe, expect, it } from "vitest"
import { z } from "zod"
import { fail, type Reply, say, use } from "../model/model.ts"
import { eventually, type McpClient, makeWorld, processesOf, type World } from "./world.ts"

/**
 * What people read when the model's service refuses, or claude does not come to its end: the real
 * claude, its own words.
 */

const seenSchema = z.looseObject({
  phase: z.string(),
  why: z.string(),
  fix: z.string(),
  untrusted: z.string().optional(),
  activity: z.object({ untrusted: z.string() }).optional(),
  last: z.object({ iteration: z.int(), outcome: z.string(), untrusted: z.string() }).optional(),
  usage: z.looseObject({ iterations: z.int() }),
})
const look = async (client: McpClient, name: string) =>
  seenSchema.parse(await client.call("inspect_instance", { name }))
const reaches = (client: McpClient, name: string, phase: string) =>
  eventually(async () => {
    const seen = await look(client, name)
    return seen.phase === phase && seen
  }, `${name} is ${phase}`)
const eventsOf = async (client: McpClient, name: string): Promise<string> => {
  const { events } = z
    .looseObject({ events: z.looseObject({ untrusted: z.string() }) })
    .parse(await client.call("inspect_instance", { name, sections: ["events"] }))
  return events.untrusted
}

/** A claude logged in with a subscription: the answers of the API about it need no key. */
const subscription = {
  ANTHROPIC_API_KEY: "",
  CLAUDE_CODE_OAUTH_TOKEN: "sk-ant-oat01-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
}
/** A subscription's limit, as the API tells of it. */
const limitOver = (atMs: number, claim = "seven_day"): Reply => ({
  ...fail(429, { message: "This request would exceed your account's rate limit." }),
  headers: {
    "x-should-retry": "false",
    "anthropic-ratelimit-unified-status": "rejected",
    "anthropic-ratelimit-unified-representative-claim": claim,
    "anthropic-ratelimit-unified-reset": String(Math.floor(atMs / 1000)),
  },
})
const env = { CLAUDE_CODE_MAX_RETRIES: "0" }

describe("a model's service that refuses", () => {
  it("is told in claude's own words, which open no circuit as long as they differ", async () => {
    const answers: readonly Reply[] = [
      fail(404, { message: "model: nope", type: "not_found_error" }),
      fail(413, { message: "Request exceeds the maximum size", type: "request_too_large" }),
      fail(400, { message: "messages: roles must alternate", type: "invalid_request_error" }),
      fail(400, { message: "thinking: budget is too small", type: "invalid_request_error" }),
      fail(422, { message: "tools: too many", type: "invalid_request_error" }),
    ]
    // Some errors claude asks about once more: each of its sessions gets one answer.
    const sessions: string[] = []
    await using world = await makeWorld(
      ({ session = "" }) => {
        if (!sessions.includes(session)) sessions.push(session)
        return answers[sessions.indexOf(session)] ?? say("Status: PARTIAL")
      },
      { env },
    )
    const client = await world.connect()
    await client.call("spawn_instance", { project: "shop", name: "one", budget: { iterations: 6 } })
    await reaches(client, "one", "BudgetReached")
    const events = await eventsOf(client, "one")
    for (const words of [
      "issue with the selected model",
      "Request too large",
      "roles must alternate",
      "budget is too small",
      "too many",
    ])
      expect(events).toMatch(new RegExp(`IterationEnded .*FAILED, exit code 1\\. .*${words}`))
    expect(events).not.toContain("failed in the same way")
    expect((await look(client, "one")).last).toMatchObject({ iteration: 6, outcome: "PARTIAL" })
  }, 120_000)

  it("holds until its limit ends, with claude's words, and that is no iteration", async () => {
    const endMs = Date.now() + 3 * 86_400_000
    await using world = await makeWorld(() => limitOver(endMs), {
      env: { ...env, ...subscription },
    })
    const client = await world.connect()
    await client.call("spawn_instance", { project: "shop", name: "one", mode: "once" })
    const held = await reaches(client, "one", "RateLimited")
    expect(held.why).toMatch(/limit is reached\. It continues in (72 h|3 days)\.$/)
    expect(held.untrusted).toMatch(
      /limit is reached: "You've hit your weekly limit · resets .*\(.*\)"\./,
    )
    await eventually(
      async () => (await eventsOf(client, "one")).includes("does not count"),
      "the end of the refused iteration",
    )
    const { usage, last } = await look(client, "one")
    expect(usage.iterations).toBe(0)
    expect(last).toMatchObject({
      outcome: "FAILED",
      untrusted: expect.stringContaining("You've hit your weekly limit"),
    })
    expect(world.model.requests.filter(({ main }) => main)).toHaveLength(1)
  }, 120_000)

  it("goes on by itself when the limit is over, and a run of mode once has its iteration then", async () => {
    let refused = 0
    await using world = await makeWorld(
      () =>
        refused++ === 0
          ? fail(429, { message: "Claude AI usage limit reached|1700000000" })
          : say("Done.\n<promise>COMPLETE</promise>"),
      { env },
    )
    const client = await world.connect()
    await client.call("spawn_instance", { project: "shop", name: "one", mode: "once" })
    expect((await reaches(client, "one", "RateLimited")).untrusted).toContain("usage limit reached")
    const done = await eventually(
      async () => {
        const seen = await look(client, "one")
        return seen.phase === "Completed" && seen
      },
      "the iteration after the limit",
      180,
    )
    expect(done.usage.iterations).toBe(1)
  }, 240_000)

  it("waits for a person after a limit where the policy says so", async () => {
    let refused = 0
    await using world = await makeWorld(
      () =>
        refused++ === 0
          ? limitOver(Date.now() + 60_000, "five_hour")
          : say("Done.\n<promise>COMPLETE</promise>"),
      { env: { ...env, ...subscription }, policy: "afterRateLimit: hold\n" },
    )
    const client = await world.connect()
    await client.call("spawn_instance", { project: "shop", name: "one" })
    const held = await reaches(client, "one", "Held")
    expect(held.why).toMatch(/afterRateLimit: hold, so a person must resume it\.$/)
    expect(held.untrusted).toContain("session limit")
    expect(held.fix).toContain('resume_instances {"names":["one"]}')
    await client.call("resume_instances", { names: ["one"] })
    await reaches(client, "one", "Completed")
  }, 120_000)

  it.each<[string, Reply, string, RegExp, RegExp]>([
    [
      "a key that is none",
      fail(401, { message: "invalid x-api-key", type: "authentication_error" }),
      "Held",
      /refused the login: "Invalid API key/,
      /log in, or correct its API key/,
    ],
    [
      "an account without credit",
      fail(400, {
        message: "Your credit balance is too low to access the Anthropic API.",
        type: "invalid_request_error",
      }),
      "Held",
      /cannot pay for the model: "Credit balance is too low"\. Add credit/,
      /Fix it, then run resume_instances/,
    ],
    [
      "an organization that is disabled",
      fail(400, { message: "This organization has been disabled.", type: "invalid_request_error" }),
      "Held",
      /organization of this login.*disabled organization.*administrator/,
      /Fix it, then run resume_instances/,
    ],
    [
      "a service that fails",
      fail(500, { message: "Internal server error" }),
      "Waiting",
      /service failed: "API Error: 500/,
      /by itself/,
    ],
  ])(
    "says of %s what it is and what to do",
    async (_what, answer, phase, why, fix) => {
      await using world = await makeWorld(() => answer, { env })
      const client = await world.connect()
      await client.call("spawn_instance", { project: "shop", name: "one" })
      const seen = await eventually(async () => {
        const found = await look(client, "one")
        return why.test(found.untrusted ?? "") && found
      }, "the reason")
      expect(seen.phase).toBe(phase)
      expect(seen.fix).toMatch(fix)
      expect(seen.usage.iterations).toBe(0)
    },
    120_000,
  )
})

describe("a claude that does not come to its end", () => {
  const claudeOf = (world: World): number | undefined =>
    processesOf(world.directory).find(
      ({ command }) => /^\S*claude(\.exe)? /.test(command) && command.includes("--settings"),
    )?.pid

  it("because it was killed is said to be killed", async () => {
    await using world = await makeWorld(() =>
      use([{ name: "Bash", input: { command: "sleep 1000", timeout: 600_000 } }]),
    )
    const client = await world.connect()
    await client.call("spawn_instance", { project: "shop", name: "one", budget: { iterations: 1 } })
    await eventually(
      async () => /Bash/.test((await look(client, "one")).activity?.untrusted ?? ""),
      "a tool at work",
    )
    const pid = await eventually(() => claudeOf(world), "claude")
    process.kill(pid, "SIGKILL")
    const { last } = await reaches(client, "one", "BudgetReached")
    expect(last).toMatchObject({
      outcome: "FAILED",
      untrusted: expect.stringMatching(/ended by SIGKILL \(exit code 137\)/),
    })
  }, 120_000)

  it("because it refuses to start is told with what it printed", async () => {
    await using world = await makeWorld(() => say("never asked"), {
      policy:
        'loops:\n  wrong: [bash, -c, "while claude -p --nope go || true; do sleep 0.2; done"]\n',
    })
    const client = await world.connect()
    await client.call("spawn_instance", {
      project: "shop",
      name: "one",
      loop: "wrong",
      budget: { iterations: 2 },
    })
    const { last } = await reaches(client, "one", "BudgetReached")
    expect(last?.untrusted).toMatch(
      /claude refused to start \(exit code 1\)\. It printed: error: unknown option '--nope'/,
    )
  }, 120_000)
})

describe("an agent without a git repository", () => {
  it("has a progress that is unknown, which is not the same as none", async () => {
    await using world = await makeWorld(() => say("Working."))
    const client = await world.connect()
    rmSync(join(world.codeRoot, ".git"), { recursive: true, force: true })
    rmSync(join(world.projectOf("shop"), ".git"), { recursive: true, force: true })
    await client.call("spawn_instance", { project: "shop", name: "one", mode: "once" })
    await eventually(
      async () => (await client.call("inspect_instance", { name: "one" })).work !== undefined,
      "its work tree",
    )
    const { stdout } = await world.cli("inspect-instance", "one")
    expect(stdout).toContain("progress unknown (not a git repository)")
    expect((await client.call("inspect_instance", { name: "one" })).work).not.toHaveProperty(
      "commits",
    )
  }, 120_000)
})
