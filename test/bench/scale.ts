import { request } from "node:http"
import { join } from "node:path"
import { fillWith } from "./crowd.ts"
import { type Part, quantile, type Row, row } from "./measure.ts"
import { openFleet } from "./worlds.ts"

const sizes = [100, 1000, 10_000] as const
const warmUps = 10
const rounds = 100
/** So that a conversation does not feel the size of the fleet. */
const p99MsMax = 100

const silent = (): never => {
  throw new Error("nobody asks the model here")
}

/** The same way, to what does nothing. */
const health = (socketPath: string): Promise<void> =>
  new Promise((resolve, reject) => {
    request({ socketPath, path: "/healthz" }, (response) => response.resume().once("end", resolve))
      .once("error", reject)
      .end()
  })

async function times(work: () => Promise<unknown>): Promise<readonly number[]> {
  const ms: number[] = []
  for (let round = -warmUps; round < rounds; round++) {
    const beganMs = performance.now()
    await work()
    if (round >= 0) ms.push(performance.now() - beganMs)
  }
  return ms
}

/**
 * One call of list_instances over the socket, the first page of as many as there are; the baseline
 * is the p50 of a request that does nothing.
 */
const listPart = (size: number): Part => {
  const id = `fleet.list_${size}`
  return {
    ids: [`${id}.p50`, `${id}.p99`],
    async measure(): Promise<readonly Row[]> {
      await using fleet = await openFleet(silent, (state) => fillWith(size, state))
      const socketPath = join(fleet.world.state, "serve.sock")
      const plain = await times(() => health(socketPath))
      const ours = await times(() => fleet.call("list_instances"))
      const p99 = quantile(ours, 0.99)
      const baseline = quantile(plain, 0.5)
      return [
        row(`${id}.p50`, "ms", quantile(ours, 0.5), { baseline }),
        row(`${id}.p99`, "ms", p99, {
          baseline,
          goal: `<= ${p99MsMax} ms`,
          holds: p99 <= p99MsMax,
        }),
      ]
    },
  }
}

export const listParts: readonly Part[] = sizes.map(listPart)
