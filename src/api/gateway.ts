import { control } from "../control/controller.ts"
import { directive } from "../core/directive.ts"
import { closeAgain, closeReplaced, closeUnavailable } from "../core/frames.ts"
import { hasLiveRun, type Instance, type Uid } from "../core/instance.ts"
import type {
  Clock,
  Instances,
  Ledger,
  Mailboxes,
  Reports,
  Timeline,
  Turns,
} from "../core/ports.ts"
import { type Source, topic } from "../core/source.ts"
import { createFrameQueue } from "./frame-queue.ts"
import { createReportedEvents } from "./reported-events.ts"
import type { SupervisorLink } from "./supervisor-link.ts"
import { takeFrame } from "./take-frame.ts"

export interface GatewayPorts {
  /** Tells this process's links from another's. */
  readonly id: string
  readonly store: Instances
  readonly mailboxes: Mailboxes
  readonly reports: Reports
  readonly timeline: Timeline
  readonly turns: Turns
  readonly ledger: Ledger
  readonly clock: Clock
  policy(): { readonly iterationMinutesMax: number }
  /** Tells that the policy changed. */
  readonly policyChanged: Source<string>
  report(name: string, error: unknown): void
}
export interface Gateway {
  /** Takes a link that was authenticated. What it returns takes its frames and its end. */
  connect(link: SupervisorLink): { receive(text: string): void; closed(): void }
  /** Sends directives until the signal; a user of the keyed controller, by name of instance. */
  run(signal: AbortSignal): Promise<void>
}

/** Links by name of instance, each with the directive that was sent last. */
type Links = Map<string, { readonly link: SupervisorLink; lastDirective?: string }>

const isCurrent = (
  instance: Instance | undefined,
  { uid, place }: SupervisorLink,
): instance is Instance =>
  instance?.uid === uid && instance.status.run?.place === place && hasLiveRun(instance)

/** Brings the directive of one instance to its supervisor, or closes a link that was replaced. */
const sendDirective =
  ({ store, turns, clock, policy }: GatewayPorts, links: Links) =>
  async (name: string): Promise<{ afterMs?: number }> => {
    const entry = links.get(name)
    if (!entry) return {}
    const { link } = entry
    const instance = store.replica.get(name)
    if (!isCurrent(instance, link)) {
      // Only the truth may end a run: the replica may not show yet what the link was authenticated
      // by, and comes back here when it does.
      if (!isCurrent(await store.read(name), link))
        link.close(closeReplaced, "this run is no longer the current one")
      return {}
    }
    const nowMs = clock.nowMs()
    const turn = turns.replica.get(instance.uid)
    const granted = turn?.place === link.place ? turn : undefined
    const frame = {
      type: "directive",
      directive: directive(instance, granted, nowMs, policy().iterationMinutesMax),
    } as const
    const text = JSON.stringify(frame)
    if (entry.lastDirective !== text) {
      entry.lastDirective = text
      link.send(frame)
    }
    const { pause } = instance.spec
    return pause?.untilMs !== undefined && pause.untilMs > nowMs
      ? { afterMs: pause.untilMs - nowMs }
      : {}
  }

/** Sends what waits in the inbox, then what comes. */
function sendMail(
  { mailboxes, report }: GatewayPorts,
  link: SupervisorLink,
  ended: AbortSignal,
): void {
  const send = async (): Promise<void> => {
    for await (const mail of mailboxes.inbox(link.uid, ended)) link.send({ type: "mail", mail })
  }
  send().catch((error: unknown) => {
    report(link.name, error)
    // The next link reads it again.
    link.close(closeUnavailable, "the inbox could not be read")
  })
}

/** Registers a link with this gateway. What it returns takes it out again. */
function register({ id, reports, clock, report }: GatewayPorts, link: SupervisorLink): () => void {
  const { uid, name, place } = link
  const linked = { gateway: id, place, sinceMs: clock.nowMs() }
  const registered = reports.linked(uid, linked)
  registered.catch((error: unknown) => report(name, error))
  const unregister = (): Promise<void> => reports.unlinked(uid, linked)
  return () =>
    void registered.then(unregister, unregister).catch((error: unknown) => report(name, error))
}

/** The fleet's end of every link: directives and mail down, beats, receipts and events up. */
export function createGateway(ports: GatewayPorts): Gateway {
  const { store, reports, turns, clock, policyChanged, report } = ports
  const events = createReportedEvents(ports, (error) => report("events", error))
  const parts = { ...ports, events }
  const links: Links = new Map()
  const linkedNames = new Map<Uid, string>()
  const connected = topic(async () => links.keys())

  const namesOf = (source: Source<Uid>): Source =>
    async function* (signal) {
      for await (const uid of source(signal)) {
        const name = linkedNames.get(uid)
        if (name !== undefined) yield name
      }
    }
  const limitsChanged: Source = async function* (signal) {
    for await (const _ of policyChanged(signal)) yield* links.keys()
  }

  return {
    connect(link) {
      const { name, uid } = link
      links.get(name)?.link.close(closeAgain, "the supervisor connected again")
      links.set(name, { link })
      linkedNames.set(uid, name)
      const ended = new AbortController()
      const unregister = register(ports, link)
      connected.changed(name)
      sendMail(ports, link, ended.signal)
      return {
        receive: createFrameQueue({
          link,
          clock,
          ended: ended.signal,
          take: (frame) => takeFrame(parts, link, frame),
          report: (error) => report(name, error),
        }),
        closed() {
          ended.abort()
          if (links.get(name)?.link !== link) return
          links.delete(name)
          linkedNames.delete(uid)
          unregister()
        },
      }
    },
    async run(signal) {
      await control(
        {
          sources: [
            store.replica.watch,
            namesOf(turns.replica.watch),
            namesOf(reports.beats.watch),
            limitsChanged,
            connected.source,
          ],
          reconcile: sendDirective(ports, links),
          workersMax: 16,
          clock,
          report,
        },
        signal,
      )
      events.close()
    },
  }
}
