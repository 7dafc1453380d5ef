import { setTimeout as sleep } from "node:timers/promises"
import { z } from "zod"
import { tools } from "../../tools/index.ts"
import { invokeServe } from "../client/invoke-serve.ts"
import { asFault, Fault } from "../core/faults.ts"
import { noProgress } from "../core/tool.ts"
import { counted, oneLine, withSaid } from "../core/view.ts"
import { readConfig } from "../settings/config.ts"
import { hintsInShell } from "./cli.ts"
import { withoutFences } from "./fence.ts"
import { helpFlag, parseWords, showUsage, usageError } from "./parse-args.ts"
import { programInShell } from "./shell-command.ts"
import { draw } from "./top/screen.ts"
import { empty, type Key, type Order, press, type State, withFleet, withText } from "./top/state.ts"
import { openTerminal, type Terminal } from "./top/terminal.ts"

const usage = `usage: blackbox5 top

Shows the fleet on one screen, live, with keys to steer it. It needs a terminal.
`
/** What an agent does and spends is no event: the table is never older than this. */
const eventWaitSeconds = 2
/** Events come in bursts. */
const refreshMs = 200
const retryMs = 1000
const callMs = 10_000
const rowsMax = 200
const logLines = 500
const ordersMax = 8
const columnsUsual = 80

// Looser than the tools say: a newer serve may say more.
const statusSchema = z.object({
  headline: z.string(),
  turns: z.object({ used: z.int(), max: z.int() }),
  warnings: z.array(z.string()),
})
const rowSchema = z.object({
  ...{ name: z.string(), project: z.string(), phase: z.string(), why: z.string() },
  untrusted: z.object({ said: z.string().optional(), activity: z.string().optional() }).default({}),
  iteration: z.number().optional(),
  ...{ usd: z.number().optional(), budgetUsd: z.number().optional() },
})
const listSchema = z.object({ total: z.int(), instances: z.array(rowSchema) })
const eventsSchema = z.object({ cursor: z.string(), events: z.array(z.unknown()) })

/**
 * `blackbox5 top`. One request is in flight at a time: an order of the person's goes before the
 * next look.
 */
export async function top(argv: readonly string[]): Promise<number> {
  const words = parseWords(argv, helpFlag)
  if (typeof words === "string") return usageError(words, usage)
  if (words.values.help) return showUsage(usage)
  if (words.positionals.length > 0)
    return usageError(`top takes no ${JSON.stringify(words.positionals[0])}.`, usage)
  if (!process.stdin.isTTY || !process.stdout.isTTY)
    throw new Fault(
      "Invalid",
      "top needs a terminal.",
      "Use `blackbox5 list-instances`, with --json for programs.",
    )
  const invoke = invokeServe(readConfig(), tools)
  const ended = new AbortController()
  let code = 0
  const end = (exitCode: number): void => {
    code = exitCode
    ended.abort()
  }
  for (const [name, number] of [
    ["SIGINT", 130],
    ["SIGTERM", 143],
    ["SIGHUP", 129],
  ] as const)
    process.once(name, () => end(number))

  const program = programInShell()
  let state: State = empty
  const orders: Order[] = []
  /** Ends the wait for events. */
  let waiting = new AbortController()
  let terminal: Terminal | undefined
  const become = (next: State): void => {
    state = next
    if (terminal) terminal.show(draw(state, terminal.size(), program))
  }
  const pressed = (key: Key): void => {
    const { state: next, order } = press(state, key)
    if (order?.kind === "quit") end(0)
    else become(next)
    if (order === undefined) return
    if (orders.length < ordersMax) orders.push(order)
    waiting.abort()
  }
  /** A text is broken anew for the new width. */
  const resized = (): void => {
    become(state)
    if (state.view.kind !== "text" || orders.length >= ordersMax) return
    orders.push({ kind: "look" })
    waiting.abort()
  }
  const call = async (
    tool: string,
    input: object,
    more?: AbortSignal,
  ): Promise<Record<string, unknown>> => {
    const late = AbortSignal.timeout(callMs)
    try {
      const signal = AbortSignal.any([ended.signal, late, ...(more ? [more] : [])])
      return await invoke(tool, input, { signal, progress: noProgress })
    } catch (error) {
      if (!late.aborted) throw error
      throw new Fault(
        "Unavailable",
        `serve has not answered for ${callMs / 1000} s.`,
        "`blackbox5 doctor` says whether it runs.",
      )
    }
  }
  const hints = hintsInShell()
  const shown = (tool: string, result: Record<string, unknown>): string =>
    tools.find(({ name }) => name === tool)?.show(hints.result(withoutFences(result))).text ?? ""

  const obey = async (order: Order): Promise<void> => {
    if (order.kind === "look" || order.kind === "quit") return
    const [tool, input] =
      order.kind === "message"
        ? [
            "message_instances",
            { to: [order.name], text: order.text, urgency: "now", waitSeconds: 0 },
          ]
        : [`${order.kind}_instances`, { names: [order.name] }]
    const said = await call(tool, input).then(
      (result) => shown(tool, result),
      (error: unknown) => hints.text(`${asFault(error).message} ${asFault(error).next}`),
    )
    become({ ...state, notice: oneLine(said, 500) })
  }
  const refresh = async (): Promise<void> => {
    const status = statusSchema.parse(hints.result(await call("fleet_status", {})))
    const listed = await call("list_instances", { limit: rowsMax })
    const { total, instances } = listSchema.parse(hints.result(withoutFences(listed)))
    const { headline, turns, warnings } = status
    const fleet = {
      headline,
      turns: `${turns.used} of ${counted(turns.max, "turn")} in use`,
      warning: warnings[0],
      total,
      rows: instances.map(({ untrusted, why, ...row }) => ({
        ...{ ...row, why: withSaid(why, untrusted.said) },
        ...(untrusted.activity !== undefined && { activity: `"${untrusted.activity}"` }),
      })),
    }
    become(withFleet(state, fleet))
    const { view } = state
    if (view.kind !== "text") return
    const [tool, input] =
      view.of === "logs"
        ? ["read_logs", { name: view.name, tail: logLines }]
        : ["inspect_instance", { name: view.name, sections: ["activity", "mail", "events"] }]
    const text = await call(tool, input).then(
      (result) => shown(tool, result),
      (error: unknown) => asFault(error).message,
    )
    become(withText(state, view.of, view.name, text, terminal?.size().columns ?? columnsUsual))
  }
  let cursor: string | undefined
  const awaitChange = async (): Promise<void> => {
    await sleep(refreshMs, undefined, { signal: AbortSignal.any([ended.signal, waiting.signal]) })
    const after = cursor === undefined ? {} : { after: cursor, waitSeconds: eventWaitSeconds }
    cursor = eventsSchema.parse(
      await call("read_events", { limit: 1, ...after }, waiting.signal),
    ).cursor
  }
  const work = async (): Promise<void> => {
    while (!ended.signal.aborted) {
      waiting = new AbortController()
      try {
        for (let order = orders.shift(); order; order = orders.shift()) await obey(order)
        await refresh()
        if (orders.length === 0) await awaitChange()
      } catch (error) {
        // A key ended the wait: its order comes first.
        if (orders.length > 0 || ended.signal.aborted) continue
        cursor = undefined // another database may be behind it by now
        become({ ...state, trouble: `${asFault(error).message} Trying again.` })
        const { signal } = waiting
        await sleep(retryMs, undefined, { signal: AbortSignal.any([ended.signal, signal]) }).catch(
          () => {},
        )
      }
    }
  }

  let failure: { readonly error: unknown } | undefined
  /** What goes wrong in a listener is told after the screen was given back, not on it. */
  const guarded =
    <A extends readonly unknown[]>(work: (...given: A) => void) =>
    (...given: A): void => {
      try {
        work(...given)
      } catch (error) {
        failure ??= { error }
        end(1)
      }
    }
  terminal = openTerminal({
    key: guarded(pressed),
    resized: guarded(resized),
    gone: () => end(129),
  })
  try {
    become(state)
    await work()
  } finally {
    terminal.restore()
  }
  if (failure) throw failure.error
  // A start of serve in the background would keep the process; it goes on by itself.
  process.exit(code)
}
