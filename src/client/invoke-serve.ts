import { type Endpoint, endpointAt, socketUrl } from "../core/endpoint.ts"
import type { Invoke } from "../core/invoke.ts"
import type { Tool } from "../core/tool.ts"
import { codeRootOf } from "../host/find-code-root.ts"
import { type Config, instanceHere } from "../settings/config.ts"
import { invokeOver, invokeSupervised } from "./calls.ts"
import { isUnreached, unlessCancelled } from "./exchange.ts"
import { ensureServe, whoAnswers } from "./find-serve.ts"
import { olderThanThis } from "./serve-file.ts"

/** The control plane that the configuration names: elsewhere by its URL, here by its socket. */
export const serveEndpoint = ({ remote, socketPath }: Config): Endpoint =>
  remote ? endpointAt(remote.url, remote.bearer) : endpointAt(socketUrl(socketPath))

/**
 * Calls the control plane that the configuration names. On this machine it is started when it is
 * not there; one elsewhere learns nothing of directories here.
 */
export function invokeServe(
  config: Config,
  tools: readonly Tool[],
  ensure = ensureServe,
): Invoke & { warm(): void } {
  const endpoint = serveEndpoint(config)
  const invoke =
    instanceHere() === undefined
      ? invokeOver(endpoint, tools, config.remote ? undefined : codeRootOf(config))
      : invokeSupervised(endpoint, tools)
  let starting: Promise<void> | undefined
  const started = (): Promise<void> => {
    starting ??= ensure(config).finally(() => {
      starting = undefined
    })
    return starting
  }
  let checked: Promise<void> | undefined
  /**
   * Before the first call, so that an older serve gets none. One that does not answer is left to
   * the call itself, which may wait for it.
   */
  const check = (): Promise<void> => {
    checked ??= whoAnswers(config.socketPath)
      .then((found) => (olderThanThis(found?.version) ? started() : undefined))
      .catch((error: unknown) => {
        checked = undefined
        throw error
      })
    return checked
  }
  const invokeStarted: Invoke = async (name, input, call) => {
    if (!config.remote) await unlessCancelled(check(), call.signal)
    try {
      return await invoke(name, input, call)
    } catch (error) {
      // What may have been received is never sent again.
      if (config.remote || !isUnreached(error)) throw error
    }
    await unlessCancelled(started(), call.signal)
    return invoke(name, input, call)
  }
  // A start that fails here is reported by the next call, which tries again.
  return Object.assign(invokeStarted, { warm: () => void started().catch(() => {}) })
}
