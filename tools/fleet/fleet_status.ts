import { z } from "zod"
import { type EndedSince, endedSince, endedSinceSchema } from "../../src/core/ended-since.ts"
import { byRank, dollars, type Ranked, rankedOf, readingsOf } from "../../src/core/fleet-view.ts"
import { hasLiveRun, projectSchema } from "../../src/core/instance.ts"
import { momentTextSchema, sinceOf } from "../../src/core/moment.ts"
import { type Phase, phases } from "../../src/core/phase-report.ts"
import { operators } from "../../src/core/ports.ts"
import { may } from "../../src/core/principal.ts"
import { sharedProjects } from "../../src/core/selector.ts"
import { defineTool, type ToolContext } from "../../src/core/tool.ts"
import { counted, withSaid } from "../../src/core/view.ts"

const needsYouMax = 20
const projectsMax = 50
/** More than an inbox holds. */
const unreadMax = 1000
const dayMs = 86_400_000

export default defineTool({
  name: "fleet_status",
  title: "Fleet status",
  description:
    "The whole fleet at a glance: who needs you and what to do, phases, turns in use, today's spend (UTC), projects to spawn on; with since what ended meanwhile. Start here.",
  toolset: "fleet",
  route: "GET /v1/fleet",
  verb: "outline",
  input: z.strictObject({
    project: projectSchema.optional(),
    since: momentTextSchema.optional().describe("12h, or an ISO time"),
  }),
  output: z.strictObject({
    headline: z.string(),
    needsYou: z.array(
      z.strictObject({
        name: z.string(),
        why: z.string(),
        do: z.string(),
        untrusted: z.string().optional(),
      }),
    ),
    phases: z.record(z.string(), z.int()),
    turns: z.strictObject({ used: z.int(), max: z.int() }),
    instances: z.strictObject({ running: z.int(), max: z.int() }),
    spend: z.strictObject({ todayUsd: z.number(), billing: z.string() }).optional(),
    projects: z.array(
      z.strictObject({ name: z.string(), codeRoot: z.string().optional(), instances: z.int() }),
    ),
    isolation: z.string(),
    since: endedSinceSchema.optional(),
    warnings: z.array(z.string()),
    // What is wrong in a file that people wrote, with words of that file.
    untrusted: z.string().optional(),
    next: z.string(),
  }),
  hints: { readOnlyHint: true, destructiveHint: false, idempotentHint: true, openWorldHint: false },
  targets: ({ project }) => (project === undefined ? {} : { project }),
  async handler(ctx, { project, since }) {
    const { targets, who, ledger, clock } = ctx
    const { instancesMax, billing, refused, isolation, disk } = ctx.limits()
    // What people wrote may name other projects.
    const problem = who.kind === "human" ? refused : undefined
    const nowMs = clock.nowMs()
    const [readings, today, projects, unread] = await Promise.all([
      readingsOf(ctx),
      // What the whole fleet spends is for people: an instance sees its own tree.
      who.kind === "human" ? ledger.spentSince(nowMs - (nowMs % dayMs)) : undefined,
      projectsOf(ctx, project),
      who.kind === "human"
        ? ctx.mailboxes.posted({ to: operators, waiting: true, limit: unreadMax })
        : [],
    ])
    const inFull = targets.filter((one) => may(who, "see", one) === true)
    const only = project === undefined ? undefined : inFull.map(({ uid }) => uid)
    const happened =
      since === undefined ? undefined : await endedSince(ctx, sinceOf(since, nowMs), only)
    const all = targets.map((instance) => rankedOf(instance, readings))
    const needing = all
      .filter(({ instance, report }) => report.needsPerson && may(who, "see", instance) === true)
      .sort(byRank)
    const counts = new Map<Phase, number>()
    for (const { report } of all) counts.set(report.phase, (counts.get(report.phase) ?? 0) + 1)
    const usd = dollars(today?.usd ?? 0)
    return {
      headline: headlineOf(all, counts, needing.length, today && { usd, billing }),
      needsYou: needing
        .slice(0, needsYouMax)
        .map(({ instance, report: { why, fix, untrusted } }) => ({
          name: instance.name,
          why,
          do: fix,
          untrusted,
        })),
      phases: Object.fromEntries(
        phases.flatMap((phase) => (counts.has(phase) ? [[phase, counts.get(phase) ?? 0]] : [])),
      ),
      turns: readings.turns,
      instances: { running: targets.filter(hasLiveRun).length, max: instancesMax },
      spend: today && { todayUsd: usd, billing },
      projects: projects.slice(0, projectsMax),
      isolation: isolation.kind,
      since: happened,
      warnings: [
        disk?.warning,
        isolation.warning,
        unread.length > 0
          ? `${counted(unread.length, "unread message")} from agents: read_messages {}.`
          : undefined,
        problem === undefined
          ? undefined
          : "A configuration file is invalid; its previous version is still in force.",
        projects.length > projectsMax
          ? `${counted(projects.length - projectsMax, "more project is", "more projects are")} not listed.`
          : undefined,
        needing.length > needsYouMax
          ? `${counted(needing.length - needsYouMax, "more needs", "more need")} you: list_instances {}.`
          : undefined,
      ].filter((warning) => warning !== undefined),
      untrusted: problem,
      next: nextStep(needing.length, targets.length, projects[0]?.name ?? "…"),
    }
  },
  show: ({ headline, needsYou, turns, since, warnings, untrusted, projects, next }) => ({
    text: [
      headline,
      ...needsYou.map(
        ({ name, why, do: act, untrusted: words }) => `${name}: ${withSaid(why, words)} ${act}`,
      ),
      `${turns.used} of ${counted(turns.max, "turn is", "turns are")} in use.`,
      ...(since ? sinceLines(since) : []),
      ...warnings,
      ...(untrusted === undefined ? [] : [untrusted]),
      next,
    ].join("\n"),
    rows: projects.map(({ name, codeRoot, instances }) => ({
      project: name,
      ...(codeRoot !== undefined && { checkout: codeRoot }),
      instances,
    })),
  }),
})

interface ProjectRow {
  readonly name: string
  /** Where several checkouts have a project of that name. */
  readonly codeRoot?: string
  readonly instances: number
}
/** An instance knows its own project alone. */
async function projectsKnownTo({
  who,
  projects,
  visible,
}: ToolContext): Promise<
  [readonly string[], Awaited<ReturnType<ToolContext["projects"]["shared"]>>]
> {
  if (who.kind === "human") return Promise.all([projects.list(), projects.shared()])
  const own = (await visible()).find(({ uid }) => uid === who.uid)
  return [own ? [own.spec.project] : [], new Map()]
}
/** The projects, those with the most instances first: all, or that of the call. */
async function projectsOf(ctx: ToolContext, only: string | undefined): Promise<ProjectRow[]> {
  const [known, roots] = await projectsKnownTo(ctx)
  const inSeveral = new Set([...roots.keys(), ...sharedProjects(ctx.targets)])
  const rows = new Map<string, ProjectRow>()
  const count = (name: string, codeRoot: string | undefined, more: number): void => {
    const key = JSON.stringify([name, codeRoot])
    const instances = (rows.get(key)?.instances ?? 0) + more
    rows.set(key, { name, ...(codeRoot !== undefined && { codeRoot }), instances })
  }
  // A caller means its own checkout's.
  const mine = (all: readonly string[]): readonly string[] =>
    only !== undefined && ctx.codeRoot !== undefined && all.includes(ctx.codeRoot)
      ? [ctx.codeRoot]
      : all
  for (const name of known) {
    if (only !== undefined && name !== only) continue
    for (const root of mine(roots.get(name) ?? [])) count(name, root, 0)
    if (!inSeveral.has(name)) count(name, undefined, 0)
  }
  for (const { spec } of ctx.targets)
    count(
      spec.project,
      inSeveral.has(spec.project) && spec.repository === undefined ? spec.codeRoot : undefined,
      1,
    )
  const wordsOf = ({ name, codeRoot = "" }: ProjectRow): string => `${name} ${codeRoot}`
  return [...rows.values()].sort(
    (a, b) => b.instances - a.instances || (wordsOf(a) < wordsOf(b) ? -1 : 1),
  )
}

function nextStep(needing: number, count: number, project: string): string {
  if (needing > 0) return "Do what needsYou says, one by one."
  return count > 0
    ? "list_instances {} shows them one by one."
    : `spawn_instance {"project":"${project}","goal":"…"} starts one.`
}

/**
 * `5 agents: 1 working, 1 between iterations, 1 needs you; $14.20 today (subscription, not
 * charged)`
 */
function headlineOf(
  all: readonly Ranked[],
  counts: ReadonlyMap<Phase, number>,
  needing: number,
  spend: { usd: number; billing: "subscription" | "metered" } | undefined,
): string {
  const running = counts.get("Running") ?? 0
  const working = all.filter(({ report }) => report.isWorking).length
  const parts = [
    `${working} working`,
    ...(running > working ? [`${running - working} between iterations`] : []),
    ...(needing > 0 ? [`${counted(needing, "needs", "need")} you`] : []),
    ...(["Waiting", "Queued", "Paused"] as const).flatMap((phase) =>
      counts.has(phase) ? [`${counts.get(phase)} ${phase.toLowerCase()}`] : [],
    ),
  ]
  const agents =
    all.length === 0 ? "No agents" : `${counted(all.length, "agent")}: ${parts.join(", ")}`
  const charged = spend?.billing === "subscription" ? " (subscription, not charged)" : ""
  return spend ? `${agents}; $${spend.usd.toFixed(2)} today${charged}` : agents
}

function sinceLines({ from, completed, failed, usd, cut }: EndedSince): readonly string[] {
  const names = (what: string, all: readonly { readonly name: string }[]): string =>
    `${all.length} ${what}${all.length > 0 ? ` (${all.map(({ name }) => name).join(", ")})` : ""}`
  const spent = usd === undefined ? "" : `, $${usd.toFixed(2)} in the full hours since`
  return [
    `Since ${from}: ${names("completed", completed)}, ${names("failed", failed)}${spent}.`,
    ...(cut ? [cut] : []),
  ]
}
