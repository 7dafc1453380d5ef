/** The contract suites on the memory adapter, which several processes may use at once. */
import { createMemoryBackend } from "../../src/adapters/memory/backend.ts"
import { connectMemory, type MemoryPorts } from "../../src/adapters/memory/connect.ts"
import { memoryInboxMax } from "../../src/adapters/memory/mailboxes.ts"
import { memoryTokensMax } from "../../src/adapters/memory/tokens.ts"
import { retryMsMax } from "../../src/core/replica.ts"
import { describeAudit } from "./audit.ts"
import type { Open, Opened } from "./harness.ts"
import { describeInstances } from "./instances.ts"
import { describeLead } from "./lead.ts"
import { describeLedger } from "./ledger.ts"
import { describeMailboxes } from "./mailboxes.ts"
import { describeReports } from "./reports.ts"
import { describeTimeline } from "./timeline.ts"
import { describeTokens } from "./tokens.ts"
import { describeTurns } from "./turns.ts"

const hourMs = 3_600_000

/** The second process's own clock is an hour ahead: what counts is the backend's. */
const opener =
  <T>(port: (ports: MemoryPorts) => T): Open<T> =>
  async (clock) => {
    const backend = createMemoryBackend(clock)
    const connected: MemoryPorts[] = []
    const connect = async (ahead: number): Promise<MemoryPorts> => {
      const own = { ...clock, nowMs: () => clock.nowMs() + ahead }
      const ports = connectMemory(backend, { clock: own })
      connected.push(ports)
      await ports.ready()
      return ports
    }
    const close = (): void => {
      for (const ports of connected.splice(0)) ports.close()
    }
    const again = async (): Promise<Opened<T>> => ({
      port: port(await connect(0)),
      async second() {
        const ports = await connect(hourMs)
        return {
          port: port(ports),
          wire: ports.wire,
          async comeBack() {
            ports.wire.resume()
            clock.advance(retryMsMax)
            await ports.ready()
          },
          close: ports.close,
        }
      },
      async reopen() {
        close()
        return again()
      },
      async close() {
        close()
      },
    })
    return again()
  }
const handles = "several" as const

describeInstances(
  "memory",
  opener(({ instances }) => instances),
  { handles },
)
describeMailboxes(
  "memory",
  opener(({ mailboxes }) => mailboxes),
  { inboxMax: memoryInboxMax, handles },
)
describeTimeline(
  "memory",
  opener(({ timeline }) => timeline),
  { handles },
)
describeReports(
  "memory",
  opener(({ reports }) => reports),
  { handles },
)
describeTurns(
  "memory",
  opener(({ turns }) => turns),
  { handles },
)
describeLedger(
  "memory",
  opener(({ ledger }) => ledger),
  { handles },
)
describeLead(
  "memory",
  opener(({ lead }) => lead),
  { handles },
)
describeAudit(
  "memory",
  opener(({ audit }) => audit),
  { handles },
)
describeTokens(
  "memory",
  opener(({ tokens }) => tokens),
  { tokensMax: memoryTokensMax, handles },
)
