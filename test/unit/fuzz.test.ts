/**
 * Every tool with input that its schema admits, and with input that it must not: never a crash,
 * never a hang, never a change that was refused.
 */
import fc from "fast-check"
import { describe, expect, it } from "vitest"
import { z } from "zod"
import { asFault } from "../../src/core/faults.ts"
import type { Principal } from "../../src/core/principal.ts"
import { tools } from "../../tools/index.ts"
import { broken, type Schema, valid } from "../fuzz-values.ts"
import { admin, agent, type Fleet, makeFleet, operator, viewer } from "./fleet.ts"

/** Fixed, so that a failure is everybody's; fast-check prints what it found, made small. */
const runs = { seed: 5, numRuns: 250 }
const answerBytesMax = 262_144
// biome-ignore lint/suspicious/noControlCharactersInRegex: what no answer may have
const controls = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/

const names = ["top", "top", "top", "mid", "mid", "mid", "low", "low", "other", "gone"]
async function fleetOf(): Promise<{ fleet: Fleet; people: readonly Principal[] }> {
  const fleet = makeFleet()
  const top = fleet.running("top", { labels: { team: "web" } }, fleet.inIteration())
  const mid = fleet.running("mid", { lineage: [top.uid] })
  fleet.add("low", { lineage: [top.uid, mid.uid], state: "Paused", pause: { when: "now" } })
  const other = fleet.ended("other", {})
  fleet.logs.push({ atMs: 0, text: "a line" }, { atMs: 1, text: "\u001b[31ma red line" })
  await fleet.call(admin)("create_token", { name: "top", role: "viewer" })
  return { fleet, people: [admin, operator, viewer, agent(top), agent(mid), agent(other)] }
}
const known = {
  name: fc.oneof(
    fc.constantFrom(...names),
    fc.stringMatching(/^[a-z0-9]([-a-z0-9]{0,51}[a-z0-9])?$/, { size: "small" }),
  ),
  names: fc.constantFrom(...names),
  of: fc.constantFrom(...names, "@operators"),
  to: fc.constantFrom(...names, "@operators"),
  project: fc.constantFrom("shop", "nowhere", "..", "a/b"),
  mail: fc.constantFrom("m-1", "m-none"),
  after: fc.constantFrom("", "$", "0", "1", "-1", "x", "999999"),
  selector: fc.constantFrom("team=web", "team!=web", "team", "a=b=c"),
  expect: fc.constantFrom(0, 1, 2, 3, 4),
  replyTo: fc.constantFrom("m-1", "m-none"),
  since: fc.constantFrom("1h", "0s", "2026-01-01T00:00:00Z", "99999d", "soon"),
}
const listOf = (one: fc.Arbitrary<unknown>) => fc.array(one, { minLength: 1, maxLength: 4 })
const lists = { ...known, names: listOf(known.names), to: listOf(known.to) }

const snapshot = ({ byName, memory, spent }: Fleet): string =>
  JSON.stringify([[...byName.values()], memory.posts, memory.events, [...spent]])

/**
 * What became of a call, while time goes on as fast as it can: `Hang` when an hour of it was not
 * enough.
 */
async function outcomeOf(
  fleet: Fleet,
  who: Principal,
  tool: string,
  input: unknown,
): Promise<{ code: string; text: string }> {
  const called = fleet
    .call(who)(tool, input)
    .then(
      (output) => ({ code: "done", text: JSON.stringify(output) }),
      (error: unknown) => {
        const { code, message, next, cause } = asFault(error)
        return {
          code: code === "Internal" ? `Internal: ${String(cause)}` : code,
          text: `${message} ${next}`,
        }
      },
    )
  let over: { code: string; text: string } | undefined
  void called.then((outcome) => {
    over = outcome
  })
  for (let seconds = 0; !over && seconds < 3600; seconds += 5) {
    // Some work is done by other threads (digests): it has a second of real time, all in all.
    await new Promise((resolve) => (seconds < 30 ? setImmediate(resolve) : setTimeout(resolve, 1)))
    if (!over && seconds >= 30) fleet.clock.advance(5000)
  }
  return over ?? { code: "Hang", text: "" }
}

describe.each(tools.map((tool) => [tool.name, tool] as const))("%s", (name, tool) => {
  // Zod prints JSON schema.
  const schema = z.toJSONSchema(tool.input, { io: "input", unrepresentable: "any" }) as Schema
  const check = async (at: number, input: unknown): Promise<string> => {
    const { fleet, people } = await fleetOf()
    const who = people[at % people.length] ?? admin
    const before = snapshot(fleet)
    const { code, text } = await outcomeOf(fleet, who, name, input)
    expect(code).not.toMatch(/^(Internal|Hang)/)
    expect(Buffer.byteLength(text)).toBeLessThanOrEqual(answerBytesMax)
    if (code === "done") expect(text).not.toMatch(controls)
    else expect(snapshot(fleet)).toBe(before)
    return code
  }

  it("takes what its schema admits, or says why not", async () => {
    const seen = new Set<string>()
    await fc.assert(
      fc.asyncProperty(
        fc.nat(5),
        valid(schema, lists),
        async (at, input) => void seen.add(await check(at, input)),
      ),
      runs,
    )
    expect(seen).toContain("done")
  })

  it("refuses what its schema does not, and what is none of its kind", async () => {
    const seen = new Set<string>()
    await fc.assert(
      fc.asyncProperty(
        fc.nat(5),
        broken(schema, lists),
        async (at, input) => void seen.add(await check(at, input)),
      ),
      runs,
    )
    expect(seen).toContain("Invalid")
  })
})
