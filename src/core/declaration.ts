import { withForeseen } from "./birth.ts"
import { Fault } from "./faults.ts"
import { indexOf, indexWith } from "./fleet-index.ts"
import { describeInstance, type Readings } from "./fleet-view.ts"
import { holds } from "./holds.ts"
import { type Instance, projectSchema, type Spec } from "./instance.ts"
import { policyDefaults } from "./limits.ts"
import type { PhaseReport } from "./phase-report.ts"
import { plan } from "./plan.ts"
import type { Projects } from "./ports.ts"
import type { ToolContext } from "./tool.ts"
import { listed } from "./view.ts"

/** What a spawn decides before there is an instance: its project, its loop, how it will begin. */

/** What it works on: a project of a code root, or a repository that is cloned. */
export async function resolveProject(
  { projects, codeRoot: callers }: Pick<ToolContext, "projects" | "codeRoot">,
  request: {
    project?: string | undefined
    repository?: string | undefined
    codeRoot?: string | undefined
  },
): Promise<Pick<Spec, "project" | "repository" | "codeRoot">> {
  const { repository } = request
  const named = request.codeRoot === undefined ? undefined : await projects.named(request.codeRoot)
  const codeRoot = named ?? callers
  const project =
    request.project ??
    (repository === undefined
      ? await onlyProject(projects, codeRoot)
      : projectSchema.parse(repository.split("/")[1]?.slice(0, 63)))
  const root = await projects.rootOf({ project, repository }, codeRoot)
  if (named !== undefined && root !== named)
    throw new Fault(
      "NotFound",
      `There is no project ${project} in ${named}.`,
      `Leave codeRoot out: it is in ${root}.`,
    )
  return {
    project,
    ...(repository !== undefined && { repository }),
    ...(root !== undefined && { codeRoot: root }),
  }
}

async function onlyProject(projects: Projects, callers: string | undefined): Promise<string> {
  const near = callers === undefined ? [] : await projects.list(callers)
  const known = near.length > 0 ? near : await projects.list()
  const [only, second] = known
  if (only === undefined)
    throw new Fault(
      "Invalid",
      "No project was found: no known code root has one.",
      'Start the client in a checkout, set BLACKBOX5_CODE_ROOT, or give "repository":"owner/name".',
    )
  if (second === undefined) return only
  throw new Fault("Invalid", "Which project?", `Give project, one of: ${listed(known, 20)}.`)
}

export function resolveLoop(
  { limits }: Pick<ToolContext, "limits">,
  name: string | undefined,
): string {
  const { loops, defaultLoop } = limits()
  if (name === undefined || loops.includes(name)) return name ?? defaultLoop
  throw new Fault(
    "Invalid",
    `The policy has no loop ${JSON.stringify(name)}.`,
    `Give one of: ${loops.join(", ")}.`,
  )
}

/**
 * What the scheduler will say of an instance it has not seen yet: its own rules, over what the
 * caller may see.
 */
export function foreseePhase(
  { limits, windows }: Pick<ToolContext, "limits" | "windows">,
  made: Instance,
  others: readonly Instance[],
  now: Readings,
): PhaseReport {
  const policy = limits()
  const fleet = indexWith(indexOf(others), made)
  const snapshot = {
    policy,
    fleet,
    beats: now.beats,
    spent: withForeseen(now.spent, fleet, policyDefaults(policy)),
    waits: now.waits,
    windows: windows.at,
    turns: new Map(),
  }
  const value = plan(snapshot, holds, now.nowMs).admit.find(
    ({ instance }) => instance.uid === made.uid,
  )?.value
  return describeInstance(
    value ? { ...made, status: { ...made.status, admission: { ...value, term: 0 } } } : made,
    now,
  )
}
