import { z } from "zod"
import { Fault } from "../../src/core/faults.ts"
import { isoOf } from "../../src/core/moment.ts"
import { type Address, operators, type Posted } from "../../src/core/ports.ts"
import { may, nameOf } from "../../src/core/principal.ts"
import { defineTool, type ToolContext } from "../../src/core/tool.ts"
import { bounded, countWithin, leftOut } from "../../src/core/view.ts"

/** All texts of one answer together: Claude Code warns of results above ten thousand tokens. */
const charactersMax = 32_768
/** All of one answer, whatever its texts are made of. */
const bytesMax = 65_536

/** Whose inbox is meant; undefined for what was sent to anybody. */
function inboxOf(
  { who, targets }: ToolContext,
  of: string | undefined,
  sent: boolean,
  byId: boolean,
): Address | undefined {
  const [target] = targets
  if (target) return target.uid
  if (of === undefined && sent) return undefined
  // People may see every message.
  if (who.kind === "human") return of === undefined && byId ? undefined : operators
  if (of === undefined) return who.uid
  // What agents wrote to the people is for the people, unless it is the agent's own.
  if (sent) return operators
  throw new Fault(
    "Forbidden",
    "Agents cannot read the operators' inbox.",
    'read_messages {"sent":true} shows what you sent.',
  )
}

/** To whom an answer goes. */
const senderOf = ({ mail: { from } }: Posted): string =>
  from.startsWith("instance ") ? from.slice("instance ".length) : operators

/** What a person has read no longer waits. Who may not write to anybody only looks. */
async function markRead({ mailboxes, who }: ToolContext, page: readonly Posted[]): Promise<void> {
  if (who.kind !== "human" || may(who, "message") !== true) return
  for (const { to, mail, receipt } of page)
    if (to === operators && receipt.state === "Queued")
      await mailboxes.receipt(operators, { mail: mail.id, state: "Delivered" })
}

function nextStep(first: Posted | undefined, isOwnInbox: boolean, isSpecific: boolean): string {
  if (!first)
    return isSpecific
      ? "There are none."
      : 'There are none. read_messages {"of":"<name>"} shows what was sent to one instance.'
  return isOwnInbox
    ? `To answer: message_instances {"to":["${senderOf(first)}"],"replyTo":"${first.mail.id}","text":"…"}`
    : "inspect_instance shows what an agent does with it."
}

/**
 * How to reach what was left out: what is read no longer comes first, and a larger limit helps only
 * where it was the limit that cut.
 */
function moreOf(reads: boolean, isTooMuch: boolean): string {
  if (!isTooMuch) return "Give a larger limit for more messages, or "
  return reads
    ? "Call it again for more messages, or with "
    : "They do not fit into one answer: give "
}

export default defineTool({
  name: "read_messages",
  title: "Read messages",
  description:
    "The newest messages of an inbox: what agents wrote to people (@operators), unread (queued) first, or what was sent to one instance. With sent: true the receipts of what you sent yourself. Answer with message_instances and replyTo.",
  toolset: "fleet",
  route: "GET /v1/messages",
  verb: "see",
  input: z.strictObject({
    of: z
      .string()
      .regex(
        /^(@operators|[a-z0-9]([-a-z0-9]{0,51}[a-z0-9])?)$/,
        "must be the name of an instance, or @operators",
      )
      .optional(),
    sent: z.boolean().default(false),
    mails: z.array(z.string().min(1).max(64)).min(1).max(100).optional(),
    limit: z.int().min(1).max(200).default(20),
  }),
  output: z.strictObject({
    messages: z.array(
      z.strictObject({
        mail: z.string(),
        from: z.string(),
        to: z.string(),
        at: z.string(),
        state: z.string(),
        note: z.string().optional(),
        replyTo: z.string().optional(),
        untrusted: z.string(),
      }),
    ),
    cut: z.string().optional(),
    next: z.string(),
  }),
  hints: { readOnlyHint: true, destructiveHint: false, idempotentHint: true, openWorldHint: false },
  targets: ({ of }) => ({ names: of === undefined || of === operators ? [] : [of] }),
  async handler(ctx, { of, sent, mails, limit }) {
    const { mailboxes, who } = ctx
    const to = inboxOf(ctx, of, sent, mails !== undefined)
    const query = {
      ...(to !== undefined && { to }),
      ...(sent && { from: nameOf(who) }),
      ...(mails && { mails }),
    }
    // What nobody has read yet comes first, so that reading again and again comes to an end.
    const reads = to === operators && !sent && mails === undefined
    const [unread, all, visible] = await Promise.all([
      reads ? mailboxes.posted({ ...query, waiting: true, limit: limit + 1 }) : [],
      mailboxes.posted({ ...query, limit: limit + 1 }),
      ctx.visible(),
    ])
    const isUnread = new Set(unread.map(({ mail }) => mail.id))
    const found = [...unread, ...all.filter(({ mail }) => !isUnread.has(mail.id))]
    // A name used again inherits nothing: what its former bearer sent is not its own.
    const bornMs =
      who.kind === "instance" ? (visible.find(({ uid }) => uid === who.uid)?.createdAtMs ?? 0) : 0
    const mine = sent ? found.filter(({ mail }) => mail.atMs >= bornMs) : found
    const wanted = mine.slice(0, limit)
    const each = Math.max(200, Math.floor(charactersMax / Math.max(1, wanted.length)))
    const nameAt = new Map<Address, string>(visible.map(({ uid, name }) => [uid, name]))
    const messageOf = ({ to: address, mail, receipt }: Posted) => {
      const where = [
        receipt.iteration === undefined ? undefined : `iteration ${receipt.iteration}`,
        receipt.hook,
      ].filter((part) => part !== undefined)
      return {
        mail: mail.id,
        from: mail.from,
        to: nameAt.get(address) ?? address,
        at: isoOf(mail.atMs),
        state: receipt.state.toLowerCase(),
        note: where.length > 0 ? where.join(", ") : undefined,
        replyTo: mail.replyTo,
        untrusted: bounded(mail.text, each),
      }
    }
    const rows = wanted.map(messageOf)
    const messages = rows.slice(0, countWithin(rows, bytesMax))
    // Only what is shown has been read.
    const page = wanted.slice(0, messages.length)
    await markRead(ctx, page)
    const cuts = [
      ...(mine.length > page.length ? ["older messages"] : []),
      ...(page.some(({ mail }) => mail.text.length > each)
        ? [`what is beyond ${each} characters of a text`]
        : []),
    ]
    const first = page[0]
    const isOwnInbox = to === (who.kind === "human" ? operators : who.uid) && !sent
    const next =
      first && cuts.length > 0
        ? `${moreOf(reads, page.length < wanted.length)}"mails":["<id>"] for one text in full.`
        : nextStep(first, isOwnInbox, sent || of !== undefined)
    return { messages, cut: leftOut(cuts), next }
  },
  show: ({ messages, cut, next }) => ({
    text: [
      ...messages.map(
        ({ mail, from, to, state, at, untrusted }) =>
          `${mail} from ${from} to ${to}, ${at}, ${state}:\n${untrusted}`,
      ),
      ...(cut === undefined ? [] : [cut]),
      next,
    ].join("\n"),
  }),
})
