import { z } from "zod"
import { Fault } from "./faults.ts"
import { type Instance, nameSchema, projectSchema } from "./instance.ts"
import type { Targets } from "./tool.ts"

/** Equality-based label selectors as Kubernetes writes them: `team=web,tier!=db,urgent,!old`. */
const requirement = /^(?:!(?<absent>[\w./-]+)|(?<key>[\w./-]+)(?:(?<operator>==|!=|=)(?<value>[\w.-]*))?)$/

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
    throw new Fault("Invalid", "Give names, or project / selector / all, not both.", "Leave one of them out.")
  if (names) return { names }
  if (!described)
    throw new Fault("Invalid", "It is not said which instances are meant.", "Give names, project, selector or all: true.")
  return { ...(project !== undefined && { project }), ...(selector !== undefined && { selector }) }
}

export const matches = (targets: Exclude<Targets, { names: readonly string[] }>): ((instance: Instance) => boolean) => {
  const labelled = targets.selector === undefined ? () => true : parseSelector(targets.selector)
  return ({ spec }) =>
    (targets.project === undefined || spec.project === targets.project) &&
    (targets.batch === undefined || (spec.state === "Paused" && spec.pause?.batch === targets.batch)) &&
    labelled(spec.labels)
}
