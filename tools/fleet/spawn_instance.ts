import { z } from "zod"
import { inheritedSpec, relationsOf } from "../../src/core/child-limits.ts"
import { foreseePhase, resolveProject } from "../../src/core/declaration.ts"
import { inFamilyOrder, parentOf } from "../../src/core/family-queue.ts"
import { Fault } from "../../src/core/faults.ts"
import { indexOf } from "../../src/core/fleet-index.ts"
import { describeInstance, readingsOf } from "../../src/core/fleet-view.ts"
import {
  budgetSchema,
  goalSchema,
  hasFinished,
  type Instance,
  labelsSchema,
  modeSchema,
  nameSchema,
  partialChildrenSchema,
  prioritySchema,
  projectSchema,
  scheduleSchema,
} from "../../src/core/instance.ts"
import { namingOfChild, namingOfPerson } from "../../src/core/instance-names.ts"
import { instanceLimits, policyDefaults } from "../../src/core/limits.ts"
import { may } from "../../src/core/principal.ts"
import {
  createOnce,
  foreseenInstance,
  madeWithKey,
  type SpawnPlan,
} from "../../src/core/spawn-once.ts"
import {
  equalSpawnBefore,
  makerOf,
  spawnDigest,
  spawnOrigin,
} from "../../src/core/spawn-repeats.ts"
import { composeSpec, termsOfChild, termsOfPerson } from "../../src/core/spawn-spec.ts"
import { defineTool, type ToolContext } from "../../src/core/tool.ts"
import { counted, spanOf, stripped, withSaid } from "../../src/core/view.ts"
import { refSchema, repositorySchema, workspaceSchema } from "../../src/core/workspace.ts"

const instancesMax = 10_000

const input = z.strictObject({
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
const mayNeedTree = (instance: Instance): boolean =>
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
    "Starts a RALF agent that works on a project in the background, also after this conversation ends. Returns at once: follow the agent with inspect_instance. With an idempotencyKey a call may be repeated.",
  toolset: "fleet",
  route: "POST /v1/instances",
  verb: "spawn",
  input,
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
  handler: (ctx, request) => inFamilyOrder(ctx, () => spawnInstance(ctx, request)),
  show: ({ name, created, phase, why, untrusted, loop, next }) => ({
    text: `${name}: ${phase}${created ? "" : " (not made by this call)"}. ${withSaid(why, untrusted)}\n${loop ? `Loop: ${loop}.\n` : ""}${next}`,
  }),
})

async function spawnInstance(ctx: ToolContext, request: z.output<typeof input>) {
  const [others, readings] = await Promise.all([ctx.visible(), readingsOf(ctx)])
  const parent = parentOf(ctx, others)
  const subject = parent ? inheritedSpec(parent) : await resolveProject(ctx, request)
  const { project } = subject
  const naming = parent
    ? namingOfChild(ctx, request, parent)
    : namingOfPerson(ctx, request, project)
  const plan: SpawnPlan = { project, naming, others, readings }
  // Before anything is checked: what is set aside for it already must not be missing for it.
  const earlier = await madeWithKey(ctx, plan)
  if (earlier) return earlierAnswer(ctx, plan, earlier)

  const digest = spawnDigest(ctx, { ...request, dryRun: false })
  const equal = equalSpawnBefore(ctx, others, digest)
  const { terms, budgetFrom } = parent
    ? termsOfChild(parent, request, relationsOf(ctx, others, readings))
    : termsOfPerson(ctx, request)
  const spec = composeSpec(subject, request, terms, spawnOrigin(ctx.who, digest))
  const budget = { ...(spec.budget ?? policyDefaults(ctx.limits()).budget), from: budgetFrom }
  const place = await ctx.projects.foresee(spec, indexOf(others).open().filter(mayNeedTree))
  const shared = await sharingNote(ctx, place.sharedWith)
  checkRoom(others.length)

  if (request.dryRun) {
    const made = await foreseenInstance(ctx, plan, spec)
    const { phase, why } = foreseePhase(ctx, made, others, readings)
    return {
      name: made.name,
      created: false,
      phase,
      why: why + shared,
      loop: place.loop,
      workspace: { untrusted: place.at(made.name) },
      budget,
      next: "Nothing was made. Call it without dryRun to spawn it.",
    }
  }
  const { instance, isEarlier } = await createOnce(ctx, plan, spec)
  if (isEarlier) return earlierAnswer(ctx, plan, instance)
  const { name, uid } = instance
  const { phase, why } = foreseePhase(ctx, instance, others, readings)
  const twin = equal
    ? ` An equal call of yours made ${equal.name} ${spanOf(readings.nowMs - equal.createdAtMs)} ago.`
    : ""
  const undo = equal
    ? `If this call only repeated that one: stop_instances {"names":["${name}"],"remove":true}; with an idempotencyKey a repeat makes nothing. `
    : ""
  return {
    name,
    uid,
    created: true,
    phase,
    why: why + shared + twin,
    loop: place.loop,
    workspace: { untrusted: place.at(name, uid) },
    budget,
    next: `${undo}inspect_instance {"name":"${name}"} shows in a minute what it is doing.`,
  }
}

async function earlierAnswer(ctx: ToolContext, { readings }: SpawnPlan, instance: Instance) {
  const { name, uid, createdAtMs } = instance
  const { phase, why, untrusted } = describeInstance(instance, readings)
  const maker = makerOf(instance, ctx.who)
  const by = maker === undefined || maker === "you" ? "" : ` by ${maker}`
  const { spent } = relationsOf(ctx, await ctx.visible(), readings)
  return {
    name,
    uid,
    created: false,
    phase,
    why: `An earlier call${by} with this idempotencyKey made it ${spanOf(readings.nowMs - createdAtMs)} ago. ${why}`,
    untrusted,
    budget: { ...instanceLimits(instance, spent).budget, from: "the earlier call" },
    next: `inspect_instance {"name":"${name}"}`,
  }
}

/** Who works in the same tree; a stranger's name is not told. */
async function sharingNote(ctx: ToolContext, names: readonly string[]): Promise<string> {
  const known = (await visibleOf(ctx, names)).slice(0, 3)
  return known.length === 0 ? "" : ` It shares its work tree with ${known.join(", ")}.`
}

function checkRoom(count: number): void {
  if (count < instancesMax) return
  throw new Fault(
    "TooLarge",
    `There are ${counted(count, "instance")}; ${instancesMax} is the most.`,
    'Find those that have ended with list_instances {"phases":["Completed","Stopped"]} and remove them: stop_instances with remove.',
  )
}
