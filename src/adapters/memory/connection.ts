import type { Clock } from "../../core/ports.ts"
import { type FedReplica, type ReplicaOptions, replicate, soleReplica } from "../../core/replica.ts"
import type { MemoryBackend } from "./backend.ts"
import type { Truth, Wire } from "./truth.ts"

export interface ConnectionOptions {
  /** This process's own, which may be wrong: it times retries and how stale a replica is. */
  readonly clock: Clock
  /**
   * Called for each call before it reaches the backend (`instances.create`), and before its answer
   * comes back (`instances.create answers`). Where it waits, the call waits; where it throws, the
   * call fails, and what was written stays written.
   */
  onCall?(call: string): Promise<void> | void
  /**
   * Its replicas show every write as it is made, whoever writes: for tests that step through one
   * process. Such feeds cannot be cut.
   */
  readonly isImmediate?: boolean
  /** Why a feed broke. */
  report?(error: unknown): void
}

/** What one process has of the backend: calls that take their time, and feeds that can be cut. */
export interface Connection {
  readonly backend: MemoryBackend
  readonly clock: Clock
  readonly wire: Wire
  readonly signal: AbortSignal
  /** Does `work` in the backend, in one piece. */
  reach<T>(call: string, work: () => T): Promise<T>
  replicaOf<K extends string, V>(truth: Truth<K, V>, options?: ReplicaOptions<V>): FedReplica<K, V>
}

export function createConnection(
  backend: MemoryBackend,
  wire: Wire,
  { clock, onCall, isImmediate = false, report = () => {} }: ConnectionOptions,
  signal: AbortSignal,
): Connection {
  return {
    backend,
    clock,
    wire,
    signal,
    async reach(call, work) {
      await onCall?.(call)
      const answer = work()
      await onCall?.(`${call} answers`)
      return answer
    },
    replicaOf: (truth, options = {}) =>
      isImmediate
        ? immediate(truth, options, signal)
        : replicate(truth.feed(wire), { ...options, clock, report }, signal),
  }
}

function immediate<K extends string, V>(
  truth: Truth<K, V>,
  options: ReplicaOptions<V>,
  signal: AbortSignal,
): FedReplica<K, V> {
  const replica = soleReplica(truth.entries(), options)
  const end = truth.listen((change) => {
    if (change.type === "Put") replica.put(change.key, change.value)
    else replica.gone(change.key)
  })
  signal.addEventListener("abort", end)
  return { ...replica, put: () => {}, gone: () => {} }
}
