import type { EventStore } from "@modelcontextprotocol/sdk/server/webStandardStreamableHttp.js"
import type { JSONRPCMessage } from "@modelcontextprotocol/sdk/types.js"

/**
 * The latest events of one session's streams, for a client that resumes after a lost connection.
 */
export interface BoundedEventStore extends EventStore {
  /** True when everything after this event on its stream is still kept. */
  resumable(eventId: string): boolean
}

const eventsMax = 500
/** Enough for the events of a few seconds, in each of a thousand sessions. */
const bytesMax = 65_536

/** Drops the oldest events first. The newest is kept, however large it is. */
export function keepEvents(): BoundedEventStore {
  /** As text, because objects would take several times as much memory. */
  const events: { id: string; stream: string; text: string }[] = []
  /** By stream, the number of the newest event that was dropped. */
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
        // Bounded as well. What is forgotten here belongs to streams that ended long ago.
        const [first] = dropped.keys()
        if (dropped.size > eventsMax && first !== undefined) dropped.delete(first)
      }
      return id
    },
    async replayEventsAfter(lastEventId, { send }) {
      const at = parse(lastEventId)
      if (!at || !resumable(lastEventId)) throw new Error("These events are no longer kept.")
      // An empty event only marked the beginning of the stream.
      for (const { id, stream, text } of [...events])
        if (stream === at.stream && (parse(id)?.number ?? 0) > at.number && text !== "{}")
          await send(id, JSON.parse(text) as JSONRPCMessage) // as storeEvent got it
      return at.stream
    },
  }
}
