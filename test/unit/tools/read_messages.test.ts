import { describe, expect, it } from "vitest"
import { operators } from "../../../src/core/ports.ts"
import { expectFault } from "../../contract/expect-fault.ts"
import { agent, makeFleet, operator } from "../fleet.ts"

describe("read_messages", () => {
  it("gives a person the operators' inbox, an instance's, a receipt by id, and what was sent", async () => {
    const fleet = makeFleet()
    const a = fleet.running("a")
    await fleet.call(agent(a))("message_instances", { to: [operators], text: "Which\u0007 shop?" })
    const mail = (
      await fleet.call(operator)("message_instances", { to: ["a"], text: "The first." })
    ).receipts[0].mail
    const read = fleet.call(operator)
    const inbox = await read("read_messages")
    expect(inbox.messages).toMatchObject([
      {
        from: "instance a",
        to: operators,
        untrusted: "<untrusted-nonce>\nWhich shop?\n</untrusted-nonce>",
      },
    ])
    expect(inbox.next).toContain(`"replyTo":"${inbox.messages[0].mail}"`)
    for (const input of [{ of: "a" }, { mails: [mail] }, { sent: true }])
      expect((await read("read_messages", input)).messages, JSON.stringify(input)).toMatchObject([
        { mail, from: "operator ann", to: "a", state: "queued" },
      ])
    expect(await read("read_messages", { sent: true, of: operators })).toEqual({
      messages: [],
      next: "There are none.",
    })
  })

  it("gives an agent its own inbox alone", async () => {
    const fleet = makeFleet()
    const a = fleet.running("a")
    const b = fleet.running("b", { lineage: [a.uid] })
    await fleet.call(operator)("message_instances", { to: ["a", "b"], text: "x" })
    expect((await fleet.call(agent(b))("read_messages")).messages).toMatchObject([{ to: "b" }])
    const ofA = fleet.memory.posts.find(({ to }) => to === a.uid)?.mail.id
    expect((await fleet.call(agent(b))("read_messages", { mails: [ofA] })).messages).toEqual([])
    await expectFault(fleet.call(agent(b))("read_messages", { of: "a" }), "Forbidden")
    await expectFault(fleet.call(agent(b))("read_messages", { of: operators }), "Forbidden")
  })

  it("shows a name used again nothing that its former bearer sent", async () => {
    const fleet = makeFleet()
    await fleet.call(agent(fleet.running("a")))("message_instances", {
      to: [operators],
      text: "old",
    })
    const heir = fleet.running("a")
    expect((await fleet.call(agent(heir))("read_messages", { sent: true })).messages).toEqual([])
    await fleet.call(agent(heir))("message_instances", { to: [operators], text: "new" })
    expect((await fleet.call(agent(heir))("read_messages", { sent: true })).messages).toHaveLength(
      1,
    )
  })

  it("says what it cut", async () => {
    const fleet = makeFleet()
    const a = fleet.running("a")
    for (let count = 0; count < 4; count++)
      await fleet.call(agent(a))("message_instances", { to: [operators], text: "y".repeat(16_384) })
    const some = await fleet.call(operator)("read_messages", { limit: 3 })
    expect(some.messages).toHaveLength(3)
    expect(some.cut).toMatch(/older messages; what is beyond 10922 characters/)
    const one = await fleet.call(operator)("read_messages", { mails: [some.messages[0].mail] })
    expect(one.messages[0].untrusted).toContain("y".repeat(16_384))
    expect(one).not.toHaveProperty("cut")
  })
})
