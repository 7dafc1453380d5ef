/** The contract suites on the memory adapter. */
import { createMemoryBackend } from "../../src/adapters/memory/backend.ts"
import { connectMemory, type MemoryPorts } from "../../src/adapters/memory/connect.ts"
import { inboxMax } from "../../src/adapters/memory/mailboxes.ts"
import { tokensMax } from "../../src/adapters/memory/tokens.ts"
import { describeAudit } from "./audit.ts"
import { describeBus } from "./bus.ts"
import type { Open, Opened } from "./harness.ts"
import { describeInstanceStore } from "./instance-store.ts"
import { describeLead } from "./lead.ts"
import { describeLedger } from "./ledger.ts"
import { busOf } from "./sqlite-bus.ts"
import { describeTokens } from "./tokens.ts"

/** Opened again, it is another process on the same backend. */
const opener =
  <T>(port: (ports: MemoryPorts) => T): Open<T> =>
  async (clock) => {
    const backend = createMemoryBackend(clock)
    const connect = async (): Promise<Opened<T>> => {
      const ports = connectMemory(backend, { clock })
      await ports.ready()
      return {
        port: port(ports),
        async reopen() {
          ports.close()
          return connect()
        },
        async close() {
          ports.close()
        },
      }
    }
    return connect()
  }

describeInstanceStore(
  "memory",
  opener(({ instances }) => instances),
)
describeBus("memory", opener(busOf), { inboxMax })
describeLedger(
  "memory",
  opener(({ ledger }) => ledger),
)
describeLead(
  "memory",
  opener(({ lead }) => lead),
)
describeAudit(
  "memory",
  opener(({ audit }) => audit),
)
describeTokens(
  "memory",
  opener(({ tokens }) => tokens),
  { tokensMax },
)
