import { z } from "zod"
import {
  type AskedChild,
  budgetWithin,
  checkChild,
  childrenOf,
  inherited,
  oneByOne,
  parentOf,
  relationsOf,
} from "../../src/core/child-limits.ts"
import { foreseen, loopOf, subjectOf } from "../../src/core/declaration.ts"
import { Fault } from "../../src/core/faults.ts"
import { indexOf } from "../../src/core/fleet-index.ts"
import { describeInstance, type Readings, readingsOf } from "../../src/core/fleet-view.ts"
import {
  type Budget,
  budgetSchema,
  goalSchema,
  hasFinished,
  type Instance,
  labelsSchema,
  modeSchema,
  nameSchema,
  type PartialChildren,
  partialChildrenSchema,
  prioritySchema,
  projectSchema,
  type Spec,
  scheduleSchema,
  uidSchema,
} from "../../src/core/instance.ts"
import { namingOfChild, namingOfPerson } from "../../src/core/instance-names.ts"
import { hasLimit, instanceLimits, policyDefaults } from "../../src/core/limits.ts"
import { may } from "../../src/core/principal.ts"
import { digestOf, equalBefore, makerOf, originOf, takenBy } from "../../src/core/spawn-repeats.ts"
import { defineTool, type ToolContext } from "../../src/core/tool.ts"
import { spanOf, stripped, withSaid } from "../../src/core/view.ts"
import { refSchema, repositorySchema, workspaceSchema } from "../../src/core/workspace.ts"

const instancesMax = 10_000
/** Between finding a free name and taking it another spawn may have taken it. */
const racesMax = 10

const asked = z.strictObject({
  project: projectSchema.optional().describe("may be left out if there is only one"),
  goal: goalSchema.optional().describe("the task, with all the context it needs"),
  name: nameSchema.optional().describe("of an agent's child: its own part"),
  repository: repositorySchema.optional().describe("owner/name to clone and work on"),
  codeRoot: z
    .string()
    .min(1)
    .max(4096)
    .optional()
    .describe("where two checkouts have that project"),
  workspace: workspaceSchema
    .default("auto")
    .describe("auto: a work tree of its own where others work already"),
  ref: refSchema
    .refine((ref) => stripped(ref) === ref, "has an invisible character")
    .optional()
    .describe("where its own tree begins"),
  mode: modeSchema.default("until-complete"),
  loop: z.string().min(1).max(63).optional(),
  model: z.string().min(1).max(200).optional(),
  budget: budgetSchema.optional(),
  schedule: scheduleSchema.optional(),
  children: partialChildrenSchema.optional().describe("what it may spawn"),
  priority: prioritySchema.optional(),
  labels: labelsSchema.default({}),
  idempotencyKey: z
    .string()
    // Without a letter it would name the same instances as the numbers that are given out.
    .regex(
      /^(?=.*[a-z])[a-z0-9]([-a-z0-9]{0,34}[a-z0-9])?$/,
      "must be 1 to 36 characters of a-z 0-9 -, at least one of them a letter",
    )
    .optional()
    .describe("becomes the name's suffix"),
  dryRun: z.boolean().default(false),
})

/** It may have no work tree yet, and will have one. */
const waits = (instance: Instance): boolean =>
  instance.deletedAtMs === undefined && instance.spec.state !== "Stopped" && !hasFinished(instance)

/** Those names of instances that the caller may know. */
async function visibleOf(
  { who, store }: ToolContext,
  names: readonly string[],
): Promise<readonly string[]> {
  const found = names.map((name) => store.replica.get(name))
  return found.flatMap((one) => (one && may(who, "outline", one) === true ? [one.name] : []))
}

export default defineTool({
  name: "spawn_instance",
  title: "Spawn an instance",
  description:
    "Starts a RALF agent that works on a project in the background, also after this conversation ends. It returns at once: follow the agent with inspect_instance. With an idempotencyKey a call may be repeated.",
  toolset: "fleet",
  route: "POST /v1/instances",
  verb: "spawn",
  input: asked,
  output: z.strictObject({
    name: z.string(),
    uid: z.string().optional(),
    created: z.boolean(),
    phase: z.string(),
    why: z.string(),
    untrusted: z.string().optional(),
    loop: z.string().optional(),
    // Path and branch, in which a directory's name stands as somebody else wrote it.
    workspace: z.looseObject({}).optional(),
    // Its limits, and where they come from: loose, because each listed field costs every caller's
    // context.
    budget: z.looseObject({ from: z.string() }),
    next: z.string(),
  }),
  hints: {
    readOnlyHint: false,
    destructiveHint: false,
    idempotentHint: false,
    openWorldHint: true,
  },
  subject: ({ name, project, repository }) => [
    name ?? (project && `project ${project}`) ?? repository ?? "the only project",
  ],
  outcome: ({ name }) => ({ on: [name] }),
  handler: (ctx, input) => oneByOne(ctx, () => declare(ctx, input)),
  show: ({ name, created, phase, why, untrusted, loop, next }) => ({
    text: `${name}: ${phase}${created ? "" : " (not made by this call)"}. ${withSaid(why, untrusted)}\n${loop ? `Loop: ${loop}.\n` : ""}${next}`,
  }),
})

async function declare(ctx: ToolContext, input: z.output<typeof asked>) {
  const { store, projects, who } = ctx
  const [others, readings] = await Promise.all([ctx.visible(), readingsOf(ctx)])
  const parent = parentOf(ctx, others)
  const subject = parent ? inherited(parent) : await subjectOf(ctx, input)
  const { project } = subject

  const naming = parent ? namingOfChild(ctx, input, parent) : namingOfPerson(ctx, input, project)
  const { keyed, wanted } = naming
  const ofKey = async (): Promise<Instance | undefined> => {
    const one = keyed === undefined ? undefined : store.replica.get(keyed)
    const isIt = one?.spec.project === project && one.deletedAtMs === undefined
    return isIt && indexOf(await ctx.visible()).byUid.get(one.uid) ? one : undefined
  }
  const madeBefore = async (instance: Instance) => {
    const { name, uid, createdAtMs } = instance
    const { phase, why, untrusted } = describeInstance(instance, readings)
    const maker = makerOf(instance, who)
    const by = maker === undefined || maker === "you" ? "" : ` of ${maker}`
    const { spent } = relationsOf(ctx, await ctx.visible(), readings)
    const { budget } = instanceLimits(instance, spent)
    return {
      ...{ name, uid, created: false, phase },
      why: `An earlier call${by} with this idempotencyKey made it, ${spanOf(readings.nowMs - createdAtMs)} ago. ${why}`,
      ...(untrusted !== undefined && { untrusted }),
      budget: { ...budget, from: "the earlier call" },
      next: `inspect_instance {"name":"${name}"}`,
    }
  }
  // Before anything is checked: what is set aside for it already must not be missing for it.
  const before = await ofKey()
  if (before) return madeBefore(before)

  const digest = digestOf(ctx, { ...input, dryRun: false })
  const equal = equalBefore(ctx, others, digest)
  const { from, ...own } = parent
    ? ofParent(ctx, parent, input, others, readings)
    : ofPerson(ctx, input)
  const spec: Spec = {
    ...{
      ...subject,
      state: "Running",
      attempt: 1,
      orders: [],
      mode: input.mode,
      workspace: input.workspace,
    },
    ...(input.goal !== undefined && { goal: input.goal }),
    ...(input.ref !== undefined && { ref: input.ref }),
    ...{ labels: input.labels, lineage: [], ...own, ...(parent && inherited(parent)) },
    origin: originOf(who, digest),
  }
  const budget = spec.budget ?? policyDefaults(ctx.limits()).budget
  const place = await projects.foresee(spec, indexOf(others).open().filter(waits))
  // A stranger's name is not told.
  const together = (await visibleOf(ctx, place.sharedWith)).slice(0, 3)
  const shared =
    together.length === 0 ? "" : ` It shares its work tree with ${together.join(", ")}.`

  if (others.length >= instancesMax)
    throw new Fault(
      "TooLarge",
      `There are ${others.length} instances, and ${instancesMax} is the most.`,
      'Find those that ended with list_instances {"phases":["Completed","Stopped"]} and remove them: stop_instances with remove.',
    )

  const taken = (name: string): Promise<Fault> =>
    takenBy(ctx, name, { others, project, free: naming.free })
  if (input.dryRun) {
    if (wanted !== undefined && store.replica.get(wanted)) throw await taken(wanted)
    const name = wanted ?? (await naming.free())
    const made = {
      name,
      uid: uidSchema.parse("dry-run"),
      version: "",
      createdAtMs: readings.nowMs,
      spec,
      status: {},
    }
    const { phase, why } = foreseen(ctx, made, others, readings)
    const next = "Nothing was made: call it without dryRun."
    const { loop } = place
    return {
      ...{ name, created: false, phase, why: why + shared, loop },
      ...{ workspace: { untrusted: place.at(name) }, budget: { ...budget, from }, next },
    }
  }

  let instance: Instance | undefined
  for (let race = 0; !instance; race++) {
    const name = wanted ?? (await naming.free())
    checkWanted(ctx)
    try {
      instance = await store.create(name, spec)
    } catch (error) {
      if (!(error instanceof Fault) || error.code !== "Conflict") throw error
      const twin = await ofKey()
      if (twin) return madeBefore(twin)
      if (wanted !== undefined || race >= racesMax) throw await taken(name)
    }
  }
  const { name, uid } = instance
  // Whoever cancelled it knows of nothing that was made.
  if (ctx.signal.aborted) await forget(ctx, instance)
  checkWanted(ctx)
  const { phase, why } = foreseen(ctx, instance, others, readings)
  const twin = equal
    ? ` An equal call of yours made ${equal.name} ${spanOf(readings.nowMs - equal.createdAtMs)} ago.`
    : ""
  const undo = equal
    ? `If this call only repeated that one: stop_instances {"names":["${name}"],"remove":true}; with an idempotencyKey a repeat makes nothing. `
    : ""
  return {
    ...{ name, uid, created: true, phase, why: why + shared + twin },
    ...{
      loop: place.loop,
      workspace: { untrusted: place.at(name, uid) },
      budget: { ...budget, from },
    },
    next: `${undo}inspect_instance {"name":"${name}"} shows in a minute what it does.`,
  }
}

/** As it is now: somebody may have paused it, with all others, since it was made. */
async function forget(
  { store }: Pick<ToolContext, "store">,
  { name, uid }: Instance,
): Promise<void> {
  const now = store.replica.get(name)
  if (now?.uid === uid) await store.delete(now)
}

/** @throws Unavailable when nobody waits for the answer any more. */
function checkWanted({ signal }: Pick<ToolContext, "signal">): void {
  if (signal.aborted)
    throw new Fault(
      "Unavailable",
      "The call was cancelled; nothing was made.",
      "Call it again if it is wanted.",
    )
}

interface Asked extends AskedChild {
  readonly budget?: Budget | undefined
  readonly children?: PartialChildren | undefined
}
type Own = Pick<Spec, "loop" | "priority"> & Partial<Spec> & { readonly from: string }

/** A person decides, within the policy. What is left out is left to the account. */
function ofPerson(
  ctx: ToolContext,
  { loop, model, schedule, priority, children, budget: asked }: Asked,
): Own {
  if (schedule) ctx.windows.check(schedule)
  return {
    loop: loopOf(ctx, loop),
    priority: priority ?? 0,
    ...(children && { children }),
    ...(model !== undefined && { model }),
    ...(schedule && { schedule }),
    ...(hasLimit(asked) ? { budget: asked, from: "call" } : { from: "policy default" }),
  }
}

/** An instance gives of its own. */
function ofParent(
  ctx: ToolContext,
  parent: Instance,
  asked: Asked,
  visible: readonly Instance[],
  readings: Readings,
): Own {
  const relations = relationsOf(ctx, visible, readings)
  checkChild(parent, asked, relations)
  const { spec } = parent
  return {
    ...{ loop: spec.loop, priority: asked.priority ?? Math.min(0, spec.priority) },
    children: childrenOf(instanceLimits(parent, relations.spent).children, asked.children),
    budget: budgetWithin(parent, { ...asked.budget }, relations),
    from: `your own budget, of which it is set aside`,
  }
}
