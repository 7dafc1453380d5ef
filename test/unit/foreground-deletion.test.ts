import { expect, it } from "vitest"
import { createMemoryBackend } from "../../src/adapters/memory/backend.ts"
import { connectMemory } from "../../src/adapters/memory/connect.ts"
import { operate } from "../../src/control/operator.ts"
import type { Instances } from "../../src/core/ports.ts"
import { fakeRuntime } from "../contract/fake-runtime.ts"
import { aMail, aSpec, manualClock } from "../contract/harness.ts"

/**
 * Both ways in which an instance vanishes: the operator releases it, or the store does it alone.
 */

it.each(["release", "foreground deletion"] as const)(
  "an instance that is deleted vanishes by %s, and its end is told once",
  async (way) => {
    const clock = manualClock()
    const backend = createMemoryBackend(clock)
    const [here, there] = [connectMemory(backend, { clock }), connectMemory(backend, { clock })]
    await Promise.all([here.ready(), there.ready()])
    let released = 0
    const store: Instances = {
      ...here.instances,
      async release(seen) {
        released++
        if (way === "release") await here.instances.release(seen)
      },
    }
    const runtime = fakeRuntime(() => ({ stop: () => {} }))
    const stop = new AbortController()
    const failures: unknown[] = []
    const ports = { ...here, store, runtime, clock, newId: (prefix: string) => prefix }
    const running = operate(ports, 1, (_, error) => failures.push(error), stop.signal)
    const turn = () => new Promise((resolve) => setImmediate(resolve))
    const current = async () => there.instances.read("one")

    const { uid } = await there.instances.create("one", aSpec({ state: "Stopped" }))
    await there.mailboxes.send(uid, aMail("m1"))
    const created = await current()
    if (!created) throw new Error("it was not created")
    await there.instances.delete(created)
    while (released === 0) await turn()
    if (way === "foreground deletion") {
      // Still there while what it owns goes; the operator may come by once more.
      const marked = await current()
      expect(marked?.deletedAtMs).toBeDefined()
      if (marked) await there.instances.updateSpec(marked, { ...marked.spec, priority: 1 })
      while (released === 1) await turn()
      const last = await current()
      if (last) await there.instances.release(last)
    }
    while (here.instances.replica.get("one")) await turn()
    expect(await current()).toBeUndefined()
    const { events } = await there.timeline.lastEvents({ kinds: ["Removed"], limit: 10 })
    expect(events.map((event) => event.uid)).toEqual([uid])
    const [posted] = await there.mailboxes.posted({ to: uid, limit: 10 })
    expect(posted?.receipt.state).toBe("Returned")
    stop.abort()
    await running
    here.close()
    there.close()
    expect(failures).toEqual([])
  },
)
