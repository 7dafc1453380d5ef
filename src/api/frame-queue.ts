import { DiskFull } from "../core/faults.ts"
import { closeMalformed, closeUnavailable, type UpFrame, upFrameSchema } from "../core/frames.ts"
import type { Clock } from "../core/ports.ts"
import { cut } from "../core/view.ts"
import type { SupervisorLink } from "./supervisor-link.ts"

/**
 * The frames of one link, taken one after another: a receipt never overtakes the beat before it.
 */

/** How long a frame that a full disk refused waits before it is tried again. */
const fullDiskMs = 1000
/** So many frames may wait before the link is cut; its supervisor sends them again. */
export const backlogMax = 1000
/** Of the problem with a frame, which may quote a megabyte of it. */
const reportedCharactersMax = 500

export interface FrameQueueParts {
  readonly link: SupervisorLink
  readonly clock: Clock
  /** Fires when the link has ended. */
  readonly ended: AbortSignal
  take(frame: UpFrame): Promise<void>
  report(error: unknown): void
}

const parseJson = (text: string): unknown => {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

/** Returns what takes the text of a frame. */
export function createFrameQueue({
  link,
  clock,
  ended,
  take,
  report,
}: FrameQueueParts): (text: string) => void {
  let backlog = 0
  let waitsForRoom = false
  let last = Promise.resolve()

  /**
   * On a full disk the link stays, for directives must go out; a frame that cannot be stored keeps
   * its place in the order.
   */
  const takeWhenThereIsRoom = async (frame: UpFrame): Promise<void> => {
    while (!ended.aborted)
      try {
        await take(frame)
        waitsForRoom = false
        return
      } catch (error) {
        if (!(error instanceof DiskFull)) throw error
        waitsForRoom = true
        report(error)
        await new Promise<void>((resolve) => void clock.after(fullDiskMs, resolve))
      }
  }
  return (text) => {
    const parsed = upFrameSchema.safeParse(parseJson(text))
    if (!parsed.success) {
      report(new Error(cut(parsed.error.message, reportedCharactersMax)))
      link.close(closeMalformed, "a frame could not be understood")
      return
    }
    // A beat needs no room, and shows whether the directive was carried out.
    if (waitsForRoom && parsed.data.type === "beat") return void take(parsed.data).catch(report)
    if (++backlog > backlogMax) {
      link.close(closeUnavailable, "too many frames at once")
      return
    }
    last = last
      .then(() => takeWhenThereIsRoom(parsed.data))
      .catch((error: unknown) => {
        report(error)
        link.close(closeUnavailable, "a frame could not be stored")
      })
      .finally(() => {
        backlog--
      })
  }
}
