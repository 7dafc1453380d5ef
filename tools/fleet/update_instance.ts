import { z } from "zod"
import { budgetWithin, childrenOf, oneByOne, relationsOf } from "../../src/core/child-limits.ts"
import { asFault, Fault } from "../../src/core/faults.ts"
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
import { defineTool, type ToolContext } from "../../src/core/tool.ts"
import { withSaid } from "../../src/core/view.ts"

const repeatsMax = 5

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
    'Changes what an instance is told or allowed: a new goal counts from its next iteration, a larger budget lets a held one go on. What is left out stays; a label of "" goes. New standing orders: message_instances.',
  toolset: "fleet",
  route: "PATCH /v1/instances/{name}",
  verb: "operate",
  input,
  output: z.strictObject({
    name: z.string(),
    changed: z.array(z.string()),
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
  handler: (ctx, input) => oneByOne(ctx, () => change(ctx, input)),
  show: ({ name, changed, phase, why, untrusted, next }) => ({
    text: `${name}: ${changed.length > 0 ? `${changed.join(", ")} changed` : "nothing changed"}. ${withSaid(phaseAndWhy(phase, why), untrusted)} ${next}`,
  }),
})

const fields = ["goal", "orders", "priority", "budget", "children", "schedule", "labels"] as const

async function change(ctx: ToolContext, { name, dryRun, ...asked }: z.output<typeof input>) {
  const [target] = ctx.targets
  if (!target) throw new Error(`invoke gave no target for ${name}`)
  const { store, timeline, clock, who, newId } = ctx
  if (asked.schedule) ctx.windows.check(asked.schedule)
  // What an instance changes stays within what the changed one's parent has, as at its birth.
  const relations = relationsOf(ctx, await ctx.visible(), await readingsOf(ctx))
  const allowed = who.kind === "instance" ? within(target, asked, relations) : asked
  for (let repeat = 0, seen: Instance | undefined = target; ; repeat++) {
    if (seen?.uid !== target.uid || seen.deletedAtMs !== undefined)
      throw new Fault(
        "NotFound",
        `${name} is being removed.`,
        "Call list_instances {} for the names that exist.",
      )
    const spec = changedSpec(seen.spec, allowed, instanceLimits(seen, relations.spent))
    const changed = fields.filter(
      (field) => JSON.stringify(seen?.spec[field]) !== JSON.stringify(spec[field]),
    )
    try {
      const after =
        dryRun || changed.length === 0 ? { ...seen, spec } : await store.updateSpec(seen, spec)
      if (!dryRun && changed.length > 0) {
        const message = `Changed by ${nameOf(who)}: ${changed.join(", ")}.`
        await timeline
          .append({ id: newId("e"), uid: after.uid, kind: "Changed", message, atMs: clock.nowMs() })
          .catch(() => undefined)
      }
      const { phase, why, untrusted } = describeInstance(after, await readingsOf(ctx))
      const { orders } = after.spec
      const { budget } = instanceLimits(after, relations.spent)
      const next = dryRun
        ? "Nothing was changed: call it without dryRun."
        : changed.length === 0
          ? "Nothing had to be changed."
          : `inspect_instance {"name":"${name}"} shows in a moment how it goes on.`
      return {
        ...{ name, changed: [...changed], phase, why },
        ...(untrusted !== undefined && { untrusted }),
        ...{ budget, orders: orders.map(({ id, text }) => ({ id, untrusted: text })), next },
      }
    } catch (error) {
      if (asFault(error).code !== "Conflict" || repeat >= repeatsMax) throw error
      seen = await store.read(name)
    }
  }
}

interface Asked {
  readonly goal?: Spec["goal"] | undefined
  readonly removeOrders: readonly string[]
  readonly priority?: number | undefined
  readonly budget?: Spec["budget"] | undefined
  readonly children?: PartialChildren | undefined
  readonly schedule?: Spec["schedule"] | null
  readonly labels?: Spec["labels"] | undefined
}
/** @throws Forbidden for what the parent of the changed one has not itself. */
function within(target: Instance, asked: Asked, relations: Relations): Asked {
  const { uid, spec } = target
  const { schedule, priority, budget, children } = asked
  const parent = relations.byUid.get(spec.lineage.at(-1) ?? uid)
  if (!parent)
    throw new Fault(
      "Forbidden",
      "The instance that spawned it was removed.",
      "Ask with message_instances to @operators.",
    )
  if (schedule !== undefined)
    throw new Fault(
      "Forbidden",
      "A child works in its parent's windows.",
      "Ask with message_instances to @operators.",
    )
  if (priority !== undefined && priority > parent.spec.priority)
    throw new Fault(
      "Forbidden",
      `A child's priority is at most its parent's, ${parent.spec.priority}.`,
      "Give a lower one.",
    )
  const own = instanceLimits(target, relations.spent)
  return {
    ...asked,
    ...(budget && {
      budget: budgetWithin(
        parent,
        { ...own.budget, ...budget },
        relations,
        setAside(uid, relations),
      ),
    }),
    ...(children && {
      children: childrenOf(
        instanceLimits(parent, relations.spent).children,
        completeChildren(children, own.children),
      ),
    }),
  }
}

/** @throws NotFound for an order that is not there. */
function changedSpec(
  spec: Spec,
  { goal, removeOrders, priority, budget, children, schedule, labels }: Asked,
  own: InstanceLimits,
): Spec {
  const unknown = removeOrders.filter((id) => !spec.orders.some((order) => order.id === id))
  if (unknown.length > 0) {
    const known = spec.orders.map(({ id }) => id).join(", ")
    throw new Fault(
      "NotFound",
      `There is no standing order ${unknown.join(", ")}.`,
      `It has: ${known || "none"}.`,
    )
  }
  const merged = Object.fromEntries(
    Object.entries({ ...spec.labels, ...labels }).filter(([, value]) => value !== ""),
  )
  const checked = labelsSchema.safeParse(merged)
  if (!checked.success)
    throw new Fault(
      "TooLarge",
      "It would have more than 32 labels.",
      'Take some away: "labels":{"<key>":""}.',
    )
  const { schedule: before, ...rest } = spec
  const wanted = schedule === undefined ? before : (schedule ?? undefined)
  return {
    ...rest,
    ...(wanted && { schedule: wanted }),
    ...(goal !== undefined && { goal }),
    orders: spec.orders.filter(({ id }) => !removeOrders.includes(id)),
    ...(priority !== undefined && { priority }),
    ...(budget && { budget: { ...own.budget, ...budget } }),
    ...(children && { children: completeChildren(children, own.children) }),
    labels: checked.data,
  }
}
