import { Fault } from "./faults.ts"
import {
  type Instance,
  nameSchema,
  type Section,
  type Spec,
  type Status,
  specSchema,
  statusSchema,
  type Uid,
} from "./instance.ts"

/**
 * What every store of instances decides about a write, given the instance as it is now. `now` is
 * undefined where the name belongs to nobody.
 */

type Part = "spec" | Section

/** `3.1.5`: how often spec, admission and run were written. */
const counters = (version: string): Record<Part, number> => {
  const [spec = 0, admission = 0, run = 0] = version.split(".").map(Number)
  return { spec, admission, run }
}
const raised = (version: string, part: Part): string => {
  const now = counters(version)
  now[part]++
  return `${now.spec}.${now.admission}.${now.run}`
}
const isCurrent = (seen: Instance, now: Instance, part: Part): boolean =>
  counters(seen.version)[part] === counters(now.version)[part]

function frozen<T>(value: T): T {
  if (typeof value === "object" && value !== null)
    for (const inner of Object.values(value)) frozen(inner)
  return Object.freeze(value)
}

/**
 * The instance as it reads back, whatever the caller's objects do later. @throws Invalid for what
 * could not be read back.
 */
export function parseInstance(
  head: Omit<Instance, "spec" | "status">,
  specText: string,
  statusText: string,
): Instance {
  const spec = specSchema.safeParse(JSON.parse(specText))
  const status = statusSchema.safeParse(JSON.parse(statusText))
  const issue = spec.error?.issues[0] ?? status.error?.issues[0]
  if (!spec.success || !status.success)
    throw new Fault(
      "Invalid",
      `The instance ${head.name} is invalid: ${issue?.path.join(".")}: ${issue?.message}`,
      "Correct that field.",
    )
  return frozen({ ...head, spec: spec.data, status: status.data })
}

/** @throws Conflict when the name is taken, Invalid for what the schema does not allow. */
export function newInstance(
  now: Instance | undefined,
  { name, uid, createdAtMs }: { name: string; uid: Uid; createdAtMs: number },
  spec: Spec,
): Instance {
  if (now) {
    const leaving =
      now.deletedAtMs === undefined ? "" : " by an instance that is still being removed"
    throw new Fault("Conflict", `The name ${name} is taken${leaving}.`, "Choose another name.")
  }
  if (!nameSchema.safeParse(name).success)
    throw new Fault(
      "Invalid",
      `${JSON.stringify(name)} is not a valid instance name.`,
      "Use a lower-case DNS label of 1 to 53 characters.",
    )
  return parseInstance({ name, uid, version: "1.0.0", createdAtMs }, JSON.stringify(spec), "{}")
}

const changedMeanwhile = (part: Part, name: string): Fault =>
  new Fault("Conflict", `The ${part} of ${name} changed meanwhile.`, "Read it again and repeat.")

/** The instance that was seen, as it is now. @throws NotFound when it is gone. */
function currentOf(now: Instance | undefined, seen: Instance): Instance {
  if (now?.uid === seen.uid) return now
  throw new Fault(
    "NotFound",
    `The instance ${seen.name} is gone.`,
    "Call list_instances for those that exist.",
  )
}

/** The very same object when nothing changes. */
function changed(now: Instance, part: Part, spec: Spec, status: Status): Instance {
  const [specText, statusText] = [JSON.stringify(spec), JSON.stringify(status)]
  const next = parseInstance({ ...now, version: raised(now.version, part) }, specText, statusText)
  const isSame =
    JSON.stringify(next.spec) === JSON.stringify(now.spec) &&
    JSON.stringify(next.status) === JSON.stringify(now.status)
  return isSame ? now : next
}

/** @throws NotFound, Conflict when its spec is not the one that was seen, Invalid. */
export function withSpec(now: Instance | undefined, seen: Instance, spec: Spec): Instance {
  const current = currentOf(now, seen)
  if (!isCurrent(seen, current, "spec")) throw changedMeanwhile("spec", seen.name)
  return changed(current, "spec", spec, current.status)
}

/** @throws NotFound, Conflict when the section was written since, or by a newer leader; Invalid. */
export function withSection<S extends Section>(
  now: Instance | undefined,
  seen: Instance,
  section: S,
  value: NonNullable<Status[S]>,
): Instance {
  const current = currentOf(now, seen)
  if (!isCurrent(seen, current, section)) throw changedMeanwhile(section, seen.name)
  if (value.term < (current.status[section]?.term ?? value.term))
    throw new Fault(
      "Conflict",
      `The ${section} of ${seen.name} was written by a newer leader.`,
      "Read it again and repeat.",
    )
  return changed(current, section, current.spec, { ...current.status, [section]: value })
}

/**
 * Marked for deletion; undefined when there is nothing to mark. @throws Conflict when its spec is
 * not the one that was seen.
 */
export function marked(
  now: Instance | undefined,
  seen: Instance,
  deletedAtMs: number,
): Instance | undefined {
  if (now?.uid !== seen.uid || now.deletedAtMs !== undefined) return undefined
  if (!isCurrent(seen, now, "spec")) throw changedMeanwhile("spec", seen.name)
  return frozen({ ...now, deletedAtMs })
}

/** Only what is marked is released: nobody asked for the end of anything else. */
export const mayBeReleased = (now: Instance | undefined, seen: Instance): now is Instance =>
  now?.uid === seen.uid && now.deletedAtMs !== undefined
