import { expect, it } from "vitest"
import { createMemoryBackend } from "../../src/adapters/memory/backend.ts"
import { connectMemory } from "../../src/adapters/memory/connect.ts"
import { operate } from "../../src/control/operator.ts"
import type { Instances, Runtime } from "../../src/core/ports.ts"
import { topic } from "../../src/core/source.ts"
import { manualClock } from "../contract/harness.ts"

it("the operator takes an instance that lives before hundreds that do not", async () => {
  const names = Array.from({ length: 300 }, (_, index) => `never-${index}`)
  const gate = Promise.withResolvers<void>()
  const listed = Promise.withResolvers<void>()
  const done = Promise.withResolvers<void>()
  const seen: string[] = []
  const watched = topic<string>(async () => names)
  const unused = async (): Promise<never> => {
    throw new Error("nothing is to be done for these")
  }
  const runtime: Runtime = {
    async *watch() {
      await listed.promise
      yield "alive"
      gate.resolve()
    },
    async get(name) {
      seen.push(name)
      if (seen.length === 16) listed.resolve() // as many as it takes at once: all others wait
      await gate.promise
      if (seen.length === names.length + 1) done.resolve()
      return undefined
    },
    lives: (name) => name === "alive",
    start: unused,
    stop: unused,
    clean: unused,
  }
  // Only what the operator reads of them: an instance that is not there needs no more.
  const replica = { watch: watched.source, get: () => undefined }
  const store = { replica } as unknown as Instances
  const stop = new AbortController()
  const clock = manualClock()
  const ports = {
    ...connectMemory(createMemoryBackend(clock), { clock }),
    store,
    runtime,
    clock,
    newId: (prefix: string) => prefix,
  }
  const running = operate(ports, 1, (_key, error) => done.reject(error), stop.signal)
  await done.promise
  stop.abort()
  await running
  expect(seen.indexOf("alive")).toBe(16)
})
