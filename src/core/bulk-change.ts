import { z } from "zod"
import { announce } from "./announce.ts"
import { asFault, Fault } from "./faults.ts"
import { describeInstance, type Readings, readingsOf } from "./fleet-view.ts"
import { hasLiveRun, type Instance, type Spec } from "./instance.ts"
import type { PhaseReport } from "./phase-report.ts"
import { nameOf } from "./principal.ts"
import { targetFields } from "./selector.ts"
import { writeLatest } from "./spec-change.ts"
import type { ToolContext } from "./tool.ts"
import { counted, countWithin } from "./view.ts"

/**
 * What pause, resume and stop have in common: many targets, each changed on its own, and a row
 * about each.
 */

const shownMax = 200
/** All rows together, whatever their reasons say. */
const bytesMax = 65_536
const atOnceMax = 16

export const expectSchema = z.int().min(0).optional()
export const changeFields = {
  ...targetFields,
  expect: expectSchema.describe("count of the dryRun; required with all"),
  dryRun: z.boolean().default(false),
}
export const changeOutput = {
  count: z.int(),
  changed: z.int(),
  dryRun: z.boolean().optional(),
  instances: z.array(
    z.strictObject({
      name: z.string(),
      changed: z.boolean(),
      phase: z.string(),
      why: z.string(),
      untrusted: z.string().optional(),
    }),
  ),
  next: z.string(),
}
export interface ChangeRow {
  readonly name: string
  readonly changed: boolean
  readonly phase: string
  readonly why: string
  readonly untrusted?: string | undefined
}
export interface ChangeReport {
  readonly count: number
  readonly changed: number
  /** True where nothing was changed, because the call only asked what would be. */
  readonly dryRun?: boolean | undefined
  readonly instances: ChangeRow[]
}

/** Why, in our words, and what others said about it. */
type Reason = Pick<PhaseReport, "why" | "untrusted">
/** What is to happen to one instance: nothing, another spec, or its removal. */
export type ChangeDecision =
  | Reason
  | { readonly spec: Spec }
  | { readonly remove: true; readonly kept: Reason }
export interface BulkChange {
  /** `paused`: what the timeline and a dry run call it. */
  readonly past: string
  /** For the timeline: ` (iteration-end)`. */
  readonly detail?: string
  /**
   * `urgent` needs no count, even for all: whoever must halt the fleet cannot look first, and a
   * pause is undone by its batch. `final` needs one wherever the instances are not named, because
   * nobody may have been asked to confirm it. Otherwise `all` needs one.
   */
  readonly weight?: "urgent" | "final" | undefined
  /** Decided anew for each version of the instance that is seen. */
  decide(instance: Instance, readings: Readings): ChangeDecision
}
interface Outcome {
  readonly row: ChangeRow
  readonly fault?: Fault
}

interface BulkOptions {
  readonly names?: readonly string[] | undefined
  readonly all?: boolean | undefined
  readonly expect?: number | undefined
  readonly dryRun: boolean
}

/**
 * @throws Conflict, with nothing changed, when it is about another number of instances than the
 * caller expects.
 */
export async function changeAll(
  ctx: ToolContext,
  options: BulkOptions,
  change: BulkChange,
): Promise<ChangeReport> {
  const { targets, signal } = ctx
  checkCount(targets.length, options, change)
  const readings = await readingsOf(ctx)
  const outcomes: Outcome[] = []
  // What runs comes first: it spends money, and changes things, while the others are dealt with.
  const ordered = targets.toSorted((a, b) => Number(hasLiveRun(b)) - Number(hasLiveRun(a)))
  while (outcomes.length < targets.length) {
    if (signal.aborted)
      throw new Fault(
        "Unavailable",
        `The call was cancelled after ${outcomes.length} of ${counted(targets.length, "instance")}.`,
        "Call it again to do the rest.",
      )
    const some = ordered.slice(outcomes.length, outcomes.length + atOnceMax)
    outcomes.push(
      ...(await Promise.all(
        some.map((target) => changeOne(ctx, target, readings, options.dryRun, change)),
      )),
    )
    ctx.progress(outcomes.length, `${outcomes.length} of ${counted(targets.length, "instance")}`)
  }
  const failure = outcomes.find(({ fault }) => fault)?.fault
  // A failure in between is a row of the answer; where nothing succeeded it is the answer.
  if (failure && outcomes.every(({ fault }) => fault)) throw failure
  return {
    count: outcomes.length,
    changed: outcomes.filter(({ row }) => row.changed).length,
    dryRun: options.dryRun || undefined,
    instances: shownRows(outcomes.map(({ row }) => row)),
  }
}

/** As many as an answer may hold. */
export function shownRows(rows: readonly ChangeRow[]): ChangeRow[] {
  const first = rows.slice(0, shownMax)
  return first.slice(0, countWithin(first, bytesMax))
}

function checkCount(
  count: number,
  { names, all, expect, dryRun }: BulkOptions,
  { weight }: BulkChange,
): void {
  if (dryRun) return
  const isAsked = weight === "final" ? names === undefined : weight !== "urgent" && all === true
  if (isAsked && expect === undefined)
    throw new Fault(
      "Invalid",
      `This means ${counted(count, "instance")} now, so it needs expect: not every client can ask a person to confirm it.`,
      "Call it with dryRun: true, then again with the count from its answer as expect.",
    )
  if (expect !== undefined && expect !== count)
    throw new Fault(
      "Conflict",
      `${counted(count, "instance matches", "instances match")} now, not ${expect}; nothing was changed.`,
      `Look at them with dryRun: true; if you mean all of them, call it with expect: ${count}.`,
    )
}

async function changeOne(
  ctx: ToolContext,
  target: Instance,
  readings: Readings,
  dryRun: boolean,
  change: BulkChange,
): Promise<Outcome> {
  const { store } = ctx
  const { name } = target
  const rowOf = (now: Instance, changed: boolean, reason?: Reason): Outcome => {
    const report = describeInstance(now, readings)
    const { why, untrusted } = reason ?? report
    return { row: { name, changed, phase: report.phase, why, untrusted } }
  }
  const wouldBe = `Would be ${change.past}.`
  try {
    return await writeLatest(ctx, target, async (instance) => {
      const decision = change.decide(instance, readings)
      if ("why" in decision) return rowOf(instance, false, decision)
      if ("spec" in decision) {
        const { spec } = decision
        if (dryRun) return rowOf({ ...instance, spec }, true, { why: wouldBe })
        const after = await store.updateSpec(instance, spec)
        await tell(ctx, instance, "Changed", change)
        return rowOf(after, true)
      }
      const removed: Instance = { ...instance, deletedAtMs: readings.nowMs }
      const { why, untrusted } = decision.kept
      const withKept = (text: string): Reason => ({
        why: text + why,
        ...(untrusted !== undefined && { untrusted }),
      })
      if (dryRun) return rowOf(removed, true, withKept(wouldBe))
      await store.delete(instance)
      await tell(ctx, instance, "Removed", change)
      return rowOf(removed, true, withKept(describeInstance(removed, readings).why))
    })
  } catch (error) {
    const fault = asFault(error)
    if (fault.code === "NotFound")
      return { row: { name, changed: false, phase: "Stopped", why: "It was removed meanwhile." } }
    const why = `Not changed: ${fault.message} ${fault.next}`
    const { untrusted } = fault
    return {
      ...rowOf(target, false, { why, ...(untrusted !== undefined && { untrusted }) }),
      fault,
    }
  }
}

function tell(
  ctx: ToolContext,
  { uid }: Instance,
  kind: "Changed" | "Removed",
  { past, detail = "" }: BulkChange,
): Promise<void> {
  const message = `${past.charAt(0).toUpperCase()}${past.slice(1)}${detail} by ${nameOf(ctx.who)}.`
  return announce(ctx, { uid, kind, message, atMs: ctx.clock.nowMs() })
}
