import { describe, expect, it } from "vitest"
import type { Beat } from "../../src/core/beat.ts"
import { directive } from "../../src/core/directive.ts"
import { indexOf } from "../../src/core/fleet-index.ts"
import { holds } from "../../src/core/holds.ts"
import type { Admission, Instance, Uid } from "../../src/core/instance.ts"
import { type FleetSnapshot, plan } from "../../src/core/plan.ts"
import type { Turn } from "../../src/core/ports.ts"
import { noUsage } from "../../src/core/usage.ts"
import type { Wait } from "../../src/core/waits.ts"
import { aBeat, anInstance, aRun, startMs, uid } from "../contract/harness.ts"

const nowMs = startMs
const always = () => ({ open: true, untilMs: 0 })
const admitted: Admission = {
  verdict: "Admitted",
  reason: "Admitted",
  message: "Admitted.",
  term: 1,
}
type More = NonNullable<Parameters<typeof anInstance>[1]>
/** Runs in place p1 and is admitted. */
const live = (name: string, more: More = {}): Instance =>
  anInstance(name, { status: { admission: admitted, run: aRun() }, ...more })
const turn = (name: string, more: Partial<Turn> = {}): Turn => ({
  uid: uid(`u-${name}`),
  id: `t-${name}`,
  place: "p1",
  grantedAtMs: 1,
  ...more,
})
const wants = (name: string, sinceMs = nowMs): Partial<Beat> => ({
  turn: { id: `t-${name}`, state: "Wanted", sinceMs },
})
const runs = (name: string, sinceMs = nowMs): Partial<Beat> => ({
  turn: { id: `t-${name}`, state: "Running", sinceMs, grantedAtMs: 1 },
})

interface Fleet {
  readonly instances: readonly Instance[]
  readonly beats?: Readonly<Record<string, Partial<Beat>>>
  readonly turns?: readonly Turn[]
  readonly spentUsd?: Readonly<Record<string, number>>
  readonly waits?: Readonly<Record<string, readonly Wait[]>>
  readonly policy?: Partial<FleetSnapshot["policy"]>
}
const planOf = ({
  instances,
  beats = {},
  turns = [],
  spentUsd = {},
  waits = {},
  policy = {},
}: Fleet) => {
  const snapshot: FleetSnapshot = {
    policy: { instancesMax: 10, turnsMax: 2, ...policy },
    fleet: indexOf(instances),
    beats: new Map(Object.entries(beats).map(([name, more]) => [uid(`u-${name}`), aBeat(more)])),
    turns: new Map(turns.map((one) => [one.uid, one])),
    spent: new Map(
      Object.entries(spentUsd).map(([name, usd]) => [
        uid(`u-${name}`),
        { used: { ...noUsage, usd } },
      ]),
    ),
    windows: always,
    waits: new Map(Object.entries(waits).map(([name, list]) => [uid(`u-${name}`), list])),
  }
  const { admit, grant, end, wakeAtMs } = plan(snapshot, holds, nowMs)
  return {
    admit: Object.fromEntries(admit.map(({ instance, value }) => [instance.name, value.reason])),
    grant: grant.map(({ id }) => id),
    end: end.map(({ id }) => id),
    wakeAtMs,
  }
}

describe("admission", () => {
  const waiting = (name: string, priority: number, createdAtMs: number): Instance =>
    anInstance(name, { createdAtMs, spec: { priority } })

  it("gives places by priority, then by age, and says to the others that the fleet is full", () => {
    const instances = [
      waiting("young", 0, 3),
      waiting("old", 0, 1),
      waiting("urgent", 5, 9),
      waiting("late", -5, 0),
    ]
    expect(planOf({ instances, policy: { instancesMax: 2 } }).admit).toEqual({
      urgent: "Admitted",
      old: "Admitted",
      young: "FleetFull",
      late: "FleetFull",
    })
  })

  it("lets who lives keep its place, whatever comes", () => {
    const instances = [waiting("urgent", 100, 0), live("a"), live("b")]
    expect(planOf({ instances, policy: { instancesMax: 2 } }).admit).toEqual({
      urgent: "FleetFull",
    })
    expect(planOf({ instances, policy: { instancesMax: 1 } }).admit).toEqual({
      urgent: "FleetFull",
    })
  })

  it.each<[string, More]>([
    ["stopped", { spec: { state: "Stopped" } }],
    ["paused", { spec: { state: "Paused" } }],
    ["deleted", { deletedAtMs: 1 }],
    [
      "finished",
      {
        status: {
          run: aRun({ phase: "Exited", lastExit: { code: 0, atMs: 1, outcome: "Complete" } }),
        },
      },
    ],
  ])("what is %s and does not live takes no place", (_name, more) => {
    const instances = [anInstance("idle", more), waiting("next", -100, 9)]
    expect(planOf({ instances, policy: { instancesMax: 1 } }).admit).toEqual({ next: "Admitted" })
  })

  it("what is paused and lives keeps its place", () => {
    const instances = [live("idle", { spec: { state: "Paused" } }), waiting("next", 100, 0)]
    expect(planOf({ instances, policy: { instancesMax: 1 } }).admit).toEqual({ next: "FleetFull" })
  })

  it("what a hold keeps from starting takes no place; what it meets running does", () => {
    const poor = { spec: { budget: { usd: 1 } } }
    const spentUsd = { poor: 1 }
    const policy = { instancesMax: 1 }
    expect(
      planOf({ instances: [anInstance("poor", poor), waiting("next", 0, 9)], spentUsd, policy })
        .admit,
    ).toEqual({
      poor: "BudgetReached",
      next: "Admitted",
    })
    expect(
      planOf({ instances: [live("poor", poor), waiting("next", 0, 9)], spentUsd, policy }).admit,
    ).toEqual({
      poor: "BudgetReached",
      next: "FleetFull",
    })
  })

  it("holds only its reporter, only in its place, and only until then", () => {
    const hold = (untilMs: number) => ({
      hold: { reason: "RateLimited" as const, message: "Limit.", untilMs },
    })
    const instances = [live("a"), live("b")]
    expect(planOf({ instances, beats: { a: hold(nowMs + 1) } })).toMatchObject({
      admit: { a: "RateLimited" },
      wakeAtMs: nowMs + 1,
    })
    expect(planOf({ instances, beats: { a: { ...hold(nowMs + 1), place: "p0" } } }).admit).toEqual(
      {},
    )
    expect(planOf({ instances, beats: { a: hold(nowMs) } }).admit).toEqual({})
  })

  it("writes nothing for a settled fleet", () => {
    const full: Admission = {
      ...admitted,
      verdict: "Queued",
      reason: "FleetFull",
      message: "In other words.",
    }
    const instances = [
      live("a"),
      live("b"),
      anInstance("c", { createdAtMs: nowMs + 9, status: { admission: full } }),
    ]
    const settled = planOf({
      instances,
      beats: { a: runs("a"), b: {} },
      turns: [turn("a")],
      policy: { instancesMax: 2 },
    })
    expect(settled).toEqual({ admit: {}, grant: [], end: [], wakeAtMs: Number.POSITIVE_INFINITY })
  })

  it("wakes when the first pause ends", () => {
    const until = (untilMs: number): More => ({
      spec: { state: "Paused", pause: { when: "now", untilMs } },
    })
    const instances = [
      anInstance("a", until(nowMs + 50)),
      anInstance("b", until(nowMs + 20)),
      anInstance("c", until(nowMs - 5)),
    ]
    expect(planOf({ instances }).wakeAtMs).toBe(nowMs + 20)
  })
})

describe("turns", () => {
  const frozen = { frozen: true }
  const paused: More = { spec: { state: "Paused", pause: { when: "now" } } }

  it("go to who waits longest, as many as there are", () => {
    const instances = ["a", "b", "c"].map((name) =>
      live(name, { spec: { priority: name === "c" ? 100 : 0 } }),
    )
    const beats = { a: wants("a", nowMs - 5), b: wants("b", nowMs - 9), c: wants("c", nowMs - 1) }
    expect(planOf({ instances, beats }).grant).toEqual(["t-b", "t-a"])
    expect(planOf({ instances, beats, turns: [turn("x", { uid: uid("u-a") })] }).grant).toEqual([
      "t-b",
      "t-a",
    ])
  })

  it("are not given beyond those in use", () => {
    const instances = ["a", "b", "c"].map((name) => live(name))
    const beats = { a: runs("a"), b: runs("b"), c: wants("c") }
    expect(planOf({ instances, beats, turns: [turn("a"), turn("b")] }).grant).toEqual([])
    expect(
      planOf({ instances, beats, turns: [turn("a"), turn("b")], policy: { turnsMax: 0 } }).end,
    ).toEqual([])
  })

  it.each<[string, Instance[], Record<string, Partial<Beat>>]>([
    ["silence keeps it", [live("a")], {}],
    ["a beat of the former place says nothing", [live("a")], { a: { place: "p0" } }],
    ["wanted, and granted already", [live("a")], { a: wants("a") }],
    [
      "frozen, but said before this grant of it was known",
      [live("a", paused)],
      { a: { turn: { id: "t-a", state: "Running", sinceMs: 0 }, ...frozen } },
    ],
    ["frozen though nobody wants it", [live("a")], { a: { ...runs("a"), ...frozen } }],
    ["a pause that is not obeyed yet", [live("a", paused)], { a: runs("a") }],
  ])("do not end: %s", (_name, instances, beats) => {
    expect(planOf({ instances, beats, turns: [turn("a")] })).toMatchObject({ end: [], grant: [] })
  })

  it.each<[string, Instance[], Record<string, Partial<Beat>>]>([
    ["its beat has none", [live("a")], { a: {} }],
    [
      "its beat has another",
      [live("a")],
      { a: { turn: { id: "other", state: "Wanted", sinceMs: 1 } } },
    ],
    [
      "the run has exited",
      [live("a", { status: { run: aRun({ phase: "Exited" }) } })],
      { a: runs("a") },
    ],
    ["it runs in another place", [live("a", { status: { run: aRun({ place: "p2" }) } })], {}],
    ["the instance is gone", [], {}],
    ["frozen as the pause wants", [live("a", paused)], { a: { ...runs("a"), ...frozen } }],
    [
      "frozen as the budget wants",
      [live("a", { spec: { budget: { usd: 1 } } })],
      { a: { ...runs("a"), ...frozen } },
    ],
  ])("end: %s", (_name, instances, beats) => {
    expect(planOf({ instances, beats, turns: [turn("a")], spentUsd: { a: 1 } }).end).toEqual([
      "t-a",
    ])
  })

  it("that ended are free for others at once", () => {
    const instances = [live("a", paused), live("b")]
    const beats = { a: { ...runs("a"), ...frozen }, b: wants("b") }
    expect(planOf({ instances, beats, turns: [turn("a")], policy: { turnsMax: 1 } })).toMatchObject(
      {
        end: ["t-a"],
        grant: ["t-b"],
      },
    )
  })

  it("are needed again to go on after a pause", () => {
    const resumed = [live("a"), live("b")]
    const beats = { a: { ...runs("a", nowMs - 9), ...frozen }, b: wants("b", nowMs - 1) }
    expect(planOf({ instances: resumed, beats, policy: { turnsMax: 1 } }).grant).toEqual(["t-a"])
    expect(
      planOf({ instances: resumed, beats, turns: [turn("b")], policy: { turnsMax: 1 } }).grant,
    ).toEqual([])
  })

  it("count first for who runs without one: the table was lost", () => {
    const instances = ["a", "b", "c"].map((name) => live(name))
    const beats = { a: wants("a", nowMs - 99), b: runs("b"), c: wants("c", nowMs - 5) }
    expect(planOf({ instances, beats }).grant).toEqual(["t-b", "t-a"])
    expect(planOf({ instances, beats, policy: { turnsMax: 1 } }).grant).toEqual(["t-b"])
    expect(
      planOf({ instances, beats: { ...beats, c: runs("c") }, policy: { turnsMax: 1 } }).grant,
    ).toEqual(["t-b", "t-c"])
  })

  it.each<[string, Instance]>([
    ["paused", live("a", paused)],
    ["stopped", live("a", { spec: { state: "Stopped" } })],
    ["out of budget", live("a", { spec: { budget: { usd: 1 } } })],
    [
      "in another place",
      live("a", { status: { admission: admitted, run: aRun({ place: "p2" }) } }),
    ],
    ["not living", anInstance("a", { status: { admission: admitted } })],
  ])("are not given to what is %s", (_name, instance) => {
    expect(
      planOf({ instances: [instance], beats: { a: wants("a") }, spentUsd: { a: 1 } }).grant,
    ).toEqual([])
  })
})

/**
 * A fleet of honest supervisors, driven at random. A directive arrives at once while the link is
 * up; a beat, some time after it was said.
 */
function randomFleet(seed: number) {
  let state = seed
  const random = (below: number): number => {
    state = (state + 0x6d2b79f5) | 0 // mulberry32: small, and the same everywhere
    let bits = Math.imul(state ^ (state >>> 15), 1 | state)
    bits = (bits + Math.imul(bits ^ (bits >>> 7), 61 | bits)) ^ bits
    return ((bits ^ (bits >>> 14)) >>> 0) % below
  }
  const turnsMax = 1 + random(3)
  interface Supervisor {
    instance: Instance
    connected: boolean
    frozen: boolean
    turn: Beat["turn"] | undefined
    /** Said, and still on its way: the last counts. */
    saying?: Beat
  }
  const beats = new Map<Uid, Beat>()
  const turns = new Map<Uid, Turn>()
  let now = nowMs
  let ids = 0
  let tableLost = false
  const fleet: Supervisor[] = Array.from({ length: 2 + random(6) }, (_, index) => ({
    instance: live(`i${index}`, { spec: { priority: random(3) } }),
    connected: true,
    frozen: false,
    turn: undefined,
  }))

  const hear = (one: Supervisor): void => {
    if (one.saying) beats.set(one.instance.uid, one.saying)
    delete one.saying
  }
  /** The directive down, obeyed; the beat on its way. */
  const exchange = (one: Supervisor): void => {
    if (!one.connected) return
    const { uid: of, status } = one.instance
    const wish = directive(one.instance, turns.get(of), now)
    const mayRun =
      wish.freeze === undefined && one.turn !== undefined && wish.turn?.id === one.turn.id
    if (one.turn?.state === "Wanted" && mayRun) one.turn = { ...one.turn, state: "Running" }
    one.frozen = wish.freeze !== undefined || (one.turn?.state === "Running" && !mayRun)
    const known = wish.turn?.id === one.turn?.id ? wish.turn : undefined
    const turn = one.turn && {
      turn: { ...one.turn, ...(known && { grantedAtMs: known.grantedAtMs }) },
    }
    one.saying = aBeat({ place: status.run?.place ?? "", frozen: one.frozen, ...turn, atMs: now })
    if (random(2) === 0) hear(one)
  }
  const withSpec = (one: Supervisor, spec: Partial<Instance["spec"]>): void => {
    one.instance = { ...one.instance, spec: { ...one.instance.spec, ...spec } }
    exchange(one)
  }
  const randomPause = (): NonNullable<Instance["spec"]["pause"]> => ({
    when: random(2) === 0 ? "now" : "iteration-end",
    ...(random(2) === 0 && { untilMs: now + random(20_000) }),
  })
  const snapshot = (): FleetSnapshot => ({
    policy: { instancesMax: 10, turnsMax },
    fleet: indexOf(fleet.map(({ instance }) => instance)),
    beats,
    turns,
    spent: new Map(),
    windows: always,
    waits: new Map(),
  })
  const schedule = (): void => {
    tableLost = false
    const { admit, grant, end } = plan(snapshot(), holds, now)
    for (const { instance, value } of admit)
      for (const one of fleet)
        if (one.instance.uid === instance.uid)
          one.instance = {
            ...one.instance,
            status: { ...one.instance.status, admission: { ...value, term: 1 } },
          }
    for (const { uid: of } of end) turns.delete(of)
    for (const one of grant) turns.set(one.uid, one)
    for (const one of fleet) exchange(one)
  }
  const step = (): void => {
    now += 1 + random(5000)
    const one = fleet[random(fleet.length)]
    if (!one) return
    switch (random(14)) {
      case 0:
      case 1:
      case 2:
        one.turn ??= { id: `t${ids++}`, state: "Wanted", sinceMs: now }
        break
      case 3:
        if (one.turn?.state === "Running" && !one.frozen) one.turn = undefined // the iteration ends
        break
      case 4:
        withSpec(one, { state: "Paused", pause: randomPause() })
        break
      case 5:
        withSpec(one, { state: "Running" })
        break
      case 10:
        hear(one)
        break
      case 6: // the run dies, and another one begins in a new place
        one.turn = undefined
        one.frozen = false
        delete one.saying
        one.instance = {
          ...one.instance,
          status: { ...one.instance.status, run: aRun({ place: `p${ids++}` }) },
        }
        break
      case 7:
        one.connected = !one.connected
        break
      case 8: // the table is lost; who runs is known from beats, so everybody was heard
        if (
          fleet.every(
            ({ instance }) => beats.get(instance.uid)?.place === instance.status.run?.place,
          )
        ) {
          turns.clear()
          tableLost = true
        }
        break
      // The control plane starts again without its beats; nothing helps whoever lost both at once
      // while a link is down.
      case 9:
        if (!tableLost) beats.clear()
        break
      default:
        schedule()
    }
    for (const each of fleet) exchange(each)
  }
  const running = (): number =>
    fleet.filter(({ turn: of, frozen }) => of?.state === "Running" && !frozen).length
  const settle = (): void => {
    for (const one of fleet) {
      one.connected = true
      withSpec(one, { state: "Running" })
    }
    for (let round = 0; round < 4; round++) {
      for (const one of fleet) hear(one)
      schedule()
    }
  }
  return {
    step,
    running,
    turnsMax,
    settle,
    turns,
    fleet,
    planned: () => plan(snapshot(), holds, now),
  }
}

describe("a random fleet", () => {
  const seeds = Array.from({ length: 400 }, (_, index) => index + 1)

  it("never runs more unfrozen iterations than there are turns, recovery included", () => {
    let most = 0
    for (const seed of seeds) {
      const fleet = randomFleet(seed)
      for (let count = 0; count < 150; count++) {
        fleet.step()
        expect(fleet.running(), `seed ${seed}, step ${count}`).toBeLessThanOrEqual(fleet.turnsMax)
        most = Math.max(most, fleet.running())
      }
    }
    expect(most).toBe(3) // the fleets do run
  })

  it("uses every turn that somebody waits for once all is well, and then comes to rest", () => {
    for (const seed of seeds) {
      const fleet = randomFleet(seed)
      for (let count = 0; count < 100; count++) fleet.step()
      fleet.settle()
      const asking = fleet.fleet.filter(({ turn: of }) => of !== undefined).length
      expect(fleet.running(), `seed ${seed}`).toBe(Math.min(asking, fleet.turnsMax))
      expect(fleet.planned(), `seed ${seed}`).toMatchObject({ admit: [], grant: [], end: [] })
    }
  })
})
