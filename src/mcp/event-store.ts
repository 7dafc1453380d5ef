import type { EventStore } from "@modelcontextprotocol/sdk/server/webStandardStreamableHttp.js"
import type { JSONRPCMessage } from "@modelcontextprotocol/sdk/types.js"

/** What one session's streams said last, for a client that was cut off and resumes. */
export interface BoundedEventStore extends EventStore {
  /** True when all that followed this event on its stream is still here. */
  resumable(eventId: string): boolean
}

const eventsMax = 500
/** What a call of a few seconds says, in each of a thousand sessions. */
const bytesMax = 65_536

/** Bounded: the oldest go first; the newest is kept however large it is. */
export function keepEvents(): BoundedEventStore {
  /** As text: an answer's objects would take several times as much. */
  const events: { id: string; stream: string; text: string }[] = []
  /** The number of the newest event of each stream that was dropped. */
  const dropped = new Map<string, number>()
  let count = 0
  let bytes = 0
  const parse = (id: string): { stream: string; number: number } | undefined => {
    const [, stream, number] = /^(.+)\.(\d{1,15})$/.exec(id) ?? []
    return stream === undefined ? undefined : { stream, number: Number(number) }
  }
  const resumable = (id: string): boolean => {
    const at = parse(id)
    return at !== undefined && at.number <= count && at.number >= (dropped.get(at.stream) ?? 0)
  }
  return {
    resumable,
    async storeEvent(stream, message) {
      const id = `${stream}.${++count}`
      const text = JSON.stringify(message)
      events.push({ id, stream, text })
      bytes += text.length
      while (events.length > 1 && (events.length > eventsMax || bytes > bytesMax)) {
        const oldest = events.shift()
        if (!oldest) break
        bytes -= oldest.text.length
        dropped.delete(oldest.stream)
        dropped.set(oldest.stream, parse(oldest.id)?.number ?? 0)
        // A stream that is forgotten altogether cannot be resumed from its middle: what is kept of
        // it says so.
        const [first] = dropped.keys()
        if (dropped.size > eventsMax && first !== undefined) dropped.delete(first)
      }
      return id
    },
    async replayEventsAfter(lastEventId, { send }) {
      const at = parse(lastEventId)
      if (!at || !resumable(lastEventId)) throw new Error("These events are not kept any more.")
      // An event without a method or a result only marked a beginning.
      for (const { id, stream, text } of [...events])
        if (stream === at.stream && (parse(id)?.number ?? 0) > at.number && text !== "{}")
          await send(id, JSON.parse(text) as JSONRPCMessage) // as it was given to storeEvent
      return at.stream
    },
  }
}
