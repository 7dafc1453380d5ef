import { Fault } from "./faults.ts"
import { beatOf, describeInstance, iterationOf, type Readings } from "./fleet-view.ts"
import { desiredState, hasFinished, type Instance, orderSchema, ordersMax } from "./instance.ts"
import type { Mail, Receipt } from "./mail.ts"
import type { Phase } from "./phase-report.ts"
import { type Address, operators } from "./ports.ts"
import { may, nameOf } from "./principal.ts"
import { writeLatest } from "./spec-change.ts"
import type { ToolContext } from "./tool.ts"
import { cut } from "./view.ts"
import { answerMs, type Question } from "./waits.ts"

/**
 * What sending has to decide for each recipient: the mail's id, whether it may go, and what its
 * receipt says.
 */

export interface Recipient {
  readonly to: Address
  /** As the caller knows it. */
  readonly name: string
  /** Absent for the operators. */
  readonly instance?: Instance
}

export const recipientOf = (instance: Instance): Recipient => ({
  to: instance.uid,
  name: instance.name,
  instance,
})
export const operatorsRecipient: Recipient = { to: operators, name: operators }

/**
 * The same key from the same sender to the same recipient is the same mail; nobody else's key can
 * stand for it.
 */
export function mailIdFor(
  { who, newId, sha256 }: Pick<ToolContext, "who" | "newId" | "sha256">,
  key: string | undefined,
  to: Address,
): string {
  if (key === undefined) return newId("m")
  const sender = who.kind === "instance" ? who.uid : nameOf(who)
  return `m-${sha256(JSON.stringify([sender, to, key])).slice(0, 24)}`
}

/** Why an instance gets no mail: it would never read it. */
export function refusalToSend({ instance }: Recipient, nowMs: number): string | undefined {
  if (!instance) return undefined
  if (instance.deletedAtMs !== undefined) return "It is being removed."
  if (desiredState(instance.spec, nowMs) === "Stopped")
    return "It is stopped: resume it first with resume_instances."
  return hasFinished(instance)
    ? "Its loop has finished: resume_instances starts it over."
    : undefined
}

/**
 * Running, or about to, or unheard of because `serve` has just begun: a message of urgency `now`
 * can arrive within seconds.
 */
const readingSoon: ReadonlySet<string> = new Set<Phase>([
  "Running",
  "Waiting",
  "Starting",
  "Unknown",
])

export const isReachable = ({ instance }: Recipient, readings: Readings): boolean =>
  instance !== undefined && readingSoon.has(describeInstance(instance, readings).phase)

/** Where a mail waits, or where its reader got it. */
export function deliveryNote(
  { instance }: Recipient,
  { iteration, hook, state }: Receipt,
  { urgency }: Mail,
  readings: Readings,
): string {
  const place = [
    ...(iteration === undefined ? [] : [`iteration ${iteration}`]),
    ...(hook === undefined ? [] : [hook]),
  ].join(", ")
  if (state === "Returned") return "It ended without reading this."
  if (state !== "Queued") return place || `${state}.`
  if (!instance) return "A person reads it with read_messages."
  const { phase } = describeInstance(instance, readings)
  if (phase === "Paused") return "Paused; delivered when it resumes."
  if (phase === "Unknown") return "Its supervisor is not reporting; delivered when it does."
  if (phase !== "Running") return `${phase}; delivered when it next starts.`
  if (beatOf(instance, readings)?.turn?.state !== "Running")
    return "Between iterations; delivered when the next one starts."
  const now = `In iteration ${iterationOf(instance, readings)}`
  return urgency === "now"
    ? `${now}; delivered after its next tool call.`
    : `${now}; delivered when it ends, or when the next one starts.`
}

/** An answer marks its question as answered, so only its recipient may give one. */
export async function checkReply({ mailboxes, who }: ToolContext, replyTo: string): Promise<void> {
  const mine: Address = who.kind === "instance" ? who.uid : operators
  const [question] = await mailboxes.posted({ mails: [replyTo], to: mine, limit: 1 })
  if (!question)
    throw new Fault(
      "NotFound",
      `No message ${JSON.stringify(replyTo)} was sent to you.`,
      "read_messages {} shows those that were.",
    )
}

const orderBytesMax = 500

/**
 * @throws TooLarge for a text that is no standing order: each of them is paid for in every
 * iteration.
 */
export function checkOrder(text: string): void {
  if (new TextEncoder().encode(text).length > orderBytesMax)
    throw new Fault(
      "TooLarge",
      `A standing order has at most ${orderBytesMax} bytes.`,
      "Shorten it, or send it without standing: true.",
    )
}

/**
 * Makes a mail a standing order too, and gives the order's id; a repeat changes nothing. @throws
 * Fault when it cannot be one.
 */
export async function addOrder(
  { store, who }: ToolContext,
  instance: Instance,
  { id, text }: Mail,
): Promise<string> {
  const verdict = may(who, "operate", instance)
  if (verdict !== true)
    throw new Fault("Forbidden", verdict.message, "Send it without standing: true.")
  const order = orderSchema.parse({ id: `o-${id.slice(2)}`, text })
  return writeLatest({ store }, instance, async (latest) => {
    const { orders } = latest.spec
    if (orders.some((one) => one.id === order.id)) return order.id
    if (orders.length >= ordersMax)
      throw new Fault(
        "TooLarge",
        `${latest.name} already has ${ordersMax} standing orders, the most there may be.`,
        `Remove some: update_instance {"name":"${latest.name}","removeOrders":["${orders[0]?.id ?? ""}"]}`,
      )
    await store.updateSpec(latest, { ...latest.spec, orders: [...orders, order] })
    return order.id
  })
}

/** The wait that a question to the people is, for the turn in which it was asked. */
export const questionInTurn = ({ id, text, atMs }: Mail, turn: string): Question => ({
  kind: "answer",
  mail: id,
  text: cut(text, 500),
  turn,
  sinceMs: atMs,
  untilMs: atMs + answerMs,
})
