import type { Lead } from "../../core/ports.ts"
import type { MemoryBackend } from "./backend.ts"

/** `closed`: the process of this handle is gone, and with it its lease. */
export const memoryLead =
  ({ leadership }: MemoryBackend, closed: AbortSignal): Lead =>
  async (signal, work) => {
    const lease = {}
    const either = AbortSignal.any([signal, closed])
    const term = await leadership.acquire(lease, either)
    if (term === undefined) return
    const release = (): void => leadership.release(lease)
    closed.addEventListener("abort", release)
    try {
      await work(term, either)
    } finally {
      closed.removeEventListener("abort", release)
      release()
    }
  }
