import { z } from "zod"
import { asFault, Fault, faultText } from "./faults.ts"
import { describeInstance, type Readings, readingsOf } from "./fleet-view.ts"
import { hasLiveRun, type Instance, type Spec } from "./instance.ts"
import type { PhaseReport } from "./phase-report.ts"
import { nameOf } from "./principal.ts"
import { targetFields } from "./selector.ts"
import type { TextRow, ToolContext } from "./tool.ts"
import { counted, countWithin, withSaid } from "./view.ts"

/**
 * What pause, resume and stop have in common: many targets, each changed on its own, and a row
 * about each.
 */

const repeatsMax = 5
const shownMax = 200
/** All rows together, whatever their reasons say. */
const bytesMax = 65_536
const atOnceMax = 16

export const expectSchema = z.int().min(0).optional()
export const changeFields = {
  ...targetFields,
  expect: expectSchema.describe("how many a dryRun counted; required with all"),
  dryRun: z.boolean().default(false),
}
export const changeOutput = {
  count: z.int(),
  changed: z.int(),
  instances: z.array(
    z.strictObject({
      ...{ name: z.string(), changed: z.boolean(), phase: z.string(), why: z.string() },
      untrusted: z.string().optional(),
    }),
  ),
  next: z.string(),
}
export interface ChangeReport {
  readonly count: number
  readonly changed: number
  readonly instances: {
    name: string
    changed: boolean
    phase: string
    why: string
    untrusted?: string | undefined
  }[]
}

/** Why, in our words, and what others said about it. */
type Reason = Pick<PhaseReport, "why" | "untrusted">
/** What is to happen to one instance: nothing, another spec, or its removal. */
export type ChangeStep =
  | Reason
  | { readonly spec: Spec }
  | { readonly remove: true; readonly kept: Reason }
export interface SpecChange {
  /** For the timeline: `Paused`. */
  readonly past: string
  /**
   * `urgent` needs no count, even for all: whoever must halt the fleet cannot look first, and a
   * pause is undone by its batch. `final` needs one wherever the instances are not named, because
   * nobody may have been asked to confirm it. Otherwise `all` needs one.
   */
  readonly weight?: "urgent" | "final"
  /** Decided anew for each version of the instance that is seen. */
  step(instance: Instance, readings: Readings): ChangeStep
}
type Outcome = ChangeReport["instances"][number] & { readonly fault?: Fault }

interface Options {
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
  { names, all, expect, dryRun }: Options,
  change: SpecChange,
): Promise<ChangeReport> {
  const { targets, signal } = ctx
  const isCounted =
    change.weight === "final" ? names === undefined : change.weight !== "urgent" && all === true
  if (!dryRun && isCounted && expect === undefined)
    throw new Fault(
      "Invalid",
      `This means ${counted(targets.length, "instance")} now, and needs expect: not every client can ask a person to confirm it.`,
      "Call it with dryRun: true, then again with the count it gives as expect.",
    )
  if (!dryRun && expect !== undefined && expect !== targets.length)
    throw new Fault(
      "Conflict",
      `${counted(targets.length, "instance matches", "instances match")} now, not ${expect}; nothing was changed.`,
      `Look at them with dryRun: true; if all are meant, call it with expect: ${targets.length}.`,
    )
  const readings = await readingsOf(ctx)
  const outcomes: Outcome[] = []
  // What runs comes first: it spends money, and changes things, while the others are dealt with.
  const ordered = targets.toSorted((a, b) => Number(hasLiveRun(b)) - Number(hasLiveRun(a)))
  while (outcomes.length < targets.length) {
    if (signal.aborted)
      throw new Fault(
        "Unavailable",
        `The call was cancelled after ${outcomes.length} of ${counted(targets.length, "instance")}.`,
        "Call it again: those that are done stay as they are.",
      )
    const some = ordered.slice(outcomes.length, outcomes.length + atOnceMax)
    outcomes.push(
      ...(await Promise.all(
        some.map((target) => changeOne(ctx, target, readings, dryRun, change)),
      )),
    )
    ctx.progress(outcomes.length, `${outcomes.length} of ${counted(targets.length, "instance")}`)
  }
  const failed = outcomes.find(({ fault }) => fault)?.fault
  // A failure in between is a row of the answer; where nothing succeeded it is the answer.
  if (failed && outcomes.every(({ fault }) => fault)) throw failed
  const rows = outcomes.slice(0, shownMax).map(({ fault: _, ...row }) => row)
  return {
    count: outcomes.length,
    changed: outcomes.filter(({ changed }) => changed).length,
    instances: shownRows(rows),
  }
}

/** As many as an answer may hold. */
export const shownRows = (rows: ChangeReport["instances"]): ChangeReport["instances"] =>
  rows.slice(0, countWithin(rows, bytesMax))

async function changeOne(
  ctx: ToolContext,
  target: Instance,
  readings: Readings,
  dryRun: boolean,
  change: SpecChange,
): Promise<Outcome> {
  const { store, timeline, clock, who, newId } = ctx
  const { name, uid } = target
  const row = (now: Instance, changed: boolean, reason?: Reason): Outcome => {
    const seen = describeInstance(now, readings)
    const { why, untrusted } = reason ?? seen
    return { name, changed, phase: seen.phase, why, ...(untrusted !== undefined && { untrusted }) }
  }
  const tell = (kind: "Changed" | "Removed"): Promise<void> =>
    timeline
      .append({
        id: newId("e"),
        uid,
        kind,
        message: `${change.past} by ${nameOf(who)}.`,
        atMs: clock.nowMs(),
      })
      // The change stands, and the audit names it, also when the timeline cannot be told.
      .catch(() => undefined)
  const gone: Outcome = { name, changed: false, phase: "Stopped", why: "It was removed meanwhile." }
  for (let repeat = 0; ; repeat++) {
    try {
      const instance = repeat === 0 ? target : await store.get(name)
      if (instance?.uid !== uid) return gone
      const step = change.step(instance, readings)
      if ("why" in step) return row(instance, false, step)
      const removed: Instance = { ...instance, deletedAtMs: readings.nowMs }
      const kept =
        "remove" in step
          ? { ...step.kept, why: `${describeInstance(removed, readings).why}${step.kept.why}` }
          : undefined
      if (dryRun)
        return row("remove" in step ? removed : { ...instance, spec: step.spec }, true, kept)
      if ("spec" in step) {
        const after = await store.updateSpec(instance, step.spec)
        await tell("Changed")
        return row(after, true)
      }
      await store.delete(instance)
      await tell("Removed")
      return row(removed, true, kept)
    } catch (error) {
      const fault = asFault(error)
      if (fault.code === "NotFound") return gone
      if (fault.code !== "Conflict" || repeat >= repeatsMax)
        return {
          ...row(target, false, {
            why: `Not changed: ${fault.message} ${fault.next}`,
            ...faultText(fault),
          }),
          fault,
        }
    }
  }
}

/** What to say when the call was a dry run, or met nobody. */
export const nextOf = (
  changes: ChangeReport,
  options: Options,
  otherwise: string,
  { limits }: Pick<ToolContext, "limits">,
): string => {
  const { disk } = limits()
  const next = nextStep(changes, options, otherwise)
  return disk && disk.held > 0 && changes.changed > 0 && !options.dryRun
    ? `The disk is full, so this holds in memory, until \`blackbox5 serve\` restarts: make room on it. ${next}`
    : next
}
const nextStep = (
  { count, changed, instances }: ChangeReport,
  { dryRun }: Options,
  otherwise: string,
): string => {
  if (count === 0) return "No instance matches: list_instances {} shows those that exist."
  if (dryRun)
    return `Nothing was changed. Call it without dryRun and with "expect":${count} to do it.`
  if (changed === 0) return "Nothing had to be changed: why says how each instance is."
  return count > instances.length
    ? `${otherwise} The first ${instances.length} of ${count} are listed.`
    : otherwise
}

export const showChanges =
  (verb: string) =>
  ({
    count,
    changed,
    instances,
    next,
  }: ChangeReport & { next: string }): { text: string; rows: readonly TextRow[] } => ({
    text: `${changed} of ${counted(count, "instance")} ${verb}. ${next}`,
    rows: instances.map(({ name, phase, changed: yes, why, untrusted }) => ({
      ...{ name, phase, changed: yes ? "yes" : "no" },
      why: withSaid(why, untrusted),
    })),
  })
