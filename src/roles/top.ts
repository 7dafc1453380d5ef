import { setTimeout as sleep } from "node:timers/promises"
import { tools } from "../../tools/index.ts"
import { invokeServe } from "../client/invoke-serve.ts"
import { asFault, Fault } from "../core/faults.ts"
import { oneLine } from "../core/view.ts"
import { readConfig } from "../settings/config.ts"
import { hintsInShell } from "./cli.ts"
import { helpFlag, parseArguments, showUsage, usageError } from "./parse-args.ts"
import { programInShell } from "./shell-command.ts"
import { createFleetCalls, type FleetCalls } from "./top/calls.ts"
import { press } from "./top/keys.ts"
import { draw } from "./top/screen.ts"
import { empty, type Key, type Order, type State, withFleet, withText } from "./top/state.ts"
import { openTerminal, type Terminal } from "./top/terminal.ts"

const usage = `usage: blackbox5 top

Shows the fleet on one screen, live, with keys to steer it. It needs a terminal.
`
/** Events come in bursts. */
const refreshMs = 200
const retryMs = 1000
const ordersMax = 8
const columnsUsual = 80

/** `blackbox5 top`. Exit code 0: quit; 2: a usage error; otherwise that of the signal. */
export async function top(argv: readonly string[]): Promise<number> {
  const parsed = parseArguments(argv, helpFlag)
  if (typeof parsed === "string") return usageError(parsed, usage)
  if (parsed.values.help) return showUsage(usage)
  if (parsed.positionals.length > 0)
    return usageError(`top does not take ${JSON.stringify(parsed.positionals[0])}.`, usage)
  if (!process.stdin.isTTY || !process.stdout.isTTY)
    throw new Fault(
      "Invalid",
      "top needs a terminal.",
      "Use `blackbox5 list-instances`, with --json for programs.",
    )
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

  const calls = createFleetCalls({
    invoke: invokeServe(readConfig(), tools),
    hints: hintsInShell(),
    signal: ended.signal,
  })
  const screen = createLiveScreen(calls, programInShell(), ended.signal, () => end(0))
  let failure: { readonly error: unknown } | undefined
  /** An error in a listener is reported after the screen is restored, not on it. */
  const reportLater =
    <A extends readonly unknown[]>(listener: (...given: A) => void) =>
    (...given: A): void => {
      try {
        listener(...given)
      } catch (error) {
        failure ??= { error }
        end(1)
      }
    }
  const terminal = openTerminal({
    key: reportLater(screen.pressed),
    resized: reportLater(screen.resized),
    gone: () => end(129),
  })
  try {
    await screen.run(terminal)
  } finally {
    terminal.restore()
  }
  if (failure) throw failure.error
  // A serve that is starting in the background would keep this process; it continues on its own.
  process.exit(code)
}

interface LiveScreen {
  pressed(key: Key): void
  resized(): void
  /** Resolves when the signal aborts. */
  run(terminal: Terminal): Promise<void>
}

/** One request is in flight at a time, and a person's order goes before the next refresh. */
function createLiveScreen(
  calls: FleetCalls,
  program: string,
  ended: AbortSignal,
  quit: () => void,
): LiveScreen {
  let state: State = empty
  const orders: Order[] = []
  /** Ends the wait for events. */
  let waiting = new AbortController()
  let terminal: Terminal | undefined
  let cursor: string | undefined

  const show = (next: State): void => {
    state = next
    if (terminal) terminal.show(draw(state, terminal.size(), program))
  }
  const queue = (order: Order): void => {
    if (orders.length < ordersMax) orders.push(order)
    waiting.abort()
  }
  const refresh = async (): Promise<void> => {
    show(withFleet(state, await calls.fleet()))
    const { view } = state
    if (view.kind !== "text") return
    const text = await calls.text(view.of, view.name)
    show(withText(state, view.of, view.name, text, terminal?.size().columns ?? columnsUsual))
  }
  const awaitChange = async (): Promise<void> => {
    await sleep(refreshMs, undefined, { signal: AbortSignal.any([ended, waiting.signal]) })
    cursor = await calls.change(cursor, waiting.signal)
  }
  const step = async (): Promise<void> => {
    waiting = new AbortController()
    try {
      for (let order = orders.shift(); order; order = orders.shift()) {
        const result = await calls.carryOut(order)
        if (result !== undefined) show({ ...state, notice: oneLine(result, 500) })
      }
      await refresh()
      if (orders.length === 0) await awaitChange()
    } catch (error) {
      // A key ended the wait: its order comes first.
      if (orders.length > 0 || ended.aborted) return
      cursor = undefined // another database may be behind it by now
      show({ ...state, trouble: `${asFault(error).message} Trying again.` })
      const signal = AbortSignal.any([ended, waiting.signal])
      await sleep(retryMs, undefined, { signal }).catch(() => {})
    }
  }
  return {
    pressed(key) {
      const { state: next, order } = press(state, key)
      if (order?.kind === "quit") quit()
      else show(next)
      if (order !== undefined) queue(order)
    },
    resized() {
      show(state)
      // A text is wrapped again for the new width.
      if (state.view.kind === "text" && orders.length < ordersMax) queue({ kind: "look" })
    },
    async run(opened) {
      terminal = opened
      show(state)
      while (!ended.aborted) await step()
    },
  }
}
