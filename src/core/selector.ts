import { z } from "zod"
import { Fault } from "./faults.ts"
import { type Instance, nameSchema, projectSchema } from "./instance.ts"
import type { Projects } from "./ports.ts"
import { listed } from "./view.ts"

/**
 * Which instances a call is about: by name, or all that match. invoke finds and authorizes them.
 */
export type Targets =
  | { readonly names: readonly string[] }
  | {
      readonly project?: string
      /** Of the projects of that name, that of this code root; what is cloned belongs to none. */
      readonly codeRoot?: string
      readonly selector?: string
      /** Those that one call paused together. */
      readonly batch?: string
    }

/** Equality-based label selectors as Kubernetes writes them: `team=web,tier!=db,urgent,!old`. */
const requirement =
  /^(?:!(?<absent>[\w./-]+)|(?<key>[\w./-]+)(?:(?<operator>==|!=|=)(?<value>[\w.-]*))?)$/

/** @throws Invalid when the text is no selector. */
export function parseSelector(text: string): (labels: Readonly<Record<string, string>>) => boolean {
  const tests = text.split(",").map((part) => {
    const groups = requirement.exec(part.trim())?.groups
    if (!groups)
      throw new Fault(
        "Invalid",
        `"${part.trim()}" is not a label requirement.`,
        "Write key=value, key!=value, key or !key, joined by commas.",
      )
    const { absent, key, operator, value } = groups
    return (labels: Readonly<Record<string, string>>): boolean => {
      if (absent !== undefined) return !Object.hasOwn(labels, absent)
      if (key === undefined) return false
      if (operator === undefined) return Object.hasOwn(labels, key)
      return operator === "!=" ? labels[key] !== value : labels[key] === value
    }
  })
  return (labels) => tests.every((test) => test(labels))
}

/** The input fields by which a call names its instances. */
export const targetFields = {
  names: z.array(nameSchema).min(1).max(100).optional(),
  project: projectSchema.optional(),
  selector: z.string().max(500).optional().describe("labels, e.g. team=web"),
  all: z.boolean().optional(),
}
export interface TargetInput {
  readonly names?: readonly string[] | undefined
  readonly project?: string | undefined
  readonly selector?: string | undefined
  readonly all?: boolean | undefined
}

/** @throws Invalid when nothing, or both names and a description, are given. */
export function targetsOf({ names, project, selector, all }: TargetInput): Targets {
  const described = project !== undefined || selector !== undefined || all === true
  if (names && described)
    throw new Fault(
      "Invalid",
      "Give names, or project / selector / all, not both.",
      "Leave one of them out.",
    )
  if (names) return { names }
  if (!described)
    throw new Fault("Invalid", "Which agents?", "Give names, project, selector or all: true.")
  return { ...(project !== undefined && { project }), ...(selector !== undefined && { selector }) }
}

/** Instances that a call describes, rather than names. */
export type TargetDescription = Exclude<Targets, { names: readonly string[] }>

/** By a project a caller means that of its own checkout, where it has one of that name. */
export async function asCallerMeans(
  wanted: TargetDescription,
  callers: string | undefined,
  projects: Pick<Projects, "list">,
): Promise<TargetDescription> {
  if (wanted.project === undefined || callers === undefined) return wanted
  return (await projects.list(callers)).includes(wanted.project)
    ? { ...wanted, codeRoot: callers }
    : wanted
}

/** @throws Conflict where a project is named that these instances have in several checkouts. */
export function checkOneCheckout(
  { project, codeRoot }: TargetDescription,
  instances: readonly Instance[],
): void {
  if (project === undefined || codeRoot !== undefined) return
  const roots = new Set(
    instances.flatMap(({ spec }) => (spec.repository === undefined ? (spec.codeRoot ?? []) : [])),
  )
  if (roots.size < 2) return
  throw new Fault(
    "Conflict",
    `Several checkouts have a project ${project}: ${listed([...roots], 5)}. Nothing was changed.`,
    `Call from the checkout that you mean, or give names: list_instances {"project":"${project}"} shows them.`,
  )
}

/** Of each list that a store gave: it gives the same until something changes. */
const sharedIn = new WeakMap<readonly Instance[], ReadonlySet<string>>()

/** Projects of one name that these instances have in several checkouts. */
export function sharedProjects(instances: readonly Instance[]): ReadonlySet<string> {
  const before = sharedIn.get(instances)
  if (before) return before
  const first = new Map<string, string>()
  const shared = new Set<string>()
  for (const { spec } of instances) {
    if (spec.repository !== undefined || spec.codeRoot === undefined) continue
    const known = first.get(spec.project)
    if (known === undefined) first.set(spec.project, spec.codeRoot)
    else if (known !== spec.codeRoot) shared.add(spec.project)
  }
  sharedIn.set(instances, shared)
  return shared
}

export const matches = (targets: TargetDescription): ((instance: Instance) => boolean) => {
  const labelled = targets.selector === undefined ? () => true : parseSelector(targets.selector)
  // Instances of before code roots were kept have none, and may be anybody's.
  const isThere = ({ repository, codeRoot }: Instance["spec"]): boolean =>
    targets.codeRoot === undefined ||
    repository !== undefined ||
    (codeRoot ?? targets.codeRoot) === targets.codeRoot
  return ({ spec }) =>
    (targets.project === undefined || (spec.project === targets.project && isThere(spec))) &&
    (targets.batch === undefined ||
      (spec.state === "Paused" && spec.pause?.batch === targets.batch)) &&
    labelled(spec.labels)
}
