import { describe, expect, it } from "vitest"
import { Simulation } from "./fleet-simulation.ts"

/**
 * Two control planes over one backend, one of them leading, either stopped at any await, with a
 * lease that runs out unnoticed: what one of them was about to write must not break what the other
 * decided since.
 */

const seeds = Array.from({ length: 36 }, (_, index) => ({
  seed: index + 1,
  cutsWires: index >= 24,
}))
const steps = 700

/** The terms that the store has shown; they must only grow. */
class Terms {
  readonly #seen = new Map<string, number>()
  check({ backend }: Simulation): void {
    for (const [, { uid, status }] of backend.instances.entries())
      for (const section of ["admission", "run"] as const) {
        const key = `${uid} ${section}`
        const term = status[section]?.term ?? 0
        expect(term, `the term of ${key}`).toBeGreaterThanOrEqual(this.#seen.get(key) ?? 0)
        this.#seen.set(key, term)
      }
  }
}

/** What must hold at every moment. */
function checkAlways(simulation: Simulation, terms: Terms): void {
  terms.check(simulation)
  expect(simulation.running, "iterations that run").toBeLessThanOrEqual(simulation.turnsMax)
  for (const [name, { spec }] of simulation.backend.instances.entries())
    expect(spec.state, `what people want of ${name}`).toBe(
      simulation.paused.has(name) ? "Paused" : "Running",
    )
  for (const { run, delivered } of simulation.supervisors.values())
    expect(delivered, "mail in its order").toEqual(
      (simulation.sent.get(run.uid) ?? []).filter((id) => delivered.includes(id)),
    )
}

/** What must hold when everybody had time. */
async function checkCalm({ front, supervisors, paused, sent, world }: Simulation) {
  const accounts = front.ledger.accounts.snapshot()
  const { events } = await front.timeline.lastEvents({ kinds: ["Spawned"], limit: 500 })
  const instances = [...front.instances.replica.snapshot().values()]
  expect(events.map(({ uid }) => uid).toSorted()).toEqual(
    instances.map(({ uid }) => uid).toSorted(),
  )
  const ranks = instances.map(({ uid }) => accounts.get(uid)?.birth?.rank)
  expect(new Set(ranks).size).toBe(instances.length)
  expect(ranks).not.toContain(undefined)
  // One run of each number, whoever started it.
  const starts = world.starts.map((start) => start.split(" ").slice(0, 2).join(" "))
  expect(starts.toSorted()).toEqual([...new Set(starts)].toSorted())
  for (const { name, uid, status } of instances) {
    const one = supervisors.get(name)
    if (!paused.has(name)) expect(one?.place, `${name} runs`).toBe(status.run?.place)
    if (!one) continue
    if (paused.has(name)) expect(one.isRunning, `${name} is paused`).toBe(false)
    const waiting = await front.mailboxes.posted({ to: uid, waiting: true, limit: 500 })
    expect(waiting.map(({ mail }) => mail.id)).toEqual([])
    expect((await front.mailboxes.posted({ to: uid, limit: 500 })).length).toBe(
      sent.get(uid)?.length ?? 0,
    )
  }
}

describe("two control planes over one backend", () => {
  it.each(seeds)(
    "keep every promise while either stands still at any await, seed $seed, cuts: $cutsWires",
    async ({ seed, cutsWires }) => {
      const simulation = new Simulation(seed, { cutsWires })
      const terms = new Terms()
      try {
        await simulation.front.ready()
        simulation.begin()
        simulation.begin()
        for (let step = 0; step < steps; step++) {
          await simulation.step()
          await simulation.drain()
          checkAlways(simulation, terms)
        }
        await simulation.calm()
        checkAlways(simulation, terms)
        await checkCalm(simulation)
      } catch (error) {
        throw new Error(`seed ${seed}, after:\n${simulation.log.slice(-30).join("\n")}`, {
          cause: error,
        })
      } finally {
        simulation.end()
      }
    },
  )
})
