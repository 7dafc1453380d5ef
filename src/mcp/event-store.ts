import type { EventStore } from "@modelcontextprotocol/sdk/server/webStandardStreamableHttp.js"
import type { JSONRPCMessage } from "@modelcontextprotocol/sdk/types.js"

/** What one session's streams said last, for a client that was cut off and resumes. */
export interface Kept extends EventStore {
  /** True when all that followed this event on its stream is still here. */
  resumable(eventId: string): boolean
}

const eventsMax = 500
const bytesMax = 262_144

/** Bounded: the oldest go first; the newest is kept however large it is. */
export function keepEvents(): Kept {
  const events: { id: string; stream: string; message: JSONRPCMessage; bytes: number }[] = []
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
      const size = JSON.stringify(message).length
      events.push({ id, stream, message, bytes: size })
      bytes += size
      while (events.length > 1 && (events.length > eventsMax || bytes > bytesMax)) {
        const oldest = events.shift()
        if (!oldest) break
        bytes -= oldest.bytes
        dropped.delete(oldest.stream)
        dropped.set(oldest.stream, parse(oldest.id)?.number ?? 0)
        // A stream that is forgotten altogether cannot be resumed from its middle: what is kept of it says so.
        const [first] = dropped.keys()
        if (dropped.size > eventsMax && first !== undefined) dropped.delete(first)
      }
      return id
    },
    async replayEventsAfter(lastEventId, { send }) {
      const at = parse(lastEventId)
      if (!at || !resumable(lastEventId)) throw new Error("These events are not kept any more.")
      // An event without a method or a result only marked a beginning.
      for (const { id, stream, message } of [...events])
        if (stream === at.stream && (parse(id)?.number ?? 0) > at.number && Object.keys(message).length > 0)
          await send(id, message)
      return at.stream
    },
  }
}
