import { z } from "zod"
import { Fault } from "../../src/core/faults.ts"
import { watchChanges } from "../../src/core/fleet-changes.ts"
import { describeInstance, ownUsage, readingsOf } from "../../src/core/fleet-view.ts"
import { type Instance, nameSchema } from "../../src/core/instance.ts"
import type { Phase, PhaseReport } from "../../src/core/phase-report.ts"
import { nameOf } from "../../src/core/principal.ts"
import { defineTool, type ToolContext } from "../../src/core/tool.ts"
import { cut, withSaid } from "../../src/core/view.ts"
import { continuation, iterationsOf } from "../../src/core/wait-cursor.ts"
import {
  conditionHolds,
  modeOfWaitSchema,
  parkedMs,
  targetReached,
  type Until,
  untilSchema,
  waitTargetsMax,
} from "../../src/core/waits.ts"

const defaultSeconds = 45
/** Of an instance that waits in the middle of its iteration, and so keeps a turn from others. */
const iterationSecondsMax = 45
/**
 * Phases that may last as long as the caller keeps its turn or place: it is to end its iteration.
 */
const heldBackPhases: ReadonlySet<Phase> = new Set<Phase>([
  "Queued",
  "Waiting",
  "RateLimited",
  "BudgetReached",
  "Held",
])

interface Wanted {
  readonly targets: readonly {
    readonly uid: Instance["uid"]
    readonly name: string
    readonly iteration?: number
  }[]
  readonly until: Until
  readonly mode: z.output<typeof modeOfWaitSchema>
  readonly mail: string | undefined
}
interface Look {
  readonly met: boolean
  readonly instances: {
    name: string
    phase: string
    why: string
    untrusted?: string | undefined
  }[]
  readonly heldBack: boolean
}

const shownOf = (
  name: string,
  { phase, why, untrusted }: PhaseReport,
): Look["instances"][number] => ({
  name,
  phase,
  why,
  untrusted,
})

async function lookAt(ctx: ToolContext, { targets, until, mode, mail }: Wanted): Promise<Look> {
  const { who } = ctx
  const [readings, all, posted] = await Promise.all([
    readingsOf(ctx),
    targets.map(({ name }) => ctx.store.replica.get(name)),
    // Of an instance only what it wrote itself: whether others have an answer is not its to know.
    mail === undefined
      ? []
      : ctx.mailboxes.posted({
          mails: [mail],
          limit: 1,
          ...(who.kind === "instance" && { from: nameOf(who) }),
        }),
  ])
  const state = posted[0]?.receipt.state
  const answered = state === "Answered" || state === "Returned"
  const looked = targets.map(({ uid, name, iteration }, index) => {
    const found = all[index]
    // A name used again is another instance: the one that was meant is gone.
    const instance = found?.uid === uid ? found : undefined
    const report = instance && describeInstance(instance, readings)
    const now = instance &&
      report && {
        instance,
        needsPerson: report.needsPerson,
        iterations: ownUsage(uid, readings).iterations,
      }
    return {
      row: report ? shownOf(name, report) : { name, phase: "Removed", why: "It was removed." },
      reached:
        (until === "answer" && answered) || targetReached(until, now, iteration, readings.nowMs),
      heldBack: report !== undefined && heldBackPhases.has(report.phase),
    }
  })
  return {
    met: conditionHolds(
      mode,
      looked.map(({ reached }) => reached),
    ),
    instances: looked.map(({ row }) => row),
    heldBack: looked.some(({ reached, heldBack: held }) => held && !reached),
  }
}

export default defineTool({
  name: "wait_for_instances",
  title: "Wait for instances",
  description:
    "Waits until instances need attention (ended, or need a person), finished, ended an iteration, or answered a mail. It returns when the time is over: call it again. An agent that gets parked: true ends its iteration; the next begins when the condition is met.",
  toolset: "fleet",
  route: "POST /v1/instances:wait",
  verb: "see",
  input: z.strictObject({
    names: z.array(nameSchema).min(1).max(waitTargetsMax),
    until: untilSchema.default("attention"),
    mode: modeOfWaitSchema.default("all"),
    iteration: z.int().min(1).optional(),
    mail: z.string().min(1).max(64).optional().describe("for answer"),
    timeoutSeconds: z.int().min(0).max(600).default(defaultSeconds),
    cursor: z.string().max(1000).optional(),
  }),
  output: z.strictObject({
    met: z.boolean(),
    parked: z.boolean().optional(),
    instances: z.array(
      z.strictObject({
        name: z.string(),
        phase: z.string(),
        why: z.string(),
        untrusted: z.string().optional(),
      }),
    ),
    cursor: z.string().optional(),
    next: z.string(),
  }),
  hints: { readOnlyHint: true, destructiveHint: false, idempotentHint: true, openWorldHint: false },
  targets: ({ names }) => ({ names }),
  async handler(ctx, { until, mode, iteration, mail, timeoutSeconds, cursor }) {
    const { who, reports, turns, clock, targets, signal } = ctx
    if ((until === "answer") !== (mail !== undefined))
      throw new Fault(
        "Invalid",
        "until answer and mail belong together.",
        'Give both, as in "until":"answer","mail":"m-…".',
      )
    if (who.kind === "instance" && targets.some(({ uid }) => uid === who.uid))
      throw new Fault("Invalid", "An agent cannot wait for itself.", "Leave your own name out.")
    const numbers =
      until === "iteration" ? iterationsOf(targets, await readingsOf(ctx), iteration, cursor) : []
    const wanted: Wanted = {
      targets: targets.map(({ uid, name }, index) => {
        const number = numbers[index]
        return { uid, name, ...(number !== undefined && { iteration: number }) }
      }),
      until,
      mode,
      mail,
    }
    const seconds =
      who.kind === "instance" ? Math.min(timeoutSeconds, iterationSecondsMax) : timeoutSeconds
    const uids = new Set(targets.map(({ uid }) => uid))
    const names = new Set(targets.map(({ name }) => name))
    const changes = watchChanges(ctx, names, uids, seconds * 1000)
    let look = await lookAt(ctx, wanted)
    try {
      for (
        let round = 1;
        !look.met && !(who.kind === "instance" && look.heldBack) && (await changes.next());
        round++
      ) {
        look = await lookAt(ctx, wanted)
        ctx.progress(
          round,
          cut(look.instances.map(({ name, phase }) => `${name}: ${phase}`).join(", "), 500),
        )
      }
    } finally {
      changes.end()
    }
    if (signal.aborted)
      throw new Fault(
        "Unavailable",
        "The call was cancelled.",
        "Call it again: waiting changes nothing.",
      )
    if (look.met) return { met: true, instances: look.instances, next: nextStep(until, targets) }
    const turn = who.kind === "instance" ? turns.replica.get(who.uid) : undefined
    if (who.kind !== "instance" || !turn)
      return { met: false, instances: look.instances, ...continuation(numbers) }
    const nowMs = clock.nowMs()
    await reports.wait(who.uid, {
      kind: "instances",
      targets: [...wanted.targets],
      until,
      mode,
      turn: turn.id,
      sinceMs: nowMs,
      untilMs: nowMs + parkedMs,
    })
    return {
      met: false,
      parked: true,
      instances: look.instances,
      next: "End your iteration now, without a completion marker: your next one begins when the condition is met or somebody sends you a message.",
    }
  },
  show: ({ met: reached, parked, instances, next }) => ({
    text: `${outcomeOf(reached, parked ?? false)} ${next}`,
    rows: instances.map(({ untrusted, why, ...row }) => ({
      ...row,
      why: withSaid(why, untrusted),
    })),
  }),
})

function outcomeOf(isMet: boolean, isParked: boolean): string {
  if (isMet) return "Condition met."
  return isParked ? "Parked." : "Not yet."
}

const nextStep = (until: Until, targets: readonly Instance[]): string =>
  until === "answer"
    ? "read_messages {} shows the answer."
    : `inspect_instance {"name":"${targets[0]?.name ?? ""}"} shows how ${targets.length > 1 ? "each" : "it"} ended.`
