import { describe, expect, it } from "vitest"
import { operators } from "../../../src/core/ports.ts"
import { expectFault } from "../../contract/expect-fault.ts"
import { agent, makeFleet, operator, type Result } from "../fleet.ts"
import { messagesOf, snapshot } from "./fleet-facts.ts"

describe("message_instances", () => {
  const say = (to: string[], more: object = {}): object => ({
    to,
    text: "Stop using Z.",
    waitSeconds: 0,
    ...more,
  })

  it("sends with the caller's name and authority, and says why each one waits", async () => {
    const fleet = makeFleet()
    fleet.running("inside", {}, fleet.inIteration())
    fleet.running("between")
    fleet.running("paused", { state: "Paused" })
    fleet.add(
      "queued",
      {},
      { admission: { verdict: "Queued", reason: "FleetFull", message: "Full.", term: 1 } },
    )
    const { receipts, next } = await fleet.call(operator)(
      "message_instances",
      say(["inside", "between", "paused", "queued", operators]),
    )
    expect(receipts.map(({ to, state, note }: Result) => [to, state, note])).toEqual([
      ["inside", "queued", "In iteration 1; delivered when it ends, or when the next one starts."],
      ["between", "queued", "Between iterations; delivered when the next one starts."],
      ["paused", "queued", "Paused; delivered when it resumes."],
      ["queued", "queued", "Queued; delivered when it next starts."],
      [operators, "queued", "A person reads it with read_messages."],
    ])
    expect(next).toContain(`"mails":["${receipts[0].mail}"`)
    expect(
      fleet.memory.posts.map(({ mail }) => [mail.from, mail.authority, mail.urgency]),
    ).toContainEqual(["operator ann", "operator", "next-iteration"])
    expect(messagesOf(fleet, "MailSent")).toHaveLength(5)
    const inside = fleet.byName.get("inside")
    if (inside) await fleet.call(agent(inside))("message_instances", say([operators]))
    expect(fleet.memory.posts[0]?.mail).toMatchObject({
      from: "instance inside",
      authority: "peer",
    })
  })

  it("refuses who would never read it, and fails when that is everybody", async () => {
    const fleet = makeFleet()
    fleet.running("runs")
    fleet.add("stopped", { state: "Stopped" })
    fleet.ended("done", { lastExit: { code: 0, atMs: 0, outcome: "Complete" } })
    fleet.put({ ...fleet.add("leaving"), deletedAtMs: 1 })
    const { receipts } = await fleet.call(operator)("message_instances", {
      all: true,
      text: "x",
      waitSeconds: 0,
    })
    expect(receipts.map(({ to, state }: Result) => [to, state])).toEqual([
      ["runs", "queued"],
      ["stopped", "refused"],
      ["done", "refused"],
      ["leaving", "refused"],
    ])
    expect(receipts[1].note).toContain("resume_instances")
    const before = snapshot(fleet)
    await expectFault(
      fleet.call(operator)("message_instances", say(["stopped", "done"])),
      "Conflict",
      /stopped: It is stopped.*done: Its loop/,
    )
    expect(snapshot(fleet)).toBe(before)
    await expectFault(
      fleet.call(operator)("message_instances", { project: "none", text: "x" }),
      "NotFound",
    )
    fleet.memory.hooks.full = fleet.byName.get("runs")?.uid
    await expectFault(fleet.call(operator)("message_instances", say(["runs"])), "RateLimited")
    expect(
      (await fleet.call(operator)("message_instances", say(["runs", operators]))).receipts[0],
    ).toMatchObject({
      state: "refused",
      note: expect.stringContaining("200 messages wait"),
    })
  })

  it("sends once for one idempotencyKey, and keeps senders and recipients apart", async () => {
    const fleet = makeFleet()
    const a = fleet.running("a")
    fleet.running("b", { lineage: [a.uid] })
    const keyed = say(["a", "b"], { idempotencyKey: "k" })
    const first = await fleet.call(operator)("message_instances", keyed)
    const again = await fleet.call(operator)("message_instances", keyed)
    expect(again.receipts).toEqual(first.receipts)
    expect(fleet.memory.posts).toHaveLength(2)
    expect(messagesOf(fleet, "MailSent")).toHaveLength(2)
    await fleet.call(agent(a))("message_instances", say(["b"], { idempotencyKey: "k" }))
    expect(fleet.memory.posts).toHaveLength(3)
    await fleet.call(operator)("message_instances", say(["a"]))
    await fleet.call(operator)("message_instances", say(["a"]))
    expect(fleet.memory.posts).toHaveLength(5)
  })

  it("waits until urgent mail is delivered, and says where", async () => {
    const fleet = makeFleet()
    for (const name of ["a", "b"]) fleet.running(name, {}, fleet.inIteration())
    const deliver = async (index: number): Promise<void> => {
      const post = fleet.memory.posts[index]
      if (!post) throw new Error("not sent")
      await fleet.memory.mailboxes.receipt(post.to, {
        mail: post.mail.id,
        state: "Delivered",
        iteration: 14,
        hook: "PostToolUse",
      })
      await fleet.memory.timeline.append({
        id: `d${index}`,
        kind: "MailDelivered",
        message: "",
        atMs: 0,
      })
    }
    let waits = 0
    fleet.memory.hooks.waiting = () => {
      const areSent = fleet.memory.posts.length === 2 && fleet.memory.events.length >= 2
      if (areSent && waits < 2) void deliver(waits++)
    }
    const { receipts, next } = await fleet.call(operator)(
      "message_instances",
      say(["a", "b"], { urgency: "now", waitSeconds: 8 }),
    )
    expect(receipts.map(({ state, note }: Result) => [state, note])).toEqual([
      ["delivered", "iteration 14, PostToolUse"],
      ["delivered", "iteration 14, PostToolUse"],
    ])
    expect(fleet.progress.toSorted()).toEqual([
      "a: delivered in iteration 14",
      "b: delivered in iteration 14",
    ])
    expect(next).toContain("inspect_instance")
    expect(fleet.memory.posts).toHaveLength(2)
  })

  it("waits no longer than it was told, for nobody who cannot read now, and for no caller who left", async () => {
    const fleet = makeFleet()
    fleet.running("a", {}, fleet.inIteration())
    fleet.running("paused", { state: "Paused" })
    const urgent = { urgency: "now", waitSeconds: 50 }
    let listening = 0
    fleet.memory.hooks.waiting = () => void listening++
    await fleet.call(operator)("message_instances", say(["paused"], urgent))
    await fleet.call(operator)("message_instances", say(["a"], { waitSeconds: 50 }))
    expect(listening).toBe(0)
    fleet.memory.hooks.waiting = () => {
      // the second time it listens its mail is sent and still waits
      if (++listening === 2) fleet.clock.advance(50_000)
    }
    const late = await fleet.call(operator)("message_instances", say(["a"], urgent))
    expect(late.receipts[0]).toMatchObject({ state: "queued" })
    expect(listening).toBe(2)
    const leaving = new AbortController()
    fleet.memory.hooks.waiting = () => {
      if (++listening === 4) leaving.abort()
    }
    const gone = await fleet.call(operator, leaving.signal)("message_instances", say(["a"], urgent))
    expect(gone.receipts[0]).toMatchObject({ state: "queued" })
    expect(fleet.memory.posts[0]?.mail.id).toBe(gone.receipts[0].mail)
  })

  it("waits two seconds for a supervisor that stands still, and as long as it was told for one that works", async () => {
    const fleet = makeFleet()
    const a = fleet.running("a", {}, fleet.inIteration())
    fleet.clock.advance(1000)
    const urgent = { urgency: "now", waitSeconds: 50 }
    let listening = 0
    fleet.memory.hooks.waiting = () => {
      if (++listening === 2) fleet.clock.advance(2000)
    }
    const still = await fleet.call(operator)("message_instances", say(["a"], urgent))
    expect(still.receipts[0]).toMatchObject({ state: "queued" })
    // One that works answers a mail by a beat.
    listening = 0
    const beganAtMs = fleet.clock.nowMs()
    fleet.memory.hooks.waiting = () => {
      const beat = fleet.memory.beats.get(a.uid)
      if (beat) fleet.memory.beats.set(a.uid, { ...beat, atMs: fleet.clock.nowMs() })
      if (++listening > 1) fleet.clock.advance(listening === 2 ? 2000 : 48_000)
    }
    await fleet.call(operator)("message_instances", say(["a"], urgent))
    expect(fleet.clock.nowMs() - beganAtMs).toBe(50_000)
  })

  it("marks a question answered, only by whom it was sent to", async () => {
    const fleet = makeFleet()
    const a = fleet.running("a")
    const b = fleet.running("b")
    const asked = (await fleet.call(agent(a))("message_instances", say([operators]))).receipts[0]
      .mail
    await expectFault(
      fleet.call(agent(b))("message_instances", say([operators], { replyTo: asked })),
      "NotFound",
      /was sent to you/,
    )
    await fleet.call(operator)("message_instances", say(["a"], { replyTo: asked }))
    const { messages } = await fleet.call(agent(a))("read_messages", { sent: true })
    expect(messages).toMatchObject([{ mail: asked, to: operators, state: "answered" }])
  })

  it("reaches 200 at most", async () => {
    const fleet = makeFleet()
    for (let count = 0; count < 201; count++) fleet.add(`a-${count}`)
    await expectFault(
      fleet.call(operator)("message_instances", { all: true, text: "x" }),
      "TooLarge",
      /201/,
    )
    expect(fleet.memory.posts).toEqual([])
  })
})
