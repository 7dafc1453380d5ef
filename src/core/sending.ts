import { announce } from "./announce.ts"
import { asFault, Fault } from "./faults.ts"
import type { Readings } from "./fleet-view.ts"
import type { Mail } from "./mail.ts"
import { addOrder, mailIdFor, questionInTurn, type Recipient, refusalToSend } from "./posting.ts"
import { nameOf } from "./principal.ts"
import type { ToolContext } from "./tool.ts"

/** One message to many recipients: each gets a mail of its own, or a reason why not. */

export interface Letter extends Pick<Mail, "text" | "urgency"> {
  readonly question: boolean
  readonly replyTo?: string | undefined
  /** It holds for all later iterations too. */
  readonly standing: boolean
  readonly idempotencyKey?: string | undefined
}
export interface Sent {
  readonly recipient: Recipient
  readonly mail: Mail
  /** Id of the standing order that it became. */
  readonly order?: string | undefined
  /** Why it was not sent. */
  readonly refusal?: string
  readonly fault?: Fault
}

function mailTo(ctx: ToolContext, recipient: Recipient, letter: Letter): Mail {
  const { who, clock } = ctx
  const { text, urgency, question, replyTo, idempotencyKey } = letter
  return {
    id: mailIdFor(ctx, idempotencyKey, recipient.to),
    from: nameOf(who),
    authority: who.kind === "human" ? "operator" : "peer",
    text,
    urgency,
    atMs: clock.nowMs(),
    ...(replyTo !== undefined && { replyTo }),
    ...(question && { question }),
  }
}

/** `turn`: that of the agent that asks the people a question, which then withholds its next one. */
async function sendOne(
  ctx: ToolContext,
  recipient: Recipient,
  letter: Letter,
  readings: Readings,
  turn: string | undefined,
): Promise<Sent> {
  const { mailboxes, reports, who } = ctx
  const mail = mailTo(ctx, recipient, letter)
  const refusal = refusalToSend(recipient, readings.nowMs)
  if (refusal !== undefined) return { recipient, mail, refusal }
  try {
    // First what lasts: an order without its mail is heard at the next iteration, a mail without
    // its order would be forgotten.
    const order =
      letter.standing && recipient.instance
        ? await addOrder(ctx, recipient.instance, mail)
        : undefined
    if (turn !== undefined && who.kind === "instance" && !recipient.instance)
      await reports.wait(who.uid, questionInTurn(mail, turn))
    if ((await mailboxes.send(recipient.to, mail)) === "Accepted")
      await announce(ctx, {
        kind: "MailSent",
        message: `${mail.id} from ${mail.from} (${mail.urgency}).`,
        atMs: mail.atMs,
        ...(recipient.instance && { uid: recipient.instance.uid }),
      })
    return { recipient, mail, order }
  } catch (error) {
    const fault = asFault(error)
    return { recipient, mail, refusal: `${fault.message} ${fault.next}`, fault }
  }
}

/** @throws Fault when nobody gets it. */
export async function sendAll(
  ctx: ToolContext,
  recipients: readonly Recipient[],
  letter: Letter,
  readings: Readings,
): Promise<readonly Sent[]> {
  const { who, turns } = ctx
  const turn =
    letter.question && who.kind === "instance" ? turns.replica.get(who.uid)?.id : undefined
  const sent = await Promise.all(
    recipients.map((recipient) => sendOne(ctx, recipient, letter, readings, turn)),
  )
  if (sent.some(({ refusal }) => refusal === undefined)) return sent
  const fault = sent.find((one) => one.fault)?.fault
  if (fault) throw fault
  const reasons = sent.slice(0, 5).map(({ recipient, refusal }) => `${recipient.name}: ${refusal}`)
  throw new Fault(
    "Conflict",
    `Nobody can receive this. ${reasons.join(" ")}`,
    "resume_instances starts those that have ended; list_instances {} shows which run.",
  )
}
