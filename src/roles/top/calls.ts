import { z } from "zod"
import { tools } from "../../../tools/index.ts"
import { asFault, Fault } from "../../core/faults.ts"
import type { Invoke } from "../../core/invoke.ts"
import { noProgress } from "../../core/tool.ts"
import { counted, withSaid } from "../../core/view.ts"
import { withoutFences } from "../fence.ts"
import type { Hints } from "../hints.ts"
import type { Fleet, Order, TextOf } from "./state.ts"

/** The calls that `top` makes, and what it takes from their results. */

/** What an agent does and spends is no event, so the table is refreshed at least this often. */
const eventWaitSeconds = 2
const callMs = 10_000
const rowsMax = 200
const logLines = 500

// Looser than the tools' own schemas, because a newer serve may add fields.
const statusSchema = z.object({
  headline: z.string(),
  turns: z.object({ used: z.int(), max: z.int() }),
  warnings: z.array(z.string()),
})
const rowSchema = z.object({
  name: z.string(),
  project: z.string(),
  phase: z.string(),
  why: z.string(),
  untrusted: z.object({ said: z.string().optional(), activity: z.string().optional() }).default({}),
  iteration: z.number().optional(),
  usd: z.number().optional(),
  budgetUsd: z.number().optional(),
})
const listSchema = z.object({ total: z.int(), instances: z.array(rowSchema) })
const eventsSchema = z.object({ cursor: z.string(), events: z.array(z.unknown()) })

export interface FleetCalls {
  /** @throws Fault */
  fleet(): Promise<Fleet>
  /** The text of a view, or why it cannot be read. */
  text(of: TextOf, name: string): Promise<string>
  /** What became of an order; undefined when it needs no call. Never throws. */
  carryOut(order: Order): Promise<string | undefined>
  /**
   * Waits for the next event after a cursor, at most `eventWaitSeconds`. Gives the new cursor.
   * @throws Fault
   */
  change(cursor: string | undefined, signal: AbortSignal): Promise<string>
}

export function createFleetCalls({
  invoke,
  hints,
  signal: ended,
}: {
  readonly invoke: Invoke
  readonly hints: Hints
  readonly signal: AbortSignal
}): FleetCalls {
  const call = async (
    tool: string,
    input: object,
    more: readonly AbortSignal[] = [],
  ): Promise<Record<string, unknown>> => {
    const late = AbortSignal.timeout(callMs)
    try {
      const signal = AbortSignal.any([ended, late, ...more])
      return await invoke(tool, input, { signal, progress: noProgress })
    } catch (error) {
      if (!late.aborted) throw error
      throw new Fault(
        "Unavailable",
        `serve has not answered for ${callMs / 1000} s.`,
        "Run `blackbox5 doctor` to see whether it is running.",
      )
    }
  }
  const show = (tool: string, result: Record<string, unknown>): string =>
    tools.find(({ name }) => name === tool)?.show(hints.result(withoutFences(result))).text ?? ""

  return {
    async fleet() {
      const status = statusSchema.parse(hints.result(await call("fleet_status", {})))
      const list = await call("list_instances", { limit: rowsMax })
      const { total, instances } = listSchema.parse(hints.result(withoutFences(list)))
      return {
        headline: status.headline,
        turns: `${status.turns.used} of ${counted(status.turns.max, "turn")} in use`,
        warning: status.warnings[0],
        total,
        rows: instances.map(({ untrusted, why, ...row }) => ({
          ...row,
          why: withSaid(why, untrusted.said),
          activity: untrusted.activity === undefined ? undefined : `"${untrusted.activity}"`,
        })),
      }
    },
    text(of, name) {
      const [tool, input] =
        of === "logs"
          ? ["read_logs", { name, tail: logLines }]
          : ["inspect_instance", { name, sections: ["activity", "mail", "events"] }]
      return call(tool, input).then(
        (result) => show(tool, result),
        (error: unknown) => asFault(error).message,
      )
    },
    async carryOut(order) {
      if (order.kind === "look" || order.kind === "quit") return undefined
      const [tool, input] =
        order.kind === "message"
          ? [
              "message_instances",
              { to: [order.name], text: order.text, urgency: "now", waitSeconds: 0 },
            ]
          : [`${order.kind}_instances`, { names: [order.name] }]
      return call(tool, input).then(
        (result) => show(tool, result),
        (error: unknown) => hints.text(`${asFault(error).message} ${asFault(error).next}`),
      )
    },
    async change(cursor, signal) {
      const after = cursor === undefined ? {} : { after: cursor, waitSeconds: eventWaitSeconds }
      const page = await call("read_events", { limit: 1, ...after }, [signal])
      return eventsSchema.parse(page).cursor
    },
  }
}
