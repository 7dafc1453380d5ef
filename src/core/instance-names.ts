import { Fault } from "./faults.ts"
import { type Instance, nameSchema } from "./instance.ts"
import type { ToolContext } from "./tool.ts"

/** How what is spawned is called. */

const namesTriedMax = 10_000
const nameMax = 53

/** A DNS label that leaves room for a suffix of `suffixMax` characters and its hyphen. */
function labelOf(text: string, suffixMax: number): string {
  const label = text
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, "-")
    .replace(/^-+/, "")
    .slice(0, nameMax - suffixMax - 1)
    .replace(/-+$/, "")
  return nameSchema.safeParse(label).success ? label : "agent"
}

const keyedName = (base: string, key: string): string => `${labelOf(base, key.length)}-${key}`

/**
 * A name that nobody has, `<label>-<number>`: the lowest number where none was removed, and found
 * in a few looks however many there are, by doubling, then halving.
 */
export async function freeName(
  { store }: Pick<ToolContext, "store">,
  label: string,
): Promise<string> {
  const isTaken = async (number: number): Promise<boolean> =>
    store.replica.get(`${label}-${number}`) !== undefined
  let taken = 0
  let free = 1
  while (await isTaken(free)) {
    taken = free
    free *= 2
    if (taken >= namesTriedMax)
      throw new Fault(
        "Conflict",
        `The names ${label}-1 to ${label}-${taken} seem to be taken.`,
        "Give a name of your own.",
      )
  }
  while (free - taken > 1) {
    const middle = Math.floor((taken + free) / 2)
    if (await isTaken(middle)) taken = middle
    else free = middle
  }
  return `${label}-${free}`
}

export interface Naming {
  /** What was asked for, by a name or a key. */
  readonly wanted: string | undefined
  /** By a key, so that a repeat of the call finds the same. */
  readonly keyed: string | undefined
  /** One that is free now, like the one that was asked for. */
  free(): Promise<string>
}
interface NameRequest {
  readonly name?: string | undefined
  readonly idempotencyKey?: string | undefined
}

/** @throws Invalid for a name that could be a child's. */
export function namingOfPerson(
  ctx: Pick<ToolContext, "store">,
  { name, idempotencyKey: key }: NameRequest,
  project: string,
): Naming {
  const base = name ?? project
  const keyed = key === undefined ? undefined : keyedName(base, key)
  const wanted = keyed ?? name
  if (wanted?.includes(below))
    throw new Fault(
      "Invalid",
      `The name ${wanted} has two hyphens in a row, which only agents' children have.`,
      "Give a name or key without them.",
    )
  return { wanted, keyed, free: () => freeName(ctx, labelOf(base, 6)) }
}

/** Stands between a parent's name and its child's. */
const below = "--"
const digitsOfUid = 8
/**
 * What is left of a longer name of a parent, where its child's own part needs the room: a
 * character, a hyphen, a part of the parent's uid.
 */
const parentMin = digitsOfUid + 2
/** It leaves room for a number of five digits and its hyphen, behind any parent. */
const ownNumberedMax = nameMax - below.length - parentMin - 6
const ownMax = ({ name }: Pick<Instance, "name">): number =>
  nameMax - below.length - Math.min(name.length, parentMin)

/** @throws Invalid when the child's own part is too long. */
function nameBelow(parent: Pick<Instance, "name" | "uid">, own: string): string {
  const { name, uid } = parent
  const room = nameMax - below.length - own.length
  if (name.length <= room) return `${name}${below}${own}`
  if (own.length > ownMax(parent))
    throw new Fault(
      "Invalid",
      `A child's name begins with its parent's, and ${JSON.stringify(own)} is too long for the rest.`,
      `Give a name of at most ${ownMax(parent)} characters.`,
    )
  const digits = uid.replace(/[^a-z0-9]/g, "").slice(0, digitsOfUid)
  return `${name.slice(0, room - digits.length - 1)}-${digits}${below}${own}`
}

/**
 * A child's own part of what it was asked for as: in full, as an answer gives it, or with one
 * hyphen behind its parent's name.
 */
function ownPart(parent: Pick<Instance, "name" | "uid">, requested: string): string {
  for (const { index } of requested.matchAll(/--(?=[a-z0-9])/g)) {
    const own = requested.slice(index + below.length)
    if (own.length <= ownMax(parent) && nameBelow(parent, own) === requested) return own
  }
  const before = `${parent.name}-`
  return requested.startsWith(before)
    ? requested.slice(before.length).replace(/^-+/, "")
    : requested
}

/**
 * A child is called by its parent's name and its own: `fox--tester`. No person may give such a
 * name, so that an agent that asks for one learns nothing about the names of those whom it does not
 * see. What it names in full stays.
 * @throws Invalid when the name is too long.
 */
export function namingOfChild(
  ctx: Pick<ToolContext, "store">,
  { name, idempotencyKey: key }: NameRequest,
  parent: Pick<Instance, "name" | "uid">,
): Naming {
  const own = name === undefined ? undefined : ownPart(parent, name)
  const before =
    own === undefined || key === undefined
      ? ""
      : `${own.slice(0, ownMax(parent) - key.length - 1)}-`
  const keyed = key === undefined ? undefined : nameBelow(parent, `${before}${key}`)
  return {
    wanted: keyed ?? (own === undefined ? undefined : nameBelow(parent, own)),
    keyed,
    free: () =>
      freeName(
        ctx,
        nameBelow(
          parent,
          `${own === undefined ? "" : `${own.slice(0, ownNumberedMax)}-`}00000`,
        ).slice(0, -6),
      ),
  }
}
