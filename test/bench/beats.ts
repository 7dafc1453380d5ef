import { once } from "node:events"
import { join } from "node:path"
import WebSocket from "ws"
import { createCredentials } from "../../src/api/credentials.ts"
import type { Beat } from "../../src/core/beat.ts"
import type { UpFrame } from "../../src/core/frames.ts"
import type { Instance } from "../../src/core/instance.ts"
import { noUsage } from "../../src/core/usage.ts"
import { fillWith } from "./crowd.ts"
import { type Part, row } from "./measure.ts"
import { type Fleet, openFleet } from "./worlds.ts"

const links = 100
const beatsEach = 200

/** A supervisor's end of the link, without the supervisor. */
async function linkOf({ world }: Fleet, { name, uid, status }: Instance) {
  const place = status.run?.place ?? ""
  const query = new URLSearchParams({ name, uid, place })
  const authorization = `Bearer ${createCredentials(world.state).mint({ name, uid, place })}`
  const socket = new WebSocket(`ws+unix://${join(world.state, "serve.sock")}:/v1/link?${query}`, {
    headers: { authorization },
  })
  await once(socket, "open")
  const send = (frame: UpFrame): void => socket.send(JSON.stringify(frame))
  let seq = 0
  return {
    beat: (more: Partial<Beat>) =>
      send({
        type: "beat",
        beat: { place, frozen: true, used: noUsage, atMs: Date.now(), ...more },
      }),
    /** Resolves when all that was sent before was taken. */
    async taken(): Promise<void> {
      const wanted = ++seq
      const acknowledged = new Promise<void>((resolve, reject) => {
        socket.on("message", (data) => {
          if (String(data).includes(`"ack","seq":${wanted}}`)) resolve()
        })
        socket.once("close", (code) => reject(new Error(`the link was closed with code ${code}`)))
      })
      send({
        type: "event",
        seq: wanted,
        event: { id: `bench-${wanted}`, kind: "Warning", message: "Done.", atMs: Date.now() },
      })
      await acknowledged
    },
    close: () => socket.close(),
  }
}

/**
 * What a hundred agents at work tell, as fast as it is taken: each other beat says that something
 * was used, which is written and planned on.
 */
async function perSecond(size: number): Promise<number> {
  const filled: { made: readonly Instance[] } = { made: [] }
  await using fleet = await openFleet(
    () => {
      throw new Error("nobody asks the model here")
    },
    async (state) => {
      filled.made = await fillWith(size, state, links)
    },
  )
  const all = await Promise.all(filled.made.slice(0, links).map((one) => linkOf(fleet, one)))
  const beganMs = performance.now()
  for (let round = 1; round <= beatsEach; round++)
    for (const link of all)
      link.beat({
        used: { ...noUsage, usd: 1 + Math.floor(round / 2) / 100, ms: round * 5000 },
        activity: { tool: "Bash", summary: `step ${round}`, sinceMs: Date.now() },
      })
  await Promise.all(all.map((link) => link.taken()))
  const seconds = (performance.now() - beganMs) / 1000
  for (const link of all) link.close()
  return (links * beatsEach) / seconds
}

/**
 * A hundred agents beat 20 times a second together when all are quiet; the baseline is the same in
 * a store of a hundred.
 */
export const beatsPart: Part = {
  ids: ["fleet.beats"],
  async measure() {
    const baseline = await perSecond(links)
    return [row("fleet.beats", "/s", await perSecond(10_000), { baseline })]
  },
}
