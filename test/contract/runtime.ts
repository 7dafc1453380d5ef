import { describe, expect, it } from "vitest"
import type { Uid } from "../../src/core/instance.ts"
import type { Observed, Runtime, Workload } from "../../src/core/ports.ts"
import { aSpec, uid } from "./harness.ts"

/** One backend of a runtime, and what of it only its own tests can see. */
export interface RuntimeBackend extends AsyncDisposable {
  /**
   * The handle of a control plane. The one before it has ended by then, as a control plane does.
   */
  open(): Promise<Runtime>
  /** How many processes of an instance are left. */
  processCount(uid: Uid): number
  /** Makes the loop of the newest run end by itself. */
  endLoop(uid: Uid): Promise<void>
  /** Whether anything of the instance is left behind, processes aside. */
  hasTraces(uid: Uid): boolean
}
/** In its specs, the project "missing" cannot be started, and work is left in "precious". */
export type OpenRuntimeBackend = () => Promise<RuntimeBackend>

const shop = uid("u-shop")
const workload = (more: Partial<Workload> = {}): Workload => ({
  name: "shop",
  uid: shop,
  revision: "1-0",
  number: 1,
  spec: aSpec(),
  ...more,
})

/** What the runtime shows of an instance once it is so; told by its watch. */
async function observed(
  runtime: Runtime,
  isSo: (run: Observed | undefined) => boolean,
  name = "shop",
): Promise<Observed | undefined> {
  const ended = new AbortController()
  try {
    for await (const changed of runtime.watch(ended.signal)) {
      if (changed !== name) continue
      const run = await runtime.get(name)
      if (isSo(run)) return run
    }
  } finally {
    ended.abort()
  }
  throw new Error("the watch ended")
}
const inPhase =
  (phase: Observed["phase"]) =>
  (run: Observed | undefined): boolean =>
    run?.phase === phase

export function runtimeContract(name: string, openBackend: OpenRuntimeBackend): void {
  describe(`the runtime of ${name}`, () => {
    it("gives a started run its place at once, and runs it", async () => {
      await using backend = await openBackend()
      const runtime = await backend.open()
      expect([await runtime.get("shop"), runtime.lives("shop")]).toEqual([undefined, false])
      const started = await runtime.start(workload())
      expect(started).toMatchObject({ uid: shop, number: 1, revision: "1-0", phase: "Pending" })
      expect(started.place).not.toBe("")
      expect(await runtime.get("shop")).toMatchObject({ place: started.place })
      expect(runtime.lives("shop")).toBe(true)
      expect(await observed(runtime, inPhase("Running"))).toMatchObject({ place: started.place })
      expect(backend.processCount(shop)).toBeGreaterThan(0)
    })

    it("starts one run, however often it is told to", async () => {
      await using backend = await openBackend()
      const runtime = await backend.open()
      const [first, second] = await Promise.all([
        runtime.start(workload()),
        runtime.start(workload()),
      ])
      expect(second.place).toBe(first.place)
      await observed(runtime, inPhase("Running"))
      const again = await runtime.start(workload({ number: 2, revision: "2-0" }))
      expect(again).toMatchObject({ place: first.place, number: 1, revision: "1-0" })
    })

    it("replaces a run that has exited, by one with a greater number alone", async () => {
      await using backend = await openBackend()
      const runtime = await backend.open()
      const places = new Set<string>()
      for (const number of [1, 2, 10, 11]) {
        const started = await runtime.start(workload({ number }))
        expect(started).toMatchObject({ number, uid: shop })
        places.add(started.place)
        await observed(runtime, inPhase("Running"))
        await backend.endLoop(shop)
        await observed(runtime, inPhase("Exited"))
        // Whoever was told to start this run before is late: it has been.
        expect(await runtime.start(workload({ number }))).toMatchObject({
          place: started.place,
          phase: "Exited",
        })
      }
      expect(places.size).toBe(4)
    })

    it("shows a run as exited when nothing of it is left", async () => {
      await using backend = await openBackend()
      const runtime = await backend.open()
      const { place } = await runtime.start(workload())
      await observed(runtime, inPhase("Running"))
      await runtime.stop("shop", shop)
      expect(await observed(runtime, inPhase("Exited"))).toMatchObject({
        place,
        exit: { code: expect.any(Number) },
      })
      expect([backend.processCount(shop), runtime.lives("shop")]).toEqual([0, false])
    })

    it("stops a run that is only starting, and takes a second stop for the same", async () => {
      await using backend = await openBackend()
      const runtime = await backend.open()
      await runtime.start(workload())
      await runtime.stop("shop", shop)
      expect(await runtime.get("shop")).toMatchObject({ phase: "Stopping" })
      await runtime.stop("shop", shop)
      await observed(runtime, inPhase("Exited"))
      await runtime.stop("shop", shop)
      expect(await runtime.get("shop")).toMatchObject({ phase: "Exited" })
      expect(backend.processCount(shop)).toBe(0)
    })

    it("stops nothing for another bearer of the name, and for a name that it does not know", async () => {
      await using backend = await openBackend()
      const runtime = await backend.open()
      await runtime.start(workload())
      await observed(runtime, inPhase("Running"))
      await runtime.stop("shop", uid("u-former"))
      await runtime.stop("nobody", shop)
      expect(await runtime.get("shop")).toMatchObject({ phase: "Running" })
    })

    it("finds its runs again after a restart of the control plane", async () => {
      await using backend = await openBackend()
      const before = await backend.open()
      await before.start(workload())
      const known = await observed(before, inPhase("Running"))
      const other = workload({ name: "other", uid: uid("u-other"), number: 3 })
      const { place } = await before.start(other)
      await observed(before, inPhase("Running"), "other")
      await before.stop("other", other.uid)
      await observed(before, inPhase("Exited"), "other")
      const after = await backend.open()
      expect(await after.get("shop")).toEqual(known)
      expect(await after.get("other")).toMatchObject({ place, number: 3, phase: "Exited" })
      expect([after.lives("shop"), after.lives("other")]).toEqual([true, false])
      await after.stop("shop", shop)
      await observed(after, inPhase("Exited"))
    })

    it("starts a name again for another instance, which inherits nothing", async () => {
      await using backend = await openBackend()
      const runtime = await backend.open()
      const former = await runtime.start(workload({ number: 7 }))
      await observed(runtime, inPhase("Running"))
      await runtime.stop("shop", shop)
      await observed(runtime, inPhase("Exited"))
      const heir = workload({ uid: uid("u-heir"), number: 1 })
      const started = await runtime.start(heir)
      expect(started).toMatchObject({ uid: heir.uid, number: 1 })
      expect(started.place).not.toBe(former.place)
      expect(await observed(runtime, inPhase("Running"))).toMatchObject({ uid: heir.uid })
    })

    it("shows a run that cannot be started as exited, with the reason", async () => {
      await using backend = await openBackend()
      const runtime = await backend.open()
      const missing = workload({ spec: aSpec({ project: "missing" }) })
      expect(await runtime.start(missing)).toMatchObject({
        phase: "Exited",
        problem: { reason: "NotFound", message: expect.stringContaining("missing") },
      })
      expect(runtime.lives("shop")).toBe(false)
    })

    it("forgets what is left of an instance, and keeps its work", async () => {
      await using backend = await openBackend()
      const runtime = await backend.open()
      for (const project of ["shop", "precious"]) {
        const of = uid(`u-${project}`)
        const spec = aSpec({ project })
        await runtime.start(workload({ name: project, uid: of, spec }))
        await observed(runtime, inPhase("Running"), project)
        await runtime.stop(project, of)
        await observed(runtime, inPhase("Exited"), project)
        expect(backend.hasTraces(of)).toBe(true)
        const kept = await runtime.clean(project, of)
        expect(kept === undefined).toBe(project === "shop")
        expect([await runtime.get(project), backend.hasTraces(of)]).toEqual([undefined, false])
      }
    })

    it("ends what an interrupted removal left running", async () => {
      await using backend = await openBackend()
      const runtime = await backend.open()
      await runtime.start(workload())
      await observed(runtime, inPhase("Running"))
      await runtime.clean("shop", shop)
      expect([backend.processCount(shop), backend.hasTraces(shop)]).toEqual([0, false])
    })
  })
}
