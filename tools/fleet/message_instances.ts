import { z } from "zod"
import { describeTargets } from "../../src/core/audit.ts"
import { watchDeliveries } from "../../src/core/delivery-watch.ts"
import { asFault, Fault } from "../../src/core/faults.ts"
import { readingsOf } from "../../src/core/fleet-view.ts"
import { type Mail, urgencySchema } from "../../src/core/mail.ts"
import { operators, type Posted } from "../../src/core/ports.ts"
import {
  addOrder,
  checkOrder,
  checkReply,
  isQuestion,
  mailIdOf,
  noteOf,
  operatorsRecipient,
  type Recipient,
  reachable,
  recipientOf,
  refusalOf,
} from "../../src/core/posting.ts"
import { nameOf } from "../../src/core/principal.ts"
import { targetFields, targetsOf } from "../../src/core/selector.ts"
import { defineTool } from "../../src/core/tool.ts"
import { counted } from "../../src/core/view.ts"

const recipientsMax = 200
const textBytesMax = 16_384

interface Sent {
  readonly recipient: Recipient
  readonly mail: Mail
  /** Id of the standing order that it became. */
  readonly order?: string
  /** Why it was not sent. */
  readonly refused?: string
  readonly fault?: Fault
}

export default defineTool({
  name: "message_instances",
  title: "Message instances",
  description:
    'Tells running agents something: urgency now reaches them in the middle of an iteration; standing holds for all later iterations too. Agents write to the people with to ["@operators"], and ask with question: true.',
  toolset: "fleet",
  route: "POST /v1/messages",
  verb: "message",
  input: z.strictObject({
    to: z
      .array(
        z
          .string()
          .regex(
            /^(@operators|[a-z0-9]([-a-z0-9]{0,51}[a-z0-9])?)$/,
            "a name of an instance, or @operators",
          ),
      )
      .min(1)
      .max(100)
      .optional(),
    project: targetFields.project,
    selector: targetFields.selector,
    all: targetFields.all,
    text: z
      .string()
      .min(1)
      .refine((text) => new TextEncoder().encode(text).length <= textBytesMax, "at most 16 KiB"),
    urgency: urgencySchema.default("next-iteration"),
    standing: z.boolean().default(false).describe("at most 500 bytes"),
    question: z.boolean().default(false),
    replyTo: z.string().min(1).max(64).optional().describe("id of a message to you"),
    waitSeconds: z.int().min(0).max(50).default(8),
    idempotencyKey: z.string().min(1).max(128).optional(),
    dryRun: z.boolean().default(false),
  }),
  output: z.strictObject({
    receipts: z.array(
      z.strictObject({
        mail: z.string().optional(),
        to: z.string(),
        state: z.string(),
        note: z.string(),
      }),
    ),
    next: z.string(),
  }),
  hints: {
    readOnlyHint: false,
    destructiveHint: false,
    idempotentHint: false,
    openWorldHint: false,
  },
  subject: ({ to, project, selector, all }) =>
    to ?? describeTargets(targetsOf({ project, selector, all })),
  targets({ to, project, selector, all }) {
    const targets = targetsOf({ names: to, project, selector, all })
    return "names" in targets
      ? { names: targets.names.filter((name) => name !== operators) }
      : targets
  },
  outcome: ({ receipts }) => ({
    on: receipts.map(({ to }) => to),
    made: receipts.flatMap(({ mail }) => (mail === undefined ? [] : [mail])),
  }),
  async handler(
    ctx,
    { to, text, urgency, standing, question, replyTo, waitSeconds, idempotencyKey, dryRun },
  ) {
    const { mailboxes, reports, timeline, turns, clock, who, newId } = ctx
    const recipients = [
      ...ctx.targets.map(recipientOf),
      ...(to?.includes(operators) ? [operatorsRecipient] : []),
    ]
    if (recipients.length === 0)
      throw new Fault(
        "NotFound",
        "No instance matches.",
        "list_instances {} shows those that exist.",
      )
    if (recipients.length > recipientsMax)
      throw new Fault(
        "TooLarge",
        `${counted(recipients.length, "instance matches", "instances match")}.`,
        `Name at most ${recipientsMax}, by project or selector.`,
      )
    if (replyTo !== undefined) await checkReply(ctx, replyTo)
    if (standing) checkOrder(text)
    const before = await readingsOf(ctx)
    if (dryRun) {
      const receipts = recipients.map((recipient) => {
        const refused = refusalOf(recipient, before.nowMs)
        return {
          to: recipient.name,
          state: refused === undefined ? "would be sent" : "refused",
          note: refused ?? "",
        }
      })
      return { receipts, next: "Nothing was sent: call it without dryRun." }
    }
    // Asked in an iteration, it withholds the next one until there is an answer.
    const turn = question && who.kind === "instance" ? (await turns.list()).get(who.uid) : undefined
    const awaited =
      urgency === "now" && waitSeconds > 0 && recipients.some((one) => reachable(one, before))
    const watch = awaited ? watchDeliveries(ctx, waitSeconds * 1000) : undefined

    const tell = async ({ instance }: Recipient, mail: Mail): Promise<void> => {
      const message = `${mail.id} from ${mail.from} (${urgency}).`
      const event = { id: newId("e"), kind: "MailSent" as const, message, atMs: mail.atMs }
      // The mail is sent, whether or not the timeline can be told.
      await timeline
        .append({ ...event, ...(instance && { uid: instance.uid }) })
        .catch(() => undefined)
    }
    const send = async (recipient: Recipient): Promise<Sent> => {
      const mail: Mail = {
        ...{
          id: mailIdOf(ctx, idempotencyKey, recipient.to),
          from: nameOf(who),
          text,
          urgency,
          atMs: clock.nowMs(),
        },
        authority: who.kind === "human" ? "operator" : "peer",
        ...(replyTo !== undefined && { replyTo }),
        ...(question && { question }),
      }
      const refused = refusalOf(recipient, before.nowMs)
      if (refused !== undefined) return { recipient, mail, refused }
      try {
        // First what lasts: an order without its mail is heard at the next iteration, a mail
        // without its order would be forgotten.
        const order =
          standing && recipient.instance ? await addOrder(ctx, recipient.instance, mail) : undefined
        if (turn && who.kind === "instance" && !recipient.instance)
          await reports.wait(who.uid, isQuestion(mail, turn.id))
        if ((await mailboxes.send(recipient.to, mail)) === "Accepted") await tell(recipient, mail)
        return { recipient, mail, ...(order !== undefined && { order }) }
      } catch (error) {
        const fault = asFault(error)
        return { recipient, mail, refused: `${fault.message} ${fault.next}`, fault }
      }
    }
    try {
      const sent = await Promise.all(recipients.map(send))
      const fault = sent.find((one) => one.fault)?.fault
      if (sent.every(({ refused }) => refused !== undefined))
        throw (
          fault ??
          new Fault(
            "Conflict",
            `Nobody could be told. ${sent
              .slice(0, 5)
              .map(({ recipient, refused }) => `${recipient.name}: ${refused}`)
              .join(" ")}`,
            "resume_instances starts those that ended; list_instances {} shows which run.",
          )
        )
      const mails = sent.filter(({ refused }) => refused === undefined).map(({ mail }) => mail.id)
      const waitFor = sent.filter(
        ({ recipient, refused }) => refused === undefined && reachable(recipient, before),
      )
      const hasStirred = async ({ to }: Recipient, { atMs }: Mail): Promise<boolean> => {
        const beat = to === operators ? undefined : (await reports.beats()).get(to)
        // Unheard of since `serve` began, it may still connect.
        return beat === undefined || beat.atMs >= atMs
      }
      if (waitFor.length > 0)
        await watch?.settled(
          new Map(
            waitFor.map(({ mail, recipient }) => [
              mail.id,
              { name: recipient.name, hasStirred: () => hasStirred(recipient, mail) },
            ]),
          ),
        )
      const posted = new Map<string, Posted>(
        (await mailboxes.posted({ mails, limit: mails.length })).map((one) => [one.mail.id, one]),
      )
      const after = await readingsOf(ctx)
      const receipts = sent.map(({ recipient, mail, refused, order }) => {
        if (refused !== undefined) return { to: recipient.name, state: "refused", note: refused }
        const receipt = posted.get(mail.id)?.receipt ?? { mail: mail.id, state: "Queued" as const }
        const where = noteOf(recipient, receipt, mail, after)
        const note =
          order === undefined ? where : `${where.replace(/\.$/, "")}; standing order ${order}.`
        return { mail: mail.id, to: recipient.name, state: receipt.state.toLowerCase(), note }
      })
      const waiting = receipts
        .filter(({ state }) => state === "queued")
        .flatMap(({ mail }) => mail ?? [])
      const next =
        waiting.length === 0
          ? "inspect_instance shows what an agent makes of it."
          : `read_messages {"sent":true,"mails":${JSON.stringify(waiting.slice(0, 10))}} shows later what became of it.`
      return { receipts, next }
    } finally {
      watch?.end()
    }
  },
  show: ({ receipts, next }) => ({
    text: [
      ...receipts.map(
        ({ mail, to, state, note }) =>
          `${to}: ${state}${mail === undefined ? "" : ` (${mail})`}. ${note}`,
      ),
      next,
    ].join("\n"),
  }),
})
