import { z } from "zod"
import { type Event, type EventKind, eventKindSchema } from "../../src/core/event.ts"
import { indexOf } from "../../src/core/fleet-index.ts"
import { nameSchema, type Uid } from "../../src/core/instance.ts"
import { isoOf } from "../../src/core/moment.ts"
import type { EventPage, EventQuery } from "../../src/core/ports.ts"
import { isBorn } from "../../src/core/spending.ts"
import { stopwatch } from "../../src/core/stopwatch.ts"
import { defineTool, type ToolContext } from "../../src/core/tool.ts"
import { bounded, counted, countWithin } from "../../src/core/view.ts"
import { visibleUids } from "../../src/core/visible-events.ts"

const messageCharactersMax = 1000
/** All texts of one answer together: Claude Code warns of results above ten thousand tokens. */
const charactersMax = 32_768
/** All of one answer, whatever its texts are made of. */
const bytesMax = 65_536
/** A caller that waits hears from the server this often. */
const sliceMs = 10_000

/**
 * Told by us, in names, numbers and ids alone. All others may carry an agent's words, git's, or
 * what claude printed.
 */
const ours: ReadonlySet<EventKind> = new Set<EventKind>([
  "Spawned",
  "Changed",
  "Started",
  "MailSent",
])

const uidsOf = async (ctx: ToolContext): Promise<readonly Uid[] | undefined> => {
  const [target] = ctx.targets
  return target ? [target.uid] : visibleUids(ctx)
}
type Query = Pick<EventQuery, "kinds" | "limit">

async function newest(ctx: ToolContext, query: Query): Promise<EventPage> {
  const uids = await uidsOf(ctx)
  const { events, cursor } = await ctx.timeline.lastEvents({ ...query, ...(uids && { uids }) })
  return { events: events.toReversed(), cursor }
}

async function following(
  ctx: ToolContext,
  after: string,
  query: Query,
  waitMs: number,
): Promise<EventPage> {
  const { timeline, clock, signal, progress } = ctx
  const waitedMs = stopwatch(clock)
  let reportedMs = 0
  let reports = 0
  for (;;) {
    const uids = await uidsOf(ctx)
    const found = await timeline.events({ ...query, after, waitMs: 0, ...(uids && { uids }) })
    const leftMs = waitMs - waitedMs()
    if (found.events.length > 0 || leftMs <= 0 || signal.aborted) return found
    // Any event wakes it: an instance that is born meanwhile is not among the uids yet. What was
    // looked at is not looked at again.
    after = found.cursor
    await timeline.events({ after, limit: 1, waitMs: Math.min(sliceMs, leftMs) }, signal)
    const nowMs = waitedMs()
    const secondsLeft = Math.round((waitMs - nowMs) / 1000)
    if (nowMs >= reportedMs + sliceMs && secondsLeft > 0) {
      reportedMs = nowMs
      progress(++reports, `nothing yet, ${secondsLeft} s left`)
    }
  }
}

/** An event may be told a moment before the account with the name is open. */
async function namesOf(ctx: ToolContext, events: readonly Event[]): Promise<(uid: Uid) => string> {
  const accounts = ctx.ledger.accounts.snapshot()
  const isKnown = ({ uid }: Event): boolean => uid === undefined || isBorn(uid, accounts)
  const instances = events.every(isKnown) ? [] : await ctx.visible()
  const { byUid } = indexOf(instances)
  return (uid) => accounts.get(uid)?.birth?.name ?? byUid.get(uid)?.name ?? uid
}

export default defineTool({
  name: "read_events",
  title: "Read events",
  description:
    "What happened: spawned, changed, started, exited, iterations, mail. Without after the newest; with the cursor of the last answer what came since, waiting up to waitSeconds for it.",
  toolset: "fleet",
  route: "GET /v1/events",
  verb: "see",
  input: z.strictObject({
    name: nameSchema.optional(),
    kinds: z.array(eventKindSchema).min(1).optional(),
    after: z.string().max(40).optional(),
    waitSeconds: z.int().min(0).max(50).default(0),
    limit: z.int().min(1).max(500).default(50),
  }),
  output: z.strictObject({
    events: z.array(
      z.strictObject({
        cursor: z.string(),
        at: z.string(),
        kind: z.string(),
        name: z.string().optional(),
        message: z.string().optional(),
        untrusted: z.string().optional(),
      }),
    ),
    cursor: z.string(),
    next: z.string(),
  }),
  hints: { readOnlyHint: true, destructiveHint: false, idempotentHint: true, openWorldHint: false },
  targets: ({ name }) => ({ names: name === undefined ? [] : [name] }),
  async handler(ctx, { kinds, after, waitSeconds, limit }) {
    const query = { limit, ...(kinds && { kinds }) }
    const isNewest = after === undefined && waitSeconds === 0
    const page = isNewest
      ? await newest(ctx, query)
      : await following(ctx, after ?? "$", query, waitSeconds * 1000)
    const nameOfUid = await namesOf(ctx, page.events)
    const each = Math.min(
      messageCharactersMax,
      Math.max(100, Math.floor(charactersMax / Math.max(1, page.events.length))),
    )
    const rows = page.events.map(({ cursor, atMs, kind, uid, message }) => {
      const name = uid === undefined ? undefined : nameOfUid(uid)
      const text = bounded(message, each)
      return {
        cursor,
        at: isoOf(atMs),
        kind,
        name,
        ...(ours.has(kind) ? { message: text } : { untrusted: text }),
      }
    })
    // Of the newest the newest are kept; behind a cursor those that come first, and the next call
    // goes on after them.
    const count = countWithin(isNewest ? rows.toReversed() : rows, bytesMax)
    const events = isNewest ? rows.slice(rows.length - count) : rows.slice(0, count)
    const cursor =
      isNewest || count === rows.length ? page.cursor : (events.at(-1)?.cursor ?? page.cursor)
    const cut =
      isNewest && count < rows.length
        ? ` ${rows.length - count} older ones did not fit: ask by name or kinds.`
        : ""
    return {
      events,
      cursor,
      next: `read_events {"after":"${cursor}","waitSeconds":30} waits for new ones.${cut}`,
    }
  },
  show: ({ events, next }) => ({
    text: `${counted(events.length, "event")}. ${next}`,
    rows: events.map(({ at, kind, name, message, untrusted }) => ({
      at,
      kind,
      name: name ?? "",
      message: message ?? untrusted ?? "",
    })),
  }),
})
