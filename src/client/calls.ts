import type { Endpoint } from "../core/endpoint.ts"
import { Fault } from "../core/faults.ts"
import type { Invoke } from "../core/invoke.ts"
import { alivePath, type Call, noProgress, type Tool } from "../core/tool.ts"
import { cut } from "../core/view.ts"
import { exchange } from "./exchange.ts"
import { requestFor } from "./request.ts"

/** Tools called over HTTP, as whoever the endpoint's credential says. */

const supervisorMs = 2000
/**
 * Asked before each call of an agent: a supervisor that is stopped would hold the call for as long,
 * and might carry it out long after nobody wants it any more. @throws Unavailable
 */
async function checkSupervisor(endpoint: Endpoint, signal: AbortSignal): Promise<void> {
  const timeout = AbortSignal.timeout(supervisorMs)
  const call: Call = { signal: AbortSignal.any([signal, timeout]), progress: noProgress }
  // Any answer will do; where nobody listens, the call itself says so.
  await exchange(endpoint, { method: "GET", path: alivePath }, call).catch(() => undefined)
  if (timeout.aborted && !signal.aborted)
    throw new Fault(
      "Unavailable",
      `The supervisor of this instance did not answer within ${supervisorMs / 1000} s; nothing was sent.`,
      "Go on with something else, and try again in a minute.",
    )
}

/** @param codeRoot found where the client runs. */
export function invokeOver(endpoint: Endpoint, tools: readonly Tool[], codeRoot?: string): Invoke {
  const byName = new Map(tools.map((tool) => [tool.name, tool]))
  return async (name, input, call) => {
    const tool = byName.get(name)
    if (!tool)
      throw new Fault(
        "NotFound",
        `There is no tool ${JSON.stringify(cut(name, 80))}.`,
        "List the tools.",
      )
    return exchange(endpoint, requestFor(tool, input), call, codeRoot)
  }
}

/** As invokeOver, for an agent: its calls go through its supervisor. */
export const invokeSupervised = (endpoint: Endpoint, tools: readonly Tool[]): Invoke => {
  const invoke = invokeOver(endpoint, tools)
  return async (name, input, call) => {
    await checkSupervisor(endpoint, call.signal)
    return invoke(name, input, call)
  }
}
