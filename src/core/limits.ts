import type { Budget, Children, Defaults, Instance, PartialChildren, Spec } from "./instance.ts"
import type { Accounts } from "./spending.ts"

/**
 * What an instance may use and spawn, and its model: what its spec says, else what its account has
 * kept since it was opened.
 */
export interface InstanceLimits {
  readonly budget: Budget
  readonly children: Children
  readonly model: string | undefined
}

const nobody: Children = { depth: 0, total: 0, running: 0 }

/** Without an account, what a spec leaves out is no budget, no children and no model. */
export function instanceLimits(
  { uid, spec }: Pick<Instance, "uid" | "spec">,
  accounts: Pick<Accounts, "get">,
): InstanceLimits {
  const kept = accounts.get(uid)?.birth?.defaults
  return {
    budget: hasLimit(spec.budget) ? spec.budget : (kept?.budget ?? {}),
    children: completeChildren(spec.children, kept?.children ?? nobody),
    model: spec.model ?? kept?.model,
  }
}

/** The spec with what it leaves out filled in, as a loop is started by it. */
export function effectiveSpec(instance: Instance, accounts: Pick<Accounts, "get">): Spec {
  const { budget, children, model } = instanceLimits(instance, accounts)
  return { ...instance.spec, budget, children, ...(model !== undefined && { model }) }
}

/** An empty budget counts as none: it must not be a way around the default. */
export const hasLimit = (budget: Budget | undefined): budget is Budget =>
  budget !== undefined && Object.values(budget).some((limit) => limit !== undefined)

export const completeChildren = (
  given: PartialChildren | undefined,
  otherwise: Children,
): Children => ({
  depth: given?.depth ?? otherwise.depth,
  total: given?.total ?? otherwise.total,
  running: given?.running ?? otherwise.running,
})

/** What the policy gives an instance that nobody spawned. */
export function policyDefaults({
  budget: { usd, ...rest },
  children,
  model,
  billing,
}: {
  readonly budget: Budget
  readonly children: Children
  readonly model?: string
  readonly billing: "subscription" | "metered"
}): Defaults {
  return {
    // A subscription shows list prices that nobody pays: dollars must not hold an instance.
    budget: { ...rest, ...(usd !== undefined && billing === "metered" && { usd }) },
    children,
    ...(model !== undefined && { model }),
  }
}
