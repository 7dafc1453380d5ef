import { z } from "zod"
import { Fault } from "../../src/core/faults.ts"
import {
  byRank,
  firstRanked,
  fleetViewOf,
  type Rank,
  type Ranked,
  rankedOf,
  readingsOf,
} from "../../src/core/fleet-view.ts"
import { nameSchema } from "../../src/core/instance.ts"
import { phases } from "../../src/core/phase-report.ts"
import { may } from "../../src/core/principal.ts"
import { sharedProjects, targetFields } from "../../src/core/selector.ts"
import { defineTool } from "../../src/core/tool.ts"
import { bounded, counted, countWithin, withSaid } from "../../src/core/view.ts"

/**
 * One answer: some 15,000 tokens, at which Claude Code still takes it whole. What is beyond is on
 * the next page.
 */
const bytesMax = 65_536
/** Of a goal, where there are many. */
const goalCharactersMax = 2000

/**
 * Where a page ended, by what it is sorted by: a fleet that changes in between neither repeats nor
 * hides the others.
 */
const cursorOf = ({ phase, createdAtMs, name }: Rank): string => `${phase}.${createdAtMs}.${name}`
function rankAt(cursor: string): Rank {
  const [, phase, createdAtMs, name] =
    /^(\d{1,2})\.(\d{1,15})\.([-a-z0-9]{1,53})$/.exec(cursor) ?? []
  if (name === undefined)
    throw new Fault(
      "Invalid",
      "Invalid cursor.",
      "Give the nextCursor of the last list_instances answer, or leave it out.",
    )
  return { phase: Number(phase), createdAtMs: Number(createdAtMs), name }
}

export default defineTool({
  name: "list_instances",
  title: "List instances",
  description:
    "Lists RALF instances with phase and why, those that need a person first. Use it to find names, then inspect_instance for one of them.",
  toolset: "fleet",
  route: "GET /v1/instances",
  verb: "outline",
  input: z.strictObject({
    names: targetFields.names,
    project: targetFields.project,
    selector: targetFields.selector,
    phases: z.array(z.enum(phases)).min(1).optional(),
    parent: nameSchema.optional(),
    detail: z.boolean().default(false).describe("the goals too"),
    limit: z.int().min(1).max(200).default(20),
    cursor: z.string().max(100).optional(),
  }),
  output: z.strictObject({
    total: z.int(),
    instances: z.array(
      z.strictObject({
        name: z.string(),
        project: z.string(),
        // Where several checkouts have a project of that name.
        codeRoot: z.string().optional(),
        phase: z.string(),
        why: z.string(),
        // What others wrote: said, activity, branch. Loose, because each listed field costs every
        // caller's context.
        untrusted: z.looseObject({ said: z.string().optional() }).optional(),
        iteration: z.int().optional(),
        usd: z.number().optional(),
        budgetUsd: z.number().optional(),
        commits: z.int().optional(),
        goal: z.strictObject({ untrusted: z.string() }).optional(),
      }),
    ),
    nextCursor: z.string().optional(),
    next: z.string(),
  }),
  hints: { readOnlyHint: true, destructiveHint: false, idempotentHint: true, openWorldHint: false },
  targets({ names, project, selector }) {
    if (names && (project !== undefined || selector !== undefined))
      throw new Fault(
        "Invalid",
        "Give names, or project and selector, not both.",
        "Leave one of them out.",
      )
    return names
      ? { names }
      : { ...(project !== undefined && { project }), ...(selector !== undefined && { selector }) }
  },
  async handler(ctx, { phases: wanted, parent, detail, limit, cursor }) {
    const after = cursor === undefined ? undefined : rankAt(cursor)
    const [visible, readings] = await Promise.all([ctx.visible(), readingsOf(ctx)])
    const above = parent === undefined ? undefined : visible.find(({ name }) => name === parent)
    if (parent !== undefined && !above)
      throw new Fault(
        "NotFound",
        `There is no instance ${parent}.`,
        "list_instances {} shows those that exist.",
      )
    const found = (
      above ? ctx.targets.filter(({ spec }) => spec.lineage.at(-1) === above.uid) : ctx.targets
    )
      .map((instance) => rankedOf(instance, readings))
      .filter(({ report }) => !wanted || wanted.includes(report.phase))
    const rest = after ? found.filter((one) => byRank(one, after) > 0) : found
    const shared = sharedProjects(visible)
    const first = firstRanked(rest, limit)
    const rows = first.map(({ instance, report }) => {
      const { name, spec } = instance
      // Its own tree beyond its descendants an instance knows by name and phase alone.
      if (may(ctx.who, "see", instance) !== true)
        return {
          name,
          project: spec.project,
          phase: report.phase,
          why: "You can see only its phase.",
        }
      const goal =
        detail && spec.goal !== undefined
          ? { goal: { untrusted: bounded(spec.goal, goalCharactersMax) } }
          : {}
      const where =
        shared.has(spec.project) && spec.codeRoot !== undefined ? { codeRoot: spec.codeRoot } : {}
      return { ...fleetViewOf(instance, readings, report), ...where, ...goal }
    })
    const page = first.slice(0, countWithin(rows, bytesMax))
    const last = page.at(-1)
    const more =
      last !== undefined && rest.length > page.length ? { nextCursor: cursorOf(last) } : {}
    const needing = page.find(
      ({ instance, report }) => report.needsPerson && may(ctx.who, "see", instance) === true,
    )
    const next = nextStep({
      visible: visible.length,
      found: found.length,
      left: rest.length - page.length,
      last,
      needing,
    })
    return {
      total: found.length,
      instances: rows.slice(0, page.length),
      ...more,
      next,
    }
  },
  show: ({ total, instances, next }) => ({
    text: `${instances.length} of ${counted(total, "instance")}. ${next}`,
    rows: instances.map(({ name, codeRoot, phase, iteration, usd, why, untrusted }) => ({
      name,
      ...(codeRoot !== undefined && { checkout: codeRoot }),
      phase,
      iteration: iteration ?? "",
      usd: usd === undefined ? "" : usd.toFixed(2),
      why: withSaid(why, untrusted?.said),
    })),
  }),
})

interface Position {
  /** How many instances there are, how many match, and how many come after this page. */
  readonly visible: number
  readonly found: number
  readonly left: number
  readonly last: Ranked | undefined
  /** The first one that needs a person. */
  readonly needing: Ranked | undefined
}
function nextStep({ visible, found, left, last, needing }: Position): string {
  if (visible === 0)
    return 'There are none yet: spawn_instance {"project":"…","goal":"…"} starts one.'
  if (found === 0)
    return `No match among ${counted(visible, "instance")}: call list_instances with fewer conditions.`
  if (last === undefined) return "The list ends here: start again without cursor."
  if (needing) return `${needing.instance.name} needs a person: ${needing.report.fix}`
  return left === 0
    ? `inspect_instance {"name":"${last.instance.name}"} tells more about one.`
    : `${left} more: call again with cursor.`
}
