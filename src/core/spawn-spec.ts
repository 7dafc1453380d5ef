import {
  budgetWithin,
  type ChildRequest,
  checkChild,
  grantedChildren,
  inheritedSpec,
} from "./child-limits.ts"
import { resolveLoop } from "./declaration.ts"
import type { Budget, Instance, PartialChildren, Spec } from "./instance.ts"
import { hasLimit, instanceLimits } from "./limits.ts"
import type { Relations } from "./lineage.ts"
import type { ToolContext } from "./tool.ts"

/** The spec of what a call spawns: from what it asks for, its parent, and the policy. */

export interface SpawnRequest extends ChildRequest {
  readonly goal?: string | undefined
  readonly ref?: string | undefined
  readonly mode: Spec["mode"]
  readonly workspace: Spec["workspace"]
  readonly labels: Spec["labels"]
  readonly budget?: Budget | undefined
  readonly children?: PartialChildren | undefined
}
/** What it is allowed, and in words where its budget comes from. */
interface SpawnTerms {
  readonly terms: Pick<Spec, "loop" | "priority" | "lineage"> & Partial<Spec>
  readonly budgetFrom: string
}

/** A person decides, within the policy. What is left out is left to the account. */
export function termsOfPerson(
  ctx: Pick<ToolContext, "limits" | "windows">,
  { loop, model, schedule, priority, children, budget }: SpawnRequest,
): SpawnTerms {
  if (schedule) ctx.windows.check(schedule)
  return {
    terms: {
      loop: resolveLoop(ctx, loop),
      priority: priority ?? 0,
      lineage: [],
      ...(children && { children }),
      ...(model !== undefined && { model }),
      ...(schedule && { schedule }),
      ...(hasLimit(budget) && { budget }),
    },
    budgetFrom: hasLimit(budget) ? "call" : "policy default",
  }
}

/** An instance gives of its own. */
export function termsOfChild(
  parent: Instance,
  request: SpawnRequest,
  relations: Relations,
): SpawnTerms {
  checkChild(parent, request, relations)
  const { children } = instanceLimits(parent, relations.spent)
  return {
    terms: {
      ...inheritedSpec(parent),
      priority: request.priority ?? Math.min(0, parent.spec.priority),
      children: grantedChildren(children, request.children),
      budget: budgetWithin(parent, { ...request.budget }, relations),
    },
    budgetFrom: "your own budget, of which it is set aside",
  }
}

export const composeSpec = (
  subject: Pick<Spec, "project" | "repository" | "codeRoot">,
  { goal, ref, mode, workspace, labels }: SpawnRequest,
  terms: SpawnTerms["terms"],
  origin: NonNullable<Spec["origin"]>,
): Spec => ({
  ...subject,
  state: "Running",
  attempt: 1,
  orders: [],
  mode,
  workspace,
  labels,
  ...(goal !== undefined && { goal }),
  ...(ref !== undefined && { ref }),
  ...terms,
  origin,
})
