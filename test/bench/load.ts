import { setTimeout as sleep } from "node:timers/promises"
import { z } from "zod"
import { hold, say } from "../model/model.ts"
import { fillWith } from "./crowd.ts"
import { type Client, open, serverOf } from "./http.ts"
import { hookOf, timeMail } from "./mail.ts"
import { type Part, quantile, type Row, row } from "./measure.ts"
import { residentMebibytes } from "./process.ts"
import { openFleet } from "./worlds.ts"

/** A control plane beside a large fleet, while many clients look at it without a pause. */

const clients = 64
const crowd = 5000
const loadMs = 60_000
const settleMs = 5000
const warmUps = 3
const p99MsMax = 300
const growthMax = 1.5

/** What a conversation looks at, in turn. */
const looks: readonly (readonly [string, object])[] = [
  ["list_instances", { limit: 50 }],
  ["fleet_status", {}],
  ["inspect_instance", { name: "agent-7" }],
  ["read_events", { limit: 50 }],
  ["list_instances", { project: "project-3", detail: true, limit: 200 }],
]

/** Asks again as soon as it is answered, until told to end. */
async function look(client: Client, signal: AbortSignal): Promise<number> {
  let answers = 0
  for (; !signal.aborted; answers++) {
    const [name, input] = looks[answers % looks.length] ?? ["fleet_status", {}]
    await client.ask("tools/call", { name, arguments: input })
  }
  return answers
}

export const loadPart: Part = {
  ids: ["fleet.mail_load", "serve.rss_load"],
  async measure(): Promise<readonly Row[]> {
    await using fleet = await openFleet(
      () => hold(say("Status: PARTIAL"), new Promise(() => {})),
      (state) => fillWith(crowd, state),
    )
    const { world, call } = fleet
    const { name, uid } = z
      .object({ name: z.string(), uid: z.string() })
      .parse(await call("spawn_instance", { project: "shop" }))
    await world.model.until(({ main }) => main, AbortSignal.timeout(30_000))
    const hook = hookOf(world.runOf(uid))
    const quiet: number[] = []
    for (let round = 0; round < warmUps; round++) quiet.push(await timeMail(fleet, name, hook))
    await sleep(settleMs)
    const before = residentMebibytes(world.servePid())
    const all = await open(serverOf(fleet), clients)
    const ended = new AbortController()
    const looking = Promise.all(all.map((client) => look(client, ended.signal)))
    const untilMs = performance.now() + loadMs
    const ms: number[] = []
    try {
      while (performance.now() < untilMs) ms.push(await timeMail(fleet, name, hook))
    } finally {
      ended.abort()
    }
    const answers = (await looking).reduce((sum, count) => sum + count, 0)
    await sleep(settleMs)
    const after = residentMebibytes(world.servePid())
    for (const client of all) client.close()
    const p99 = quantile(ms, 0.99)
    process.stderr.write(
      `${answers} answers and ${ms.length} mails in ${loadMs / 1000} s; a mail took ${quantile(ms, 0.5).toFixed(1)} ms at the median, before the load ${quantile(quiet, 0.5).toFixed(1)} ms\n`,
    )
    return [
      row("fleet.mail_load", "ms", p99, {
        ...{
          baseline: quantile(quiet, 0.5),
          goal: `p99 <= ${p99MsMax} ms`,
          holds: p99 <= p99MsMax,
        },
      }),
      row("serve.rss_load", "MiB", after, {
        ...{ baseline: before, goal: `<= ${growthMax}x`, holds: after <= growthMax * before },
      }),
    ]
  },
}
