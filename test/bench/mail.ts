import { randomUUID } from "node:crypto"
import { readFileSync } from "node:fs"
import { join } from "node:path"
import { setTimeout as sleep } from "node:timers/promises"
import { z } from "zod"
import { hold, say } from "../model/model.ts"
import { type Part, quantile, row } from "./measure.ts"
import { type Fleet, openFleet } from "./worlds.ts"

const warmUps = 5
const rounds = 100
const p99MsMax = 50
const deliveryMs = 10_000

const doorSchema = z.object({ port: z.number(), token: z.string() })
const receiptsSchema = z.object({ receipts: z.array(z.object({ state: z.string() })).length(1) })
export type Hook = (input: { hook_event_name: string; tool_name?: string }) => Promise<string>

/**
 * Posts to the door of the iteration that runs as claude does, with the address and token that
 * claude has in its settings.
 */
export function hookOf(run: string): Hook {
  const { port, token } = doorSchema.parse(
    JSON.parse(readFileSync(join(run, "status/supervisor.json"), "utf8")),
  )
  const post = (input: Parameters<Hook>[0]): Promise<Response> =>
    fetch(`http://127.0.0.1:${port}/hooks`, {
      method: "POST",
      headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
      body: JSON.stringify(input),
      signal: AbortSignal.timeout(deliveryMs),
    })
  return async (input) => {
    let answer = await post(input)
    // Faster than any claude: above its rate the port answers 429, and has room for one more in 10
    // ms.
    for (
      const beganMs = performance.now();
      answer.status === 429 && performance.now() - beganMs < deliveryMs;
    ) {
      await sleep(10)
      answer = await post(input)
    }
    if (!answer.ok) throw new Error(`the supervisor answered a hook with ${answer.status}`)
    return answer.text()
  }
}

/**
 * From the start of the call until the supervisor holds the mail, so that a hook posted at that
 * moment is answered with it: PostToolUse is posted as often as the port takes it until its answer
 * carries the text. The last, successful post is in the figure.
 */
export async function timeMail(
  { call }: Pick<Fleet, "call">,
  name: string,
  hook: Hook,
): Promise<number> {
  const text = `bench ${randomUUID()}`
  const callMs = performance.now()
  const called = call("message_instances", { to: [name], text, urgency: "now", waitSeconds: 0 })
  called.catch(() => {}) // told below, where it is awaited
  while (!(await hook({ hook_event_name: "PostToolUse", tool_name: "Bash" })).includes(text))
    if (performance.now() - callMs > deliveryMs)
      throw new Error(`a mail was not at the door after ${deliveryMs} ms`)
  const ms = performance.now() - callMs
  receiptsSchema.parse(await called)
  // As after real tools: their batch ends, and the next tool proves that the model has read the
  // mail, which leaves the inbox.
  await hook({ hook_event_name: "PostToolBatch" })
  await hook({ hook_event_name: "PreToolUse", tool_name: "Bash" })
  return ms
}

/**
 * The iteration is a real one: the loop, the claude shim, claude, held open by a model that does
 * not end its answer.
 */
export const mailPart: Part = {
  ids: ["fleet.mail_now.p50", "fleet.mail_now.p99"],
  async measure() {
    await using fleet = await openFleet(() => hold(say("Status: PARTIAL"), new Promise(() => {})))
    const { world, call } = fleet
    const { name, uid } = z
      .object({ name: z.string(), uid: z.string() })
      .parse(await call("spawn_instance", { project: "shop" }))
    await world.model.until(({ main }) => main, AbortSignal.timeout(30_000))
    const hook = hookOf(world.runOf(uid))
    for (let round = 0; round < warmUps; round++) await timeMail(fleet, name, hook)
    const ms: number[] = []
    for (let round = 0; round < rounds; round++) ms.push(await timeMail(fleet, name, hook))
    const p99 = quantile(ms, 0.99)
    return [
      row("fleet.mail_now.p50", "ms", quantile(ms, 0.5)),
      row("fleet.mail_now.p99", "ms", p99, { goal: `<= ${p99MsMax} ms`, holds: p99 <= p99MsMax }),
    ]
  },
}
