import { control } from "../control/controller.ts"
import { directive } from "../core/directive.ts"
import { DiskFull } from "../core/faults.ts"
import {
  closeAgain,
  closeMalformed,
  closeReplaced,
  closeUnavailable,
  type DownFrame,
  type UpFrame,
  upFrameSchema,
} from "../core/frames.ts"
import { hasLiveRun, isUpcomingRun, type Uid } from "../core/instance.ts"
import type { Receipt } from "../core/mail.ts"
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
import { cut } from "../core/view.ts"
import { createToldEvents } from "./told-events.ts"

/** One connected supervisor, as the WebSocket adapter gives it. */
export interface SupervisorLink {
  readonly name: string
  readonly uid: Uid
  readonly place: string
  /** Of its run; absent for one that a version before 0.5 started. */
  readonly number?: number | undefined
  send(frame: DownFrame): void
  /** `code` in the private range of RFC 6455, 4000 to 4999. */
  close(code: number, reason: string): void
}
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
  /** Takes a connection in. What it returns takes its frames and its end. */
  connect(connection: SupervisorLink): { receive(text: string): void; closed(): void }
  /** Sends directives until the signal; a user of the keyed controller, by name of instance. */
  run(signal: AbortSignal): Promise<void>
}
/** How long a frame that a full disk refused waits before it is tried again. */
const fullDiskMs = 1000
/**
 * How many frames of one supervisor may wait to be handled before its link is cut; it sends them
 * again.
 */
const backlogMax = 1000

/** Of what is wrong with a frame, which may be a megabyte of it. */
const reportedCharactersMax = 500

/** The fleet's end of every link: directives and mail down, beats, receipts and events up. */
export function createGateway({
  id,
  store,
  mailboxes,
  reports,
  timeline,
  turns,
  ledger,
  clock,
  policy,
  policyChanged,
  report,
}: GatewayPorts): Gateway {
  const told = createToldEvents({ timeline, clock }, (error) => report("events", error))
  const links = new Map<string, { connection: SupervisorLink; sent?: string }>()
  const linked = new Map<Uid, string>()

  const tell = async (name: string): Promise<{ afterMs?: number }> => {
    const link = links.get(name)
    if (!link) return {}
    const instance = store.replica.get(name)
    const { uid, place } = link.connection
    const known = instance?.uid === uid ? instance.status.run : undefined
    if (!instance || known?.place !== place || !hasLiveRun(instance)) {
      // A start is written to the store a moment after it began: a place that may still come is
      // waited for.
      if (instance?.uid === uid && isUpcomingRun(link.connection, known)) return {}
      link.connection.close(closeReplaced, "another place took over")
      return {}
    }
    const nowMs = clock.nowMs()
    const turn = turns.replica.get(instance.uid)
    const frame = {
      type: "directive",
      directive: directive(
        instance,
        turn?.place === place ? turn : undefined,
        nowMs,
        policy().iterationMinutesMax,
      ),
    } as const
    const text = JSON.stringify(frame)
    if (link.sent !== text) {
      link.sent = text
      link.connection.send(frame)
    }
    const { pause } = instance.spec
    return pause?.untilMs !== undefined && pause.untilMs > nowMs
      ? { afterMs: pause.untilMs - nowMs }
      : {}
  }

  /**
   * A supervisor says what it delivered, and nothing else: what is returned or answered is known
   * here.
   */
  const takeReceipt = async ({ uid, name }: SupervisorLink, receipt: Receipt): Promise<void> => {
    if (receipt.state !== "Delivered") return
    const now = await mailboxes.receipt(uid, receipt)
    if (!now || now.state === "Returned") return // another's mail, or one that went back to its sender
    const { mail, iteration, hook } = now
    const where =
      iteration === undefined || hook === undefined ? "" : ` in iteration ${iteration}, by ${hook}`
    const message = `${mail} was delivered to ${name}${where}.`
    await timeline.append({
      id: `d-${mail}`,
      uid,
      kind: "MailDelivered",
      message,
      atMs: clock.nowMs(),
    })
  }

  const take = async (connection: SupervisorLink, frame: UpFrame): Promise<void> => {
    const { uid, name, place } = connection
    switch (frame.type) {
      case "beat":
        if (frame.beat.place !== place) return
        // Usage is a running maximum: what cannot be recorded now is in the next beat. What the
        // beat says besides is needed now.
        await ledger
          .record(uid, place, frame.beat.used)
          .catch((error: unknown) => report(name, error))
        await reports.beat(uid, { ...frame.beat, atMs: clock.nowMs() }) // its arrival: the other machine's clock may be wrong
        return
      case "receipt":
        await takeReceipt(connection, frame.receipt)
        break
      default:
        // Of an instance that is gone nothing is to be told, whoever still holds its credential.
        if (store.replica.get(name)?.uid === uid) await told.tell(connection, frame.event)
    }
    connection.send({ type: "ack", seq: frame.seq })
  }

  /** Names of those that are linked here. */
  const linkedOf = (source: Source<Uid>): Source =>
    async function* (signal) {
      for await (const uid of source(signal)) {
        const name = linked.get(uid)
        if (name !== undefined) yield name
      }
    }
  const limitsChanged: Source = async function* (signal) {
    for await (const _ of policyChanged(signal)) yield* links.keys()
  }
  const connections = topic(async () => links.keys())

  return {
    connect(connection) {
      const { name, uid, number } = connection
      const held = links.get(name)?.connection
      if (held && held.uid === uid && (held.number ?? 0) > (number ?? 0)) {
        connection.close(closeReplaced, "another place took over")
        return { receive: () => {}, closed: () => {} }
      }
      held?.close(closeAgain, "the supervisor connected again")
      links.set(name, { connection })
      linked.set(uid, name)
      const ended = new AbortController()
      const link = { gateway: id, place: connection.place, sinceMs: clock.nowMs() }
      const registered = reports.linked(uid, link)
      const unregister = (): Promise<void> => reports.unlinked(uid, link)
      registered.catch((error: unknown) => report(name, error))
      connections.changed(name)
      let backlog = 0
      let waitsForRoom = false
      /**
       * On a full disk the link stays, for directives must go out; what cannot be stored keeps its
       * place in the order.
       */
      const store = async (frame: UpFrame): Promise<void> => {
        while (!ended.signal.aborted)
          try {
            await take(connection, frame)
            waitsForRoom = false
            return
          } catch (error) {
            if (!(error instanceof DiskFull)) throw error
            waitsForRoom = true
            report(name, error)
            await new Promise<void>((resolve) => void clock.after(fullDiskMs, resolve))
          }
      }
      let tail = Promise.resolve() // one frame after another: a receipt never overtakes the beat before it
      const inbox = async (): Promise<void> => {
        for await (const mail of mailboxes.inbox(uid, ended.signal))
          connection.send({ type: "mail", mail })
      }
      inbox().catch((error) => {
        report(name, error)
        connection.close(closeUnavailable, "the inbox could not be read") // the next link reads it again
      })
      return {
        receive(text) {
          const parsed = upFrameSchema.safeParse(parse(text))
          if (!parsed.success) {
            report(name, new Error(cut(parsed.error.message, reportedCharactersMax)))
            connection.close(closeMalformed, "a frame was not understood")
            return
          }
          // A beat needs no room, and says whether what was told came about.
          if (waitsForRoom && parsed.data.type === "beat")
            return void take(connection, parsed.data).catch((error: unknown) => report(name, error))
          if (++backlog > backlogMax) {
            connection.close(closeUnavailable, "too many frames at once")
            return
          }
          tail = tail
            .then(() => store(parsed.data))
            .catch((error) => {
              report(name, error)
              connection.close(closeUnavailable, "a frame could not be stored")
            })
            .finally(() => {
              backlog--
            })
        },
        closed() {
          ended.abort()
          if (links.get(name)?.connection !== connection) return
          links.delete(name)
          linked.delete(uid)
          void registered
            .then(unregister, unregister)
            .catch((error: unknown) => report(name, error))
        },
      }
    },
    async run(signal) {
      await control(
        {
          sources: [
            store.replica.watch,
            linkedOf(turns.replica.watch),
            linkedOf(reports.beats.watch),
            limitsChanged,
            connections.source,
          ],
          reconcile: tell,
          workersMax: 16,
          clock,
          report,
        },
        signal,
      )
      told.close()
    },
  }
}

const parse = (text: string): unknown => {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
