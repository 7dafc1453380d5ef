import { Fault } from "../../core/faults.ts"
import { type Receipt, receiptAdvances } from "../../core/mail.ts"
import { inboxFull } from "../../core/mailbox-writes.ts"
import type { Address, Mailboxes, Posted } from "../../core/ports.ts"
import type { MemoryBackend } from "./backend.ts"
import type { Connection } from "./connection.ts"

/** Mail that may wait for one address; then a sender is refused. */
export const memoryInboxMax = 200
/** All mail that is kept; of what is settled the oldest goes first. */
const keptMax = 20_000

const isWaiting = ({ receipt }: Posted): boolean => receipt.state === "Queued"

function move({ mail }: MemoryBackend, receipt: Receipt): void {
  const post = mail.get(receipt.mail)
  if (!post || !receiptAdvances(post.receipt.state, receipt.state)) return
  mail.set(receipt.mail, { ...post, receipt: { ...post.receipt, ...receipt } })
}

function trim({ mail }: MemoryBackend): void {
  let excess = mail.size - keptMax
  for (const [id, post] of mail) {
    if (excess <= 0) return
    if (isWaiting(post)) continue
    mail.delete(id)
    excess--
  }
}

export function memoryMailboxes({ backend, reach, wire, signal: closed }: Connection): Mailboxes {
  const { mail: posts } = backend
  const waitingFor = (address: Address): readonly Posted[] =>
    [...posts.values()].filter((post) => post.to === address && isWaiting(post))

  return {
    send: (to, mail) =>
      reach("mailboxes.send", () => {
        if (posts.has(mail.id)) return "Duplicate"
        if (waitingFor(to).length >= memoryInboxMax) throw inboxFull(to, memoryInboxMax)
        posts.set(mail.id, { to, mail, receipt: { mail: mail.id, state: "Queued" } })
        if (mail.replyTo !== undefined) move(backend, { mail: mail.replyTo, state: "Answered" })
        trim(backend)
        backend.changed("mail")
        return "Accepted"
      }),
    async *inbox(of, signal) {
      const either = AbortSignal.any([signal, closed])
      const given = new Set<string>()
      let isCut = false
      let isDirty = true
      let wake = (): void => {}
      const change = (): void => {
        isDirty = true
        wake()
      }
      const ends = [
        backend.listen("mail", change),
        wire.onCut(() => {
          isCut = true
          wake()
        }),
      ]
      const abort = (): void => wake()
      either.addEventListener("abort", abort)
      try {
        while (!either.aborted) {
          if (isCut) throw new Fault("Unavailable", "The inbox was cut off.", "Open it again.")
          isDirty = false
          // One at a time: what was returned meanwhile is not handed out.
          const next = await reach("mailboxes.inbox", () =>
            waitingFor(of).find(({ mail }) => !given.has(mail.id)),
          )
          if (next) {
            given.add(next.mail.id)
            yield next.mail
          } else if (!isDirty && !isCut && !either.aborted)
            await new Promise<void>((resolve) => {
              wake = resolve
            })
        }
      } finally {
        for (const end of ends) end()
        either.removeEventListener("abort", abort)
      }
    },
    posted: ({ to, from, mails, waiting, limit }) =>
      reach("mailboxes.posted", () =>
        [...posts.values()]
          .reverse()
          .filter((post) => to === undefined || post.to === to)
          .filter(({ mail }) => from === undefined || mail.from === from)
          .filter(({ mail }) => mails === undefined || mails.includes(mail.id))
          .filter((post) => !waiting || isWaiting(post))
          .slice(0, limit),
      ),
    receipt: (of, receipt) =>
      reach("mailboxes.receipt", () => {
        if (posts.get(receipt.mail)?.to !== of) return undefined
        move(backend, receipt)
        return posts.get(receipt.mail)?.receipt
      }),
    returnAll: (of) =>
      reach("mailboxes.returnAll", () => {
        const returned = waitingFor(of)
        for (const { mail } of returned) move(backend, { mail: mail.id, state: "Returned" })
        return returned.length
      }),
  }
}
