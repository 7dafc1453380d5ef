import { z } from "zod"
import { asFault } from "../core/faults.ts"
import type { Invoke } from "../core/invoke.ts"
import { noProgress } from "../core/tool.ts"
import { fleetUri, targetOfUri, uriOf } from "./resources.ts"

/** What changed for a caller: a resource, or which ones there are. */
export type ResourceChange = { readonly uri: string } | "listed"

export interface ResourceWatch {
  /**
   * Tells what changes from the moment it resolves until the result is called. `wanted` is asked
   * for the addresses of logs, which nothing tells of: they are looked at.
   */
  follow(
    tell: (change: ResourceChange) => void,
    wanted: () => Iterable<string>,
  ): Promise<() => void>
}

const waitSeconds = 50
const eventsMax = 500
/** What happens in quick succession is told once. */
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

/**
 * One loop over read_events for all who follow the same caller's view; it runs while anybody does.
 */
export function watchResources(invoke: Invoke): ResourceWatch {
  const followers = new Map<
    object,
    { tell: (change: ResourceChange) => void; wanted: () => Iterable<string> }
  >()
  let running: { readonly ended: AbortController; readonly begun: Promise<void> } | undefined

  const tellAll = (changes: ReadonlySet<ResourceChange | string>): void => {
    for (const { tell } of [...followers.values()])
      for (const change of changes) tell(change === "listed" ? change : { uri: String(change) })
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
        if (!signal.aborted) tellAll(changed)
        if (changed.size > 0) await pause(gatherMs, signal)
      } catch (error) {
        // Events between are gone: all may have changed. Anything else is tried again from the same
        // place.
        if (asFault(error).code === "NotFound" && cursor !== undefined) {
          cursor = undefined
          tellAll(new Set(["listed", fleetUri]))
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
          const place = targetOfUri(uri)
          if (place.of !== "logs" || signal.aborted) continue
          const input = { name: place.name, tail: 1, ...(after !== undefined && { after }) }
          const { cursor, lines } = logSchema.parse(
            await invoke("read_logs", input, { signal, progress: noProgress }),
          )
          cursors.set(uri, cursor)
          if (after !== undefined && (lines > 0 || cursor !== after)) tellAll(new Set([uri]))
        } catch {
          // It is gone, or cannot be read now: its end is an event.
          cursors.delete(uri)
        }
      }
      await pause(logsMs, signal)
    }
  }

  return {
    async follow(tell, wanted) {
      const key = {}
      followers.set(key, { tell, wanted })
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
