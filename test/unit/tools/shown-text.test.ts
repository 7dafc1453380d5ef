import { describe, expect, it } from "vitest"
import { tools } from "../../../tools/index.ts"
import { admin, makeFleet } from "../fleet.ts"

describe("what people see", () => {
  it("repeats every result as text, with a row for each thing", async () => {
    const fleet = makeFleet()
    fleet.running("a", {}, fleet.inIteration())
    fleet.logs.push({ atMs: 0, text: "printed" })
    const inputs: Record<string, object> = {
      spawn_instance: {},
      inspect_instance: { name: "a" },
      update_instance: { name: "a", priority: 3 },
      wait_for_instances: { names: ["a"], timeoutSeconds: 0 },
      message_instances: { to: ["a"], text: "Hello" },
      pause_instances: { names: ["a"] },
      resume_instances: { names: ["a"] },
      stop_instances: { names: ["a"] },
      read_logs: { name: "a" },
      read_messages: { of: "a" },
      create_token: { name: "ann", role: "viewer", expires: "30d" },
      list_tokens: {},
      revoke_token: { name: "ann" },
    }
    const order = tools
      .map(({ name }) => name)
      .sort((a, b) => Object.keys(inputs).indexOf(a) - Object.keys(inputs).indexOf(b))
    const shown = new Map<string, { text: string; rows?: readonly object[] }>()
    for (const name of order) {
      const tool = tools.find((one) => one.name === name)
      if (tool) shown.set(name, tool.show(await fleet.call(admin)(name, inputs[name] ?? {})))
    }
    expect(shown.size).toBe(tools.length)
    expect(shown.get("pause_instances")?.text).toMatch(/^1 of 1 instance paused\. resume_instances/)
    expect(shown.get("list_instances")?.text).toMatch(/^1 of 1 instance\./)
    expect(shown.get("read_logs")?.text).toContain("printed")
    expect(shown.get("message_instances")?.text).toMatch(/^a: queued \(m-/)
    expect([...shown.values()].filter(({ text }) => text.length < 10)).toEqual([])
  })
})
