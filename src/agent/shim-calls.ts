import { setTimeout as sleep } from "node:timers/promises"
import { z } from "zod"
import { oneLine } from "../core/view.ts"

// An import of node:http also loads what it re-exports, node's fetch and WebSocket: 40 ms and 12
// MiB in every turn.
const { request } = process.getBuiltinModule("node:http")

/** How the claude shim asks its supervisor. */

/** Where the supervisor listens. */
export interface SupervisorPort {
  readonly url: string
  readonly token: string
}
export interface SupervisorAnswer {
  readonly status: number
  readonly body: string
}

/** One question waits at most this long at the supervisor, which then answers 204: ask again. */
export const askMsMax = 60_000
/** How long to wait where the instance has asked more often than its supervisor allows. */
const tooOftenMs = 1000

function post(
  { url, token }: SupervisorPort,
  path: string,
  text: string,
): Promise<SupervisorAnswer> {
  return new Promise((resolve, reject) => {
    const call = request(
      new URL(path, url),
      {
        method: "POST",
        agent: false,
        timeout: askMsMax + 10_000,
        headers: {
          authorization: `Bearer ${token}`,
          "content-type": "application/json",
          "content-length": Buffer.byteLength(text),
        },
      },
      (response) => {
        let answer = ""
        response.setEncoding("utf8")
        response.on("data", (chunk: string) => {
          answer += chunk
        })
        response.on("end", () => resolve({ status: response.statusCode ?? 0, body: answer }))
        response.on("error", reject)
      },
    )
    call.on("timeout", () => call.destroy(new Error("no answer in time")))
    call.on("error", reject)
    call.end(text)
  })
}

/** Asks until there is an answer; a supervisor that is being replaced is asked again. */
export async function insist(
  port: SupervisorPort,
  path: string,
  text: string,
  msMax: number,
): Promise<SupervisorAnswer | undefined> {
  let answeredAtMs = performance.now()
  let waitMs = 20
  while (performance.now() - answeredAtMs < msMax) {
    try {
      const answer = await post(port, path, text)
      if (answer.status === 429) {
        await sleep(tooOftenMs)
        continue
      }
      if (answer.status !== 204) return answer
      waitMs = 20
      answeredAtMs = performance.now() // who says "not yet" is there, however long that lasts
    } catch {
      await sleep(waitMs)
      waitMs = Math.min(1000, waitMs * 2)
    }
  }
  return undefined
}

const refusalSchema = z.object({ error: z.object({ message: z.string(), next: z.string() }) })

/** What a person at the loop's log reads of a refusal. */
export function describeRefusal(answer: SupervisorAnswer | undefined): string {
  if (!answer) return "the supervisor does not answer"
  try {
    const { message, next } = refusalSchema.parse(JSON.parse(answer.body)).error
    return oneLine(`${message} ${next}`, 300)
  } catch {
    return oneLine(answer.body, 300)
  }
}
