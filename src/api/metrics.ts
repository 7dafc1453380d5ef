import { Counter, collectDefaultMetrics, Histogram, Registry } from "prom-client"
import { asFault } from "../core/faults.ts"
import type { Invoke } from "../core/invoke.ts"

export interface Metrics {
  /** The same Invoke, which now counts its calls by tool and code, and times them. */
  measured(invoke: Invoke): Invoke
  readonly contentType: string
  text(): Promise<string>
  /** For the gauges and counters of other parts. */
  readonly registry: Registry
}

/**
 * The metrics of one process, in a registry of their own. Calls of tools that do not exist count as
 * `unknown`, so that labels stay bounded.
 */
export function createMetrics(tools: readonly { readonly name: string }[]): Metrics {
  const registry = new Registry()
  collectDefaultMetrics({ register: registry })
  const names = new Set(tools.map(({ name }) => name))
  const calls = new Counter({
    name: "blackbox5_calls_total",
    help: "Tool calls by tool and code; code OK is success.",
    labelNames: ["tool", "code"] as const,
    registers: [registry],
  })
  const durations = new Histogram({
    name: "blackbox5_call_duration_seconds",
    help: "Duration of tool calls.",
    labelNames: ["tool"] as const,
    buckets: [0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10, 60, 600],
    registers: [registry],
  })
  return {
    registry,
    contentType: registry.contentType,
    text: () => registry.metrics(),
    measured: (invoke) => async (name, input, call) => {
      const tool = names.has(name) ? name : "unknown"
      const stop = durations.startTimer({ tool })
      let code = "OK"
      try {
        return await invoke(name, input, call)
      } catch (error) {
        code = asFault(error).code
        throw error
      } finally {
        stop()
        calls.inc({ tool, code })
      }
    },
  }
}
