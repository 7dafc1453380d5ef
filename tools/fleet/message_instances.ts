import { z } from "zod"
import { describeTargets } from "../../src/core/audit.ts"
import { type AwaitedReader, watchDeliveries } from "../../src/core/delivery-watch.ts"
import { Fault } from "../../src/core/faults.ts"
import { type Readings, readingsOf } from "../../src/core/fleet-view.ts"
import { urgencySchema } from "../../src/core/mail.ts"
import { operators } from "../../src/core/ports.ts"
import {
  checkOrder,
  checkReply,
  deliveryNote,
  isReachable,
  operatorsRecipient,
  type Recipient,
  recipientOf,
  refusalToSend,
} from "../../src/core/posting.ts"
import { targetFields, targetsOf } from "../../src/core/selector.ts"
import { type Sent, sendAll } from "../../src/core/sending.ts"
import { defineTool, type ToolContext } from "../../src/core/tool.ts"
import { counted } from "../../src/core/view.ts"

const recipientsMax = 200
const textBytesMax = 16_384

export default defineTool({
  name: "message_instances",
  title: "Message instances",
  description:
    'Tells running agents something: urgency now reaches them in the middle of an iteration; standing holds for all later iterations too. Agents write to people with to ["@operators"], and ask with question: true.',
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
            "must be the name of an instance, or @operators",
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
      .refine(
        (text) => new TextEncoder().encode(text).length <= textBytesMax,
        "must be at most 16 KiB",
      ),
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
  async handler(ctx, { to, waitSeconds, dryRun, ...letter }) {
    const recipients = [
      ...ctx.targets.map(recipientOf),
      ...(to?.includes(operators) ? [operatorsRecipient] : []),
    ]
    checkRecipients(recipients)
    if (letter.replyTo !== undefined) await checkReply(ctx, letter.replyTo)
    if (letter.standing) checkOrder(letter.text)
    const before = await readingsOf(ctx)
    if (dryRun)
      return {
        receipts: recipients.map((recipient) => foreseenReceipt(recipient, before)),
        next: "Nothing was sent. Call it without dryRun to send it.",
      }
    const isAwaited =
      letter.urgency === "now" &&
      waitSeconds > 0 &&
      recipients.some((one) => isReachable(one, before))
    const watch = isAwaited ? watchDeliveries(ctx, waitSeconds * 1000) : undefined
    try {
      const sent = await sendAll(ctx, recipients, letter, before)
      await watch?.settled(readersOf(ctx, sent, before))
      const receipts = await receiptsOf(ctx, sent)
      return { receipts, next: nextStep(receipts) }
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

type ReceiptRow = {
  readonly mail?: string | undefined
  readonly to: string
  readonly state: string
  readonly note: string
}

/** @throws NotFound where nobody is meant, TooLarge for too many. */
function checkRecipients({ length }: readonly Recipient[]): void {
  if (length === 0)
    throw new Fault("NotFound", "No instance matches.", "list_instances {} shows those that exist.")
  if (length > recipientsMax)
    throw new Fault(
      "TooLarge",
      `${counted(length, "instance matches", "instances match")}.`,
      `Choose at most ${recipientsMax}, by project or selector.`,
    )
}

function foreseenReceipt(recipient: Recipient, { nowMs }: Readings): ReceiptRow {
  const refusal = refusalToSend(recipient, nowMs)
  const state = refusal === undefined ? "would be sent" : "would be refused"
  return { to: recipient.name, state, note: refusal ?? "" }
}

/** Those who can read it within seconds. */
const readersOf = (
  { reports }: ToolContext,
  sent: readonly Sent[],
  readings: Readings,
): ReadonlyMap<string, AwaitedReader> =>
  new Map(
    sent
      .filter(({ recipient, refusal }) => refusal === undefined && isReachable(recipient, readings))
      .map(({ mail, recipient: { name, to } }) => [
        mail.id,
        {
          name,
          async hasBeaten() {
            const beat = to === operators ? undefined : reports.beats.get(to)
            // Unheard of since `serve` began, it may still connect.
            return beat === undefined || beat.atMs >= mail.atMs
          },
        },
      ]),
  )

async function receiptsOf(ctx: ToolContext, sent: readonly Sent[]): Promise<ReceiptRow[]> {
  const mails = sent.filter(({ refusal }) => refusal === undefined).map(({ mail }) => mail.id)
  const posted = await ctx.mailboxes.posted({ mails, limit: mails.length })
  const receiptAt = new Map(posted.map(({ mail, receipt }) => [mail.id, receipt]))
  const after = await readingsOf(ctx)
  return sent.map(({ recipient, mail, refusal, order }) => {
    if (refusal !== undefined) return { to: recipient.name, state: "refused", note: refusal }
    const receipt = receiptAt.get(mail.id) ?? { mail: mail.id, state: "Queued" as const }
    const where = deliveryNote(recipient, receipt, mail, after)
    const note =
      order === undefined ? where : `${where.replace(/\.$/, "")}; standing order ${order}.`
    return { mail: mail.id, to: recipient.name, state: receipt.state.toLowerCase(), note }
  })
}

function nextStep(receipts: readonly ReceiptRow[]): string {
  const waiting = receipts
    .filter(({ state }) => state === "queued")
    .flatMap(({ mail }) => mail ?? [])
  return waiting.length === 0
    ? "inspect_instance shows what an agent does with it."
    : `read_messages {"sent":true,"mails":${JSON.stringify(waiting.slice(0, 10))}} shows later what became of it.`
}
