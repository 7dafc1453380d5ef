import { z } from "zod"
import { dollarsOf } from "../../src/core/budget.ts"
import type { Event } from "../../src/core/event.ts"
import {
  activityOf,
  beatOf,
  describeInstance,
  phaseAndWhy,
  readingsOf,
  usageOf,
} from "../../src/core/fleet-view.ts"
import { type Exit, type Instance, nameSchema, type Run } from "../../src/core/instance.ts"
import { type InstanceLimits, instanceLimits } from "../../src/core/limits.ts"
import { readExcerpt } from "../../src/core/log-excerpt.ts"
import { isoOf } from "../../src/core/moment.ts"
import { defineTool, type ToolContext } from "../../src/core/tool.ts"
import { bounded, counted, oneLine, spanOf, withSaid } from "../../src/core/view.ts"

const recentMax = 20
const mailsMax = 10
const waitingMax = 1000

/**
 * What people want of it; what they or its parent wrote in words of their own stands under
 * `untrusted`.
 */
const describeSpec = ({ spec, createdAtMs }: Instance, { budget, model }: InstanceLimits) => ({
  state: spec.state,
  mode: spec.mode,
  loop: spec.loop,
  workspace: spec.workspace,
  ...(spec.repository !== undefined && { repository: spec.repository }),
  ...(spec.codeRoot !== undefined && { codeRoot: spec.codeRoot }),
  priority: spec.priority,
  attempt: spec.attempt,
  budget,
  createdAt: isoOf(createdAtMs),
  untrusted: {
    ...(spec.ref !== undefined && { ref: spec.ref }),
    ...(model !== undefined && { model: oneLine(model, 200) }),
    labels: oneLine(labelsIn(spec), 4000),
    ...(spec.goal !== undefined && { goal: spec.goal }),
  },
})
const labelsIn = ({ labels }: Instance["spec"]): string =>
  Object.entries(labels)
    .map((pair) => pair.join("="))
    .join(", ")

async function mailSection({ mailboxes }: ToolContext, { uid }: Instance, isWithMessages: boolean) {
  const waiting = (await mailboxes.posted({ to: uid, waiting: true, limit: waitingMax })).length
  if (!isWithMessages) return { waiting }
  const posted = await mailboxes.posted({ to: uid, limit: mailsMax })
  return {
    waiting,
    messages: posted.map(({ mail, receipt }) => ({
      mail: mail.id,
      from: mail.from,
      state: receipt.state.toLowerCase(),
      at: isoOf(mail.atMs),
      untrusted: bounded(mail.text, 1000),
    })),
  }
}

/** Without git nobody knows what was done, which is not the same as nothing. */
function progressOf({ commits }: { readonly [key: string]: unknown }): string {
  if (typeof commits !== "number") return "progress unknown (not a git repository)"
  return counted(commits, "commit")
}

const describeRun = ({ restarts, startedAtMs, loop, lastExit }: Run, nowMs: number) => ({
  restarts,
  startedAt: isoOf(startedAtMs),
  loop: loop === undefined ? undefined : oneLine(loop, 1000),
  lastExit: lastExit && describeExit(lastExit, nowMs),
})
const describeExit = ({ code, outcome, atMs }: Exit, nowMs: number): string =>
  `code ${code}${outcome ? ` (${outcome})` : ""} ${spanOf(nowMs - atMs)} ago`

/** The oldest first. */
const eventLines = (events: readonly Event[]): string =>
  events
    .toReversed()
    .map(({ atMs, kind, message }) => `${isoOf(atMs)} ${kind} ${oneLine(message, 300)}`)
    .join("\n")

export default defineTool({
  name: "inspect_instance",
  title: "Inspect an instance",
  description:
    "Says of one instance why it is or is not running, what it is doing, how its last iteration ended, what it used, and in fix what to do. Ask for more sections only when needed.",
  toolset: "fleet",
  route: "GET /v1/instances/{name}",
  verb: "see",
  input: z.strictObject({
    name: nameSchema,
    sections: z.array(z.enum(["spec", "activity", "mail", "events", "log"])).default(["activity"]),
  }),
  output: z.strictObject({
    name: z.string(),
    project: z.string(),
    phase: z.string(),
    why: z.string(),
    fix: z.string(),
    untrusted: z.string().optional(),
    activity: z.strictObject({ seconds: z.int(), untrusted: z.string() }).optional(),
    last: z
      .strictObject({ iteration: z.int(), outcome: z.string(), untrusted: z.string() })
      .optional(),
    // Loose, because each listed field costs every caller's context.
    run: z.looseObject({ restarts: z.int() }).optional(),
    work: z.looseObject({ untrusted: z.looseObject({ path: z.string() }) }).optional(),
    usage: z.looseObject({
      usd: z.number(),
      of: z.number().optional(),
      iterations: z.int(),
      billing: z.string(),
    }),
    mail: z.looseObject({ waiting: z.int() }),
    spec: z.looseObject({}).optional(),
    events: z.strictObject({ untrusted: z.string() }).optional(),
    log: z.strictObject({ untrusted: z.string() }).optional(),
  }),
  hints: { readOnlyHint: true, destructiveHint: false, idempotentHint: true, openWorldHint: false },
  targets: ({ name }) => ({ names: [name] }),
  async handler(ctx, { name, sections }) {
    const [instance] = ctx.targets
    if (!instance) throw new Error(`invoke gave no target for ${name}`)
    const wanted = new Set(sections)
    const readings = await readingsOf(ctx)
    const limits = instanceLimits(instance, readings.spent)
    const { phase, why, fix, untrusted } = describeInstance(instance, readings)
    const { spec, status } = instance
    const activity = wanted.has("activity") ? activityOf(instance, readings) : undefined
    const { path, branch, ...work } = beatOf(instance, readings)?.work ?? {}
    const last = wanted.has("activity") ? beatOf(instance, readings)?.last : undefined
    const [mail, events, log] = await Promise.all([
      mailSection(ctx, instance, wanted.has("mail")),
      wanted.has("events")
        ? ctx.timeline.lastEvents({ uids: [instance.uid], limit: recentMax })
        : undefined,
      wanted.has("log")
        ? readExcerpt(ctx, instance, { source: "loop", count: recentMax, bytesMax: 8192 })
        : undefined,
    ])
    return {
      name,
      project: spec.project,
      phase,
      why,
      fix,
      untrusted,
      activity,
      last: last && {
        iteration: last.iteration,
        outcome: last.outcome,
        untrusted: bounded(last.text, 2000),
      },
      run: status.run && describeRun(status.run, readings.nowMs),
      work: path === undefined ? undefined : { ...work, untrusted: { path, branch } },
      usage: {
        ...usageOf(instance, readings),
        of: limits.budget.usd,
        billing: ctx.limits().billing,
      },
      mail,
      spec: wanted.has("spec") ? describeSpec(instance, limits) : undefined,
      events: events && { untrusted: eventLines(events.events) },
      log: log && { untrusted: log.text },
    }
  },
  show: ({
    name,
    phase,
    why,
    fix,
    untrusted,
    activity,
    last,
    run,
    work,
    usage,
    mail,
    spec,
    events,
    log,
  }) => ({
    text: [
      `${name}: ${withSaid(phaseAndWhy(phase, why), untrusted)}`,
      `Next: ${fix}`,
      ...(activity ? [`Now, for ${activity.seconds} s: ${activity.untrusted}`] : []),
      ...(last
        ? [
            `Iteration ${last.iteration} ended as ${last.outcome}.`,
            ...(last.untrusted === "" ? [] : [last.untrusted]),
          ]
        : []),
      ...(typeof run?.loop === "string" ? [`Loop: ${run.loop}.`] : []),
      ...(work
        ? [
            `Works in ${work.untrusted.path}${typeof work.untrusted.branch === "string" ? `, branch ${work.untrusted.branch}` : ""}, ${progressOf(work)}.`,
          ]
        : []),
      `Used: ${dollarsOf(usage.usd, usage.of)}, ${counted(usage.iterations, "iteration")} (${usage.billing}).`,
      `Messages waiting: ${mail.waiting}.`,
      ...messageLines(mail.messages),
      ...(spec ? ["", "Declared", ...declaredLines(spec)] : []),
      ...(events ? ["", "Events", events.untrusted] : []),
      ...(log ? ["", "Log", log.untrusted] : []),
    ].join("\n"),
  }),
})

const renderValue = (value: unknown): string =>
  typeof value === "string" ? value : JSON.stringify(value)
/** The lines of what is declared; others' words last, each fenced by itself. */
const declaredLines = ({ untrusted, ...ours }: Record<string, unknown>): readonly string[] => [
  ...Object.entries(ours).map(([key, value]) => `${key}: ${renderValue(value)}`),
  ...Object.entries(z.record(z.string(), z.string()).safeParse(untrusted).data ?? {}).map(
    ([key, text]) => `${key}: ${text}`,
  ),
]

const shownMessages = z.array(
  z.object({
    mail: z.string(),
    from: z.string(),
    state: z.string(),
    at: z.string(),
    untrusted: z.string(),
  }),
)
function messageLines(messages: unknown): readonly string[] {
  const { data } = shownMessages.safeParse(messages)
  if (!data) return []
  const lines = data.map(
    ({ mail, from, state, at, untrusted }) =>
      `${mail} from ${from}, ${at}, ${state}:\n${untrusted}`,
  )
  return ["", "Messages", ...(lines.length > 0 ? lines : ["none"])]
}
