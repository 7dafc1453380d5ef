import { fakeRuntime } from "./fake-runtime.ts"
import { runtimeContract } from "./runtime.ts"

runtimeContract("the fake", async () => {
  const runtime = fakeRuntime(() => ({ stop: () => {} }))
  return {
    open: async () => runtime,
    processCount: runtime.processCount,
    endLoop: async (uid) => runtime.endLoop(uid),
    hasTraces: runtime.hasTraces,
    async [Symbol.asyncDispose]() {},
  }
})
