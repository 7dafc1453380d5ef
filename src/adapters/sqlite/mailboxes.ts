import { uidSchema } from "../../core/instance.ts"
import {
  type Mail,
  mailSchema,
  type Receipt,
  receiptAdvances,
  receiptSchema,
} from "../../core/mail.ts"
import { inboxFull } from "../../core/mailbox-writes.ts"
import { type Address, type Mailboxes, operators, type Posted } from "../../core/ports.ts"
import type { Database } from "./open.ts"
import { numberOf, type Row, stringOf } from "./row.ts"

/** Mail that may wait for one address; then a sender is refused, for an inbox is never trimmed. */
export const sqliteInboxMax = 200
/**
 * Settled mail kept for one address, and for all of them together (those of removed instances would
 * else stay for ever).
 */
export const settledMax = 2000
const keptMax = 20_000
const pageMax = 1000

/** As the table calls it since its first version. */
const hookColumn = "door"
const mailOf = (row: Row) => mailSchema.parse(JSON.parse(stringOf(row, "body")))
const receiptOf = (row: Row): Receipt =>
  receiptSchema.parse({
    mail: row.id,
    state: row.state,
    ...(row.iteration !== null && { iteration: row.iteration }),
    ...(row[hookColumn] !== null && { hook: row[hookColumn] }),
  })
const postedOf = (row: Row): Posted => {
  const to = stringOf(row, "address")
  return {
    to: to === operators ? operators : uidSchema.parse(to),
    mail: mailOf(row),
    receipt: receiptOf(row),
  }
}

function whereOf({
  to,
  from,
  mails,
  waiting,
}: {
  to: Address | undefined
  from: string | undefined
  mails: readonly string[] | undefined
  waiting: boolean | undefined
}): string {
  const conditions = [
    ...(to === undefined ? [] : ["address = :to"]),
    ...(from === undefined ? [] : ["sender = :from"]),
    ...(mails === undefined ? [] : ["id IN (SELECT value FROM json_each(:mails))"]),
    ...(waiting ? ["state = 'Queued'"] : []),
  ]
  return conditions.length > 0 ? `WHERE ${conditions.join(" AND ")}` : ""
}

/** Who reads an inbox, and is woken when mail comes. */
function createInboxes() {
  const readers = new Map<Address, Set<() => void>>()
  return {
    wake(of: Address): void {
      for (const wake of readers.get(of) ?? []) wake()
    },
    /** `next` finds the first that waits behind a row. */
    async *read(
      of: Address,
      signal: AbortSignal,
      next: (last: number) => Row | undefined,
    ): AsyncIterable<Mail> {
      let last = 0
      let wake = (): void => {}
      const wakeUp = (): void => wake()
      const others = readers.get(of) ?? new Set()
      readers.set(of, others.add(wakeUp))
      signal.addEventListener("abort", wakeUp)
      try {
        while (!signal.aborted) {
          const row = next(last) // one at a time: what was returned meanwhile is not handed out
          if (row) {
            last = numberOf(row, "seq")
            yield mailOf(row)
          } else {
            // No await stands between the empty answer and this promise, so no wake-up can be
            // missed.
            await new Promise<void>((resolve) => {
              wake = resolve
            })
          }
        }
      } finally {
        others.delete(wakeUp)
        if (others.size === 0) readers.delete(of)
        signal.removeEventListener("abort", wakeUp)
      }
    },
  }
}

export function sqliteMailboxes(database: Database): Mailboxes {
  const byId = database.prepare("SELECT * FROM mail WHERE id = ?")
  const waiting = database.prepare(
    "SELECT count(*) AS waiting FROM mail WHERE address = ? AND state = 'Queued'",
  )
  const insert = database.prepare(
    "INSERT INTO mail (id, address, sender, body) VALUES (?, ?, ?, ?)",
  )
  const next = database.prepare(
    "SELECT * FROM mail WHERE address = ? AND state = 'Queued' AND seq > ? ORDER BY seq LIMIT 1",
  )
  const settle = database.prepare(
    "UPDATE mail SET state = ?, iteration = coalesce(?, iteration), door = coalesce(?, door) WHERE id = ?",
  )
  const returnOf = database.prepare(
    "UPDATE mail SET state = 'Returned' WHERE address = ? AND state = 'Queued'",
  )
  const trim = database.prepare(
    `DELETE FROM mail WHERE state <> 'Queued' AND address = ?1 AND seq <=
       (SELECT seq FROM mail WHERE address = ?1 AND state <> 'Queued' ORDER BY seq DESC LIMIT 1 OFFSET ${settledMax})`,
  )
  const trimAll = database.prepare("DELETE FROM mail WHERE seq <= ? AND state <> 'Queued'")
  const inboxes = createInboxes()

  /** Inside a transaction. An unknown mail is one that was trimmed long after it was settled. */
  const move = ({ mail, state, iteration, hook }: Receipt): void => {
    const row = byId.get(mail)
    if (!row || !receiptAdvances(receiptOf(row).state, state)) return
    settle.run(state, iteration ?? null, hook ?? null, mail)
    trim.run(stringOf(row, "address"))
  }

  return {
    async send(to, mail) {
      const outcome = database.read(() => {
        if (byId.get(mail.id)) return "Duplicate"
        const count = numberOf(waiting.get(to) ?? {}, "waiting")
        if (count >= sqliteInboxMax) throw inboxFull(to, sqliteInboxMax)
        database.write(() => {
          const { lastInsertRowid } = insert.run(mail.id, to, mail.from, JSON.stringify(mail))
          trimAll.run(Number(lastInsertRowid) - keptMax)
          if (mail.replyTo !== undefined) move({ mail: mail.replyTo, state: "Answered" })
        })
        return "Accepted"
      })
      inboxes.wake(to)
      await database.durable()
      return outcome
    },
    inbox: (of, signal) =>
      inboxes.read(of, signal, (last) => database.read(() => next.get(of, last))),
    async posted({ to, from, mails, waiting: onlyWaiting, limit }) {
      const where = whereOf({ to, from, mails, waiting: onlyWaiting })
      const rows = database.read(() =>
        database.prepare(`SELECT * FROM mail ${where} ORDER BY seq DESC LIMIT :limit`).all({
          ...(to !== undefined && { to }),
          ...(from !== undefined && { from }),
          ...(mails !== undefined && { mails: JSON.stringify(mails) }),
          limit: Math.min(limit, pageMax),
        }),
      )
      return rows.map(postedOf)
    },
    async receipt(of, receipt) {
      return database.write(() => {
        const row = byId.get(receipt.mail)
        if (!row || stringOf(row, "address") !== of) return undefined
        move(receipt)
        const now = byId.get(receipt.mail)
        return now && receiptOf(now)
      })
    },
    async returnAll(of) {
      let returned = 0
      const step = (): void => {
        returned = Number(returnOf.run(of).changes)
        if (returned > 0) trim.run(of)
      }
      // The removal of an instance, which makes room, must not wait for room.
      database.insist(new Map([[`return ${of}`, step]]), "memory")
      return returned
    },
  }
}
