import { z } from "zod"
import { asFault } from "../core/faults.ts"
import type { Invoke } from "../core/invoke.ts"
import { noProgress } from "../core/tool.ts"
import { fleetUri, parseUri, uriOf } from "./resources.ts"

/** What changed for a caller: one resource, or the list of them. */
export type ResourceChange = { readonly uri: string } | "listed"

export interface ResourceWatch {
  /**
   * Reports changes from the moment that it resolves until the result is called. `wanted` gives the
   * addresses of logs to follow: no event announces new lines, so logs are polled.
   */
  follow(
    notify: (change: ResourceChange) => void,
    wanted: () => Iterable<string>,
  ): Promise<() => void>
}

const waitSeconds = 50
const eventsMax = 500
/** Changes in quick succession are reported once. */
const gatherMs = 300
const logsMs = 2000
const retryMs = { min: 1000, max: 30_000 }

const pageSchema = z.object({
  events: z.array(z.object({ kind: z.string(), name: z.string().optional() })),
  cursor: z.string(),
})
const logSchema = z.object({ cursor: z.string(), lines: z.int() })

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      clearTimeout(timer)
      signal.removeEventListener("abort", done)
      resolve()
    }
    const timer = setTimeout(done, ms)
    signal.addEventListener("abort", done)
    if (signal.aborted) done()
  })
}

/** One loop over read_events for all followers of one caller. It runs while there is a follower. */
export function watchResources(invoke: Invoke): ResourceWatch {
  const followers = new Map<
    object,
    { notify: (change: ResourceChange) => void; wanted: () => Iterable<string> }
  >()
  let running: { readonly ended: AbortController; readonly begun: Promise<void> } | undefined

  const notifyAll = (changes: ReadonlySet<ResourceChange | string>): void => {
    for (const { notify } of [...followers.values()])
      for (const change of changes) notify(change === "listed" ? change : { uri: String(change) })
  }
  const page = async (
    input: Record<string, unknown>,
    signal: AbortSignal,
  ): Promise<z.output<typeof pageSchema>> =>
    pageSchema.parse(await invoke("read_events", input, { signal, progress: noProgress }))

  const followEvents = async (signal: AbortSignal, begun: () => void): Promise<void> => {
    let cursor: string | undefined
    let failures = 0
    while (!signal.aborted) {
      try {
        if (cursor === undefined) {
          cursor = (await page({ limit: 1 }, signal)).cursor
          begun()
        }
        const found = await page({ after: cursor, waitSeconds, limit: eventsMax }, signal)
        cursor = found.cursor
        failures = 0
        const changed = new Set<string>(found.events.length > 0 ? [fleetUri] : [])
        for (const { kind, name } of found.events) {
          if (kind === "Spawned" || kind === "Removed") changed.add("listed")
          if (name !== undefined) changed.add(uriOf(name)).add(uriOf(name, "events"))
        }
        if (!signal.aborted) notifyAll(changed)
        if (changed.size > 0) await pause(gatherMs, signal)
      } catch (error) {
        // NotFound: events were lost, so anything may have changed. Other errors are retried.
        if (asFault(error).code === "NotFound" && cursor !== undefined) {
          cursor = undefined
          notifyAll(new Set(["listed", fleetUri]))
        }
        begun()
        await pause(Math.min(retryMs.max, retryMs.min * 2 ** failures++), signal)
      }
    }
  }
  const followLogs = async (signal: AbortSignal): Promise<void> => {
    const cursors = new Map<string, string>()
    while (!signal.aborted) {
      const wanted = new Set<string>()
      for (const follower of followers.values())
        for (const uri of follower.wanted()) wanted.add(uri)
      for (const uri of cursors.keys()) if (!wanted.has(uri)) cursors.delete(uri)
      for (const uri of wanted) {
        const after = cursors.get(uri)
        try {
          const place = parseUri(uri)
          if (place.of !== "logs" || signal.aborted) continue
          const input = { name: place.name, tail: 1, ...(after !== undefined && { after }) }
          const { cursor, lines } = logSchema.parse(
            await invoke("read_logs", input, { signal, progress: noProgress }),
          )
          cursors.set(uri, cursor)
          if (after !== undefined && (lines > 0 || cursor !== after)) notifyAll(new Set([uri]))
        } catch {
          // It is gone or cannot be read now. Its end is an event of its own.
          cursors.delete(uri)
        }
      }
      await pause(logsMs, signal)
    }
  }

  return {
    async follow(notify, wanted) {
      const key = {}
      followers.set(key, { notify, wanted })
      if (!running) {
        const ended = new AbortController()
        const begun = new Promise<void>((resolve) => void followEvents(ended.signal, resolve))
        void followLogs(ended.signal)
        running = { ended, begun }
      }
      await running.begun
      return () => {
        if (!followers.delete(key) || followers.size > 0) return
        running?.ended.abort()
        running = undefined
      }
    },
  }
}
