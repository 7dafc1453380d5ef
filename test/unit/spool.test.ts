import { describe, expect, it } from "vitest"
import { createSpool, keptEventsMax, spooledEventsMax } from "../../src/agent/spool.ts"
import type { Sequenced } from "../../src/core/frames.ts"

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
