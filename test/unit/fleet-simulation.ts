/**
 * Control planes, supervisors and a person in one process, over one memory backend. A seed chooses
 * which call goes on next, and which plane stands still meanwhile: so a plane can be stopped at any
 * await, for a while or for good.
 */
import { createMemoryBackend } from "../../src/adapters/memory/backend.ts"
import { connectMemory, type MemoryPorts } from "../../src/adapters/memory/connect.ts"
import { createGateway, type Gateway } from "../../src/api/gateway.ts"
import { operate } from "../../src/control/operator.ts"
import { schedule } from "../../src/control/scheduler.ts"
import type { Beat } from "../../src/core/beat.ts"
import { iterationMinutesMaxDefault } from "../../src/core/directive.ts"
import type { DownFrame, UpFrame } from "../../src/core/frames.ts"
import type { Uid } from "../../src/core/instance.ts"
import type { Observed, Runtime } from "../../src/core/ports.ts"
import { noUsage } from "../../src/core/usage.ts"
import { aSpec, type ManualClock, manualClock } from "../contract/harness.ts"
import { pick, random } from "../random.ts"
import {
  instantRuntime,
  operatorPorts,
  type PlanePorts,
  schedulerPorts,
  somePolicy,
} from "./control-plane.ts"

/** One turn for all: whoever grants it twice is found out. */
const simulated = { ...somePolicy, turnsMax: 1 }

const nextTick = () => new Promise<void>((resolve) => void setImmediate(resolve))

export interface Plane {
  readonly name: string
  readonly ports: MemoryPorts
  readonly gateway: Gateway
  /** Calls that wait to go on, in the order of their making. */
  readonly pending: { readonly call: string; go(): void }[]
  readonly failures: string[]
  isFrozen: boolean
  /** How it is gone: nothing of it goes on any more. */
  kill(): void
}

/** What a supervisor knows: the rules of the agent's side, and nothing of the control plane's. */
export class Supervisor {
  readonly place: string
  readonly delivered: string[] = []
  turn: Beat["turn"]
  isFrozen = false
  plane: Plane | undefined
  #link: { receive(text: string): void; closed(): void } | undefined
  #unacknowledged = new Map<number, UpFrame>()
  #seq = 0
  #turns = 0
  #beats = 0
  readonly name: string
  readonly run: Observed
  readonly #clock: ManualClock

  constructor(name: string, run: Observed, clock: ManualClock) {
    this.name = name
    this.run = run
    this.place = run.place
    this.#clock = clock
  }
  get isRunning(): boolean {
    return this.turn?.state === "Running" && !this.isFrozen
  }
  connect(plane: Plane): void {
    this.disconnect()
    this.plane = plane
    const link = plane.gateway.connect({
      name: this.name,
      uid: this.run.uid,
      place: this.place,
      send: (frame) => {
        if (this.#link === link) this.#take(frame)
      },
      close: () => {
        if (this.#link === link) this.disconnect()
      },
    })
    this.#link = link
    this.beat()
    for (const frame of this.#unacknowledged.values()) this.#send(frame)
  }
  disconnect(): void {
    const link = this.#link
    this.#link = undefined
    this.plane = undefined
    link?.closed()
  }
  want(): void {
    if (this.turn) return
    const id = `${this.place}-t${++this.#turns}`
    this.turn = { id, state: "Wanted", sinceMs: this.#clock.nowMs() }
    this.beat()
  }
  endIteration(): void {
    if (!this.isRunning) return
    this.turn = undefined
    this.beat()
  }
  beat(): void {
    const { place, isFrozen: frozen, turn } = this
    const beat: Beat = {
      place,
      frozen,
      used: noUsage,
      atMs: this.#clock.nowMs(),
      sentAtSteadyMs: ++this.#beats,
    }
    this.#send({ type: "beat", beat: turn ? { ...beat, turn } : beat })
  }
  #send(frame: UpFrame): void {
    this.#link?.receive(JSON.stringify(frame))
  }
  #take(frame: DownFrame): void {
    if (frame.type === "ack") this.#unacknowledged.delete(frame.seq)
    else if (frame.type === "mail") {
      // What it has already it acknowledges again: the receipt may have been lost.
      if (!this.delivered.includes(frame.mail.id)) this.delivered.push(frame.mail.id)
      const seq = ++this.#seq
      const receipt = { mail: frame.mail.id, state: "Delivered" } as const
      this.#unacknowledged.set(seq, { type: "receipt", seq, receipt })
      this.#send({ type: "receipt", seq, receipt })
    } else {
      const { freeze, turn } = frame.directive
      const mine = this.turn && turn?.id === this.turn.id ? turn : undefined
      if (this.turn && mine)
        this.turn = {
          ...this.turn,
          grantedAtMs: mine.grantedAtMs,
          state: freeze === undefined ? "Running" : this.turn.state,
        }
      this.isFrozen = freeze !== undefined || (this.turn?.state === "Running" && mine === undefined)
      this.beat()
    }
  }
}

export class Simulation {
  readonly clock = manualClock()
  readonly backend = createMemoryBackend(this.clock)
  readonly chance: () => number
  readonly front: MemoryPorts
  readonly planes: Plane[] = []
  readonly supervisors = new Map<string, Supervisor>()
  /** What was accepted, in the order of its sending. */
  readonly sent = new Map<Uid, string[]>()
  readonly paused = new Set<string>()
  readonly log: string[] = []
  readonly world = instantRuntime(this.clock)
  #count = 0
  readonly #cutsWires: boolean

  /** `cutsWires`: a plane's feeds may be cut as well, so that its replicas are stale. */
  constructor(seed: number, { cutsWires = false } = {}) {
    this.#cutsWires = cutsWires
    this.chance = random(seed)
    this.front = connectMemory(this.backend, { clock: this.clock })
  }
  begin(): Plane {
    const pending: Plane["pending"] = []
    const failures: string[] = []
    const gate = (call: string): Promise<void> =>
      new Promise((resolve) => void pending.push({ call, go: resolve }))
    const ports = connectMemory(this.backend, { clock: this.clock, onCall: gate })
    const report = (part: string) => (key: string, error: unknown) =>
      void failures.push(`${part} ${key}: ${String(error)}`)
    const all: PlanePorts = {
      ...ports,
      store: ports.instances,
      clock: this.clock,
      runtime: gated(this.world.runtime, gate),
    }
    const stop = new AbortController()
    const gateway = createGateway({
      ...all,
      id: `gateway ${++this.#count}`,
      policy: () => ({ iterationMinutesMax: iterationMinutesMaxDefault }),
      async *policyChanged() {},
      report: report("gateway"),
    })
    void gateway.run(stop.signal)
    void ports.lead(stop.signal, async (term, until) => {
      await ports.ready()
      await Promise.all([
        operate(operatorPorts(all), term, report("operator"), until),
        schedule(
          schedulerPorts(all, () => simulated),
          term,
          report("scheduler"),
          until,
        ),
      ])
    })
    const plane: Plane = {
      name: `plane ${this.planes.length}`,
      ports,
      gateway,
      pending,
      failures,
      isFrozen: false,
      kill: () => {
        stop.abort()
        ports.close()
        pending.splice(0)
        this.planes.splice(this.planes.indexOf(plane), 1)
        for (const one of this.supervisors.values()) if (one.plane === plane) one.disconnect()
      },
    }
    this.planes.push(plane)
    return plane
  }
  /** Lets what is ready go on, until nothing is but by a decision of the simulation. */
  async drain(): Promise<void> {
    for (let round = 0; round < 4; round++) await nextTick()
    for (const [name, run] of this.world.runs) {
      const known = this.supervisors.get(name)
      if (known?.place === run.place && run.phase !== "Exited") continue
      known?.disconnect()
      this.supervisors.delete(name)
      if (run.phase !== "Exited") this.supervisors.set(name, new Supervisor(name, run, this.clock))
    }
    for (const [name, one] of this.supervisors)
      if (!this.world.runs.has(name)) {
        one.disconnect()
        this.supervisors.delete(name)
      }
  }
  /** Continues one call of a plane that does not stand still. */
  goOn(): boolean {
    const plane = pick(
      this.chance,
      this.planes.filter(({ isFrozen, pending }) => !isFrozen && pending.length > 0),
    )
    const at = plane ? Math.floor(this.chance() * plane.pending.length) : 0
    const [next] = plane?.pending.splice(at, 1) ?? []
    if (!plane || !next) return false
    this.log.push(`${plane.name} ${next.call}`)
    next.go()
    return true
  }
  async step(): Promise<void> {
    if (this.chance() < 0.8 && this.goOn()) return
    const dice = this.chance()
    if (dice < 0.75) this.#supervise()
    else if (dice < 0.88) await this.#person()
    else this.#disturb()
    this.clock.advance(Math.floor(this.chance() * 40))
  }
  #supervise(): void {
    const one = pick(this.chance, [...this.supervisors.values()])
    if (!one) return
    const plane = pick(this.chance, this.planes)
    const dice = this.chance()
    if (plane && (!one.plane || dice < 0.1)) one.connect(plane)
    else if (dice < 0.6) one.want()
    else if (dice < 0.8) one.endIteration()
    else if (dice < 0.82) this.world.exit(one.name)
    else one.beat()
  }
  /** A person's calls are answered at once: whatever they were told holds from then on. */
  async #person(): Promise<void> {
    const { instances, mailboxes } = this.front
    const all = [...instances.replica.snapshot().values()]
    const dice = this.chance()
    const one = pick(this.chance, all)
    if (all.length < 5 && (!one || dice < 0.3)) {
      await instances.create(`agent-${++this.#count}`, aSpec())
      return
    }
    if (!one) return
    if (dice < 0.8) {
      const id = `mail-${++this.#count}`
      const mail = {
        id,
        from: "operator ann",
        authority: "operator",
        text: id,
        urgency: "next-iteration",
        atMs: this.clock.nowMs(),
      } as const
      await mailboxes.send(one.uid, mail)
      this.sent.set(one.uid, [...(this.sent.get(one.uid) ?? []), id])
    } else {
      const isPaused = this.paused.has(one.name)
      await instances.updateSpec(one, {
        ...one.spec,
        state: isPaused ? "Running" : "Paused",
        ...(!isPaused && { pause: { when: "now" } }),
      })
      if (isPaused) this.paused.delete(one.name)
      else this.paused.add(one.name)
      this.log.push(`person ${isPaused ? "resumes" : "pauses"} ${one.name}`)
    }
  }
  /** A plane stands still, goes on, loses its lease without noticing, or is gone. */
  #disturb(): void {
    const plane = pick(this.chance, this.planes)
    const dice = this.chance()
    if (!plane) return
    if (plane.isFrozen || dice < 0.5) {
      plane.isFrozen = !plane.isFrozen
      if (plane.isFrozen && dice < 0.4) this.backend.leadership.expire()
    } else if (dice < 0.6) this.backend.leadership.expire()
    else if (dice < 0.65) {
      plane.kill()
      this.begin()
    } else if (!this.#cutsWires) return
    else if (dice < 0.8) plane.ports.wire.cut()
    else plane.ports.wire.resume()
    this.log.push(`disturbed ${plane.name} ${dice.toFixed(2)}`)
  }
  /** Nobody disturbs any more: every plane goes on, and every supervisor is connected. */
  async calm(): Promise<void> {
    for (const plane of this.planes) {
      plane.isFrozen = false
      plane.ports.wire.resume()
    }
    for (let round = 0; round < 60; round++) {
      for (let count = 0; count < 500 && this.goOn(); count++) await this.drain()
      await this.drain()
      for (const one of this.supervisors.values()) {
        const plane = this.planes[0]
        if (plane && !one.plane) one.connect(plane)
        else one.beat()
      }
      this.clock.advance(20_000)
      await this.drain()
    }
  }
  end(): void {
    for (const plane of [...this.planes]) plane.kill()
    this.front.close()
  }
  get running(): number {
    return [...this.supervisors.values()].filter((one) => one.isRunning).length
  }
  readonly turnsMax = simulated.turnsMax
}

function gated(runtime: Runtime, gate: (call: string) => Promise<void>): Runtime {
  const reach = async <T>(call: string, work: () => Promise<T>): Promise<T> => {
    await gate(call)
    const answer = await work()
    await gate(`${call} answers`)
    return answer
  }
  return {
    ...runtime,
    start: (workload) => reach("runtime.start", () => runtime.start(workload)),
    stop: (name, uid) => reach("runtime.stop", () => runtime.stop(name, uid)),
    clean: (name, uid) => reach("runtime.clean", () => runtime.clean(name, uid)),
  }
}
