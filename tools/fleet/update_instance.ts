import { z } from "zod"
import { announce } from "../../src/core/announce.ts"
import {
  budgetWithin,
  checkTerms,
  grantedChildren,
  relationsOf,
} from "../../src/core/child-limits.ts"
import { inFamilyOrder } from "../../src/core/family-queue.ts"
import { Fault } from "../../src/core/faults.ts"
import { describeInstance, phaseAndWhy, readingsOf } from "../../src/core/fleet-view.ts"
import {
  budgetSchema,
  goalSchema,
  type Instance,
  labelsSchema,
  nameSchema,
  type PartialChildren,
  partialChildrenSchema,
  prioritySchema,
  type Spec,
  scheduleSchema,
} from "../../src/core/instance.ts"
import { completeChildren, type InstanceLimits, instanceLimits } from "../../src/core/limits.ts"
import { type Relations, setAside } from "../../src/core/lineage.ts"
import { nameOf } from "../../src/core/principal.ts"
import { writeLatest } from "../../src/core/spec-change.ts"
import { defineTool, type ToolContext } from "../../src/core/tool.ts"
import { withSaid } from "../../src/core/view.ts"

const input = z.strictObject({
  name: nameSchema,
  goal: goalSchema.optional(),
  removeOrders: z.array(z.string().min(1).max(64)).max(20).default([]).describe("ids"),
  priority: prioritySchema.optional(),
  budget: budgetSchema.optional(),
  children: partialChildrenSchema.optional(),
  schedule: scheduleSchema.nullable().optional().describe("null: always"),
  labels: labelsSchema.optional(),
  dryRun: z.boolean().default(false),
})

export default defineTool({
  name: "update_instance",
  title: "Update an instance",
  description:
    'Changes what an instance is told or allowed: a new goal counts from its next iteration, a larger budget lets a held one continue. What is left out stays; a label of "" goes. New standing orders: message_instances.',
  toolset: "fleet",
  route: "PATCH /v1/instances/{name}",
  verb: "operate",
  input,
  output: z.strictObject({
    name: z.string(),
    changed: z.array(z.string()),
    dryRun: z.boolean().optional(),
    phase: z.string(),
    why: z.string(),
    untrusted: z.string().optional(),
    budget: z.looseObject({}),
    orders: z.array(z.strictObject({ id: z.string(), untrusted: z.string() })),
    next: z.string(),
  }),
  hints: {
    readOnlyHint: false,
    destructiveHint: false,
    idempotentHint: true,
    openWorldHint: false,
  },
  targets: ({ name }) => ({ names: [name] }),
  handler: (ctx, input) => inFamilyOrder(ctx, () => change(ctx, input)),
  show: ({ name, changed, dryRun, phase, why, untrusted, next }) => {
    const what = changed.length > 0 ? changed.join(", ") : "nothing"
    const would = dryRun ? "would be " : ""
    return {
      text: `${name}: ${what} ${would}changed. ${withSaid(phaseAndWhy(phase, why), untrusted)} ${next}`,
    }
  },
})

const fields = ["goal", "orders", "priority", "budget", "children", "schedule", "labels"] as const

async function change(ctx: ToolContext, { name, dryRun, ...request }: z.output<typeof input>) {
  const [target] = ctx.targets
  if (!target) throw new Error(`invoke gave no target for ${name}`)
  if (request.schedule) ctx.windows.check(request.schedule)
  // What an instance changes stays within what the changed one's parent has, as at its birth.
  const relations = relationsOf(ctx, await ctx.visible(), await readingsOf(ctx))
  const allowed = ctx.who.kind === "instance" ? withinParent(target, request, relations) : request
  const { after, changed } = await writeLatest(ctx, target, async (latest) => {
    if (latest.deletedAtMs !== undefined)
      throw new Fault(
        "NotFound",
        `${name} is being removed.`,
        "list_instances {} shows those that exist.",
      )
    const spec = changedSpec(latest.spec, allowed, instanceLimits(latest, relations.spent))
    const differing = fields.filter(
      (field) => JSON.stringify(latest.spec[field]) !== JSON.stringify(spec[field]),
    )
    const isWritten = !dryRun && differing.length > 0
    return {
      after: isWritten ? await ctx.store.updateSpec(latest, spec) : { ...latest, spec },
      changed: differing,
    }
  })
  if (!dryRun && changed.length > 0)
    await announce(ctx, {
      uid: after.uid,
      kind: "Changed",
      message: `Changed by ${nameOf(ctx.who)}: ${changed.join(", ")}.`,
      atMs: ctx.clock.nowMs(),
    })
  const { phase, why, untrusted } = describeInstance(after, await readingsOf(ctx))
  return {
    name,
    changed: [...changed],
    dryRun: dryRun || undefined,
    phase,
    why,
    untrusted,
    budget: instanceLimits(after, relations.spent).budget,
    orders: after.spec.orders.map(({ id, text }) => ({ id, untrusted: text })),
    next: nextStep(name, dryRun, changed.length > 0),
  }
}

function nextStep(name: string, dryRun: boolean, isChanged: boolean): string {
  if (dryRun) return "Nothing was changed. Call it without dryRun to do it."
  return isChanged
    ? `inspect_instance {"name":"${name}"} shows in a moment how it is doing.`
    : "Nothing had to be changed."
}

interface UpdateRequest {
  readonly goal?: Spec["goal"] | undefined
  readonly removeOrders: readonly string[]
  readonly priority?: number | undefined
  readonly budget?: Spec["budget"] | undefined
  readonly children?: PartialChildren | undefined
  readonly schedule?: Spec["schedule"] | null
  readonly labels?: Spec["labels"] | undefined
}
/** @throws Forbidden for what the parent of the changed one has not itself. */
function withinParent(
  target: Instance,
  request: UpdateRequest,
  relations: Relations,
): UpdateRequest {
  const { uid, spec } = target
  const { budget, children } = request
  const parent = relations.byUid.get(spec.lineage.at(-1) ?? uid)
  if (!parent)
    throw new Fault(
      "Forbidden",
      "The instance that spawned it was removed.",
      'Ask a person: message_instances {"to":["@operators"],"text":"…"}.',
    )
  checkTerms(parent, request)
  const own = instanceLimits(target, relations.spent)
  const wanted = { ...own.budget, ...budget }
  return {
    ...request,
    budget: budget && budgetWithin(parent, wanted, relations, setAside(uid, relations)),
    children:
      children &&
      grantedChildren(
        instanceLimits(parent, relations.spent).children,
        completeChildren(children, own.children),
      ),
  }
}

/** @throws NotFound for an order that is not there. */
function changedSpec(
  spec: Spec,
  { goal, removeOrders, priority, budget, children, schedule, labels }: UpdateRequest,
  own: InstanceLimits,
): Spec {
  checkOrders(spec, removeOrders)
  const { schedule: earlier, ...rest } = spec
  const wanted = schedule === undefined ? earlier : (schedule ?? undefined)
  return {
    ...rest,
    ...(wanted && { schedule: wanted }),
    ...(goal !== undefined && { goal }),
    orders: spec.orders.filter(({ id }) => !removeOrders.includes(id)),
    priority: priority ?? spec.priority,
    ...(budget && { budget: { ...own.budget, ...budget } }),
    ...(children && { children: completeChildren(children, own.children) }),
    labels: mergedLabels(spec.labels, labels),
  }
}

function checkOrders({ orders }: Spec, removed: readonly string[]): void {
  const unknown = removed.filter((id) => !orders.some((order) => order.id === id))
  if (unknown.length === 0) return
  throw new Fault(
    "NotFound",
    `There is no standing order ${unknown.join(", ")}.`,
    `It has: ${orders.map(({ id }) => id).join(", ") || "none"}.`,
  )
}

function mergedLabels(earlier: Spec["labels"], added: Spec["labels"] = {}): Spec["labels"] {
  const merged = Object.entries({ ...earlier, ...added }).filter(([, value]) => value !== "")
  const checked = labelsSchema.safeParse(Object.fromEntries(merged))
  if (checked.success) return checked.data
  throw new Fault(
    "TooLarge",
    "It would have more than 32 labels.",
    'Take some away: "labels":{"<key>":""}.',
  )
}
