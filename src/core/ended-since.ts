import { z } from "zod"
import type { Event } from "./event.ts"
import { dollars } from "./fleet-view.ts"
import type { Uid } from "./instance.ts"
import { isoOf } from "./moment.ts"
import type { ToolContext } from "./tool.ts"
import { bounded } from "./view.ts"
import { visibleUids } from "./visible-events.ts"

/**
 * What a person missed: which loops ended since a moment, and how. From the timeline, so removed
 * instances are in it, too.
 */

const listedMax = 20
const readMax = 1000
const wordsCharactersMax = 600

/**
 * `untrusted`: the last words of its last iteration (said), and its branch; branch and commits, of
 * those that are still there.
 */
const endedSchema = z.strictObject({
  name: z.string(),
  at: z.string(),
  commits: z.int().optional(),
  untrusted: z.looseObject({}).optional(),
})
type Ended = z.output<typeof endedSchema>
export const endedSinceSchema = z.strictObject({
  from: z.string(),
  completed: z.array(endedSchema),
  failed: z.array(endedSchema),
  usd: z.number().optional(),
  cut: z.string().optional(),
})
export type EndedSince = z.output<typeof endedSinceSchema>

/** Of all that the caller sees, or of `only`. */
export async function endedSince(
  ctx: ToolContext,
  sinceMs: number,
  only: readonly Uid[] | undefined,
): Promise<EndedSince> {
  const { reports, timeline, ledger } = ctx
  const uids = only ?? (await visibleUids(ctx))
  const accounts = ledger.accounts.snapshot()
  const [{ events }, used] = await Promise.all([
    timeline.lastEvents({ kinds: ["Exited"], sinceMs, limit: readMax, ...(uids && { uids }) }),
    uids === undefined ? ledger.spentSince(sinceMs) : undefined,
  ])
  // The last end of each is what became of it: an attempt that failed and was completed later is
  // complete.
  const last = new Map<Uid, Event>()
  for (const event of events)
    if (event.uid !== undefined && !last.has(event.uid)) last.set(event.uid, event)
  const ends = (outcome: Event["outcome"]) =>
    [...last].filter(([, event]) => event.outcome === outcome)
  const describeEnd = async ([uid, { cursor, atMs }]: [Uid, Event]): Promise<Ended> => {
    const [words] = (
      await timeline.lastEvents({
        uids: [uid],
        kinds: ["IterationEnded"],
        before: cursor,
        limit: 1,
      })
    ).events
    const { branch, commits } = reports.beats.get(uid)?.work ?? {}
    const untrusted = {
      ...(branch !== undefined && { branch }),
      ...(words && { said: bounded(words.message, wordsCharactersMax) }),
    }
    return {
      name: accounts.get(uid)?.birth?.name ?? uid,
      at: isoOf(atMs),
      ...(branch !== undefined && commits !== undefined && { commits }),
      ...(Object.keys(untrusted).length > 0 && { untrusted }),
    }
  }
  const [completed, failed] = [ends("Complete"), ends("Failed")]
  const listed = (all: [Uid, Event][]): Promise<Ended[]> =>
    Promise.all(all.slice(0, listedMax).map(describeEnd))
  const cuts =
    [completed, failed].some((all) => all.length > listedMax) || events.length === readMax
  return {
    from: isoOf(sinceMs),
    completed: await listed(completed),
    failed: await listed(failed),
    ...(used && { usd: dollars(used.usd) }),
    ...(cuts && {
      cut: `Only the newest ${listedMax} of each are listed: ${completed.length} completed, ${failed.length} failed.`,
    }),
  }
}
