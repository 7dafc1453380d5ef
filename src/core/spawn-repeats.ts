import { Fault } from "./faults.ts"
import { indexOf } from "./fleet-index.ts"
import type { Instance } from "./instance.ts"
import { nameOf, type Principal } from "./principal.ts"
import type { ToolContext } from "./tool.ts"
import { cut, spanOf } from "./view.ts"

/** Whether a spawn repeats an earlier one: a client that was cut off cannot know. */

const recentMs = 60_000

/**
 * Digest of what a call asks for. Its fields are in the schema's order, whatever the caller's was.
 */
export const spawnDigest = ({ sha256 }: Pick<ToolContext, "sha256">, input: object): string =>
  sha256(JSON.stringify(input)).slice(0, 32)

export const spawnOrigin = (
  who: Principal,
  input: string,
): NonNullable<Instance["spec"]["origin"]> => ({
  by: cut(nameOf(who), 200),
  input,
})

/**
 * Who made it, as the caller would say it; undefined of what was made before that was written down.
 */
export function makerOf({ spec }: Instance, who: Principal): string | undefined {
  if (!spec.origin) return undefined
  // An instance's name may be used again; its uid is not.
  const isYours =
    spec.origin.by === cut(nameOf(who), 200) &&
    (who.kind === "human" || spec.lineage.at(-1) === who.uid)
  return isYours ? "you" : spec.origin.by
}

/** The last instance that an equal call of the same caller made within a minute. */
export function equalSpawnBefore(
  { who, clock }: Pick<ToolContext, "who" | "clock">,
  others: readonly Instance[],
  input: string,
): Instance | undefined {
  const nowMs = clock.nowMs()
  // One that somebody stopped since is repeated on purpose.
  return indexOf(others)
    .open()
    .filter(
      ({ deletedAtMs, createdAtMs }) =>
        deletedAtMs === undefined && Math.abs(nowMs - createdAtMs) < recentMs,
    )
    .filter((one) => one.spec.origin?.input === input && makerOf(one, who) === "you")
    .toSorted((a, b) => b.createdAtMs - a.createdAtMs)[0]
}

/** The conflict on a name: whose it is, as far as the caller may know, and how to go on. */
export async function nameTaken(
  ctx: Pick<ToolContext, "store" | "who" | "clock">,
  name: string,
  {
    others,
    project,
    free,
  }: { others: readonly Instance[]; project: string; free: () => Promise<string> },
): Promise<Fault> {
  const another = `Give another name, e.g. "name":"${await free()}".`
  // Below its parent's name a child may meet one of a former bearer of that name; of whom no more
  // is told.
  const bearer = ctx.store.replica.get(name)
  if (!bearer || !indexOf(others).byUid.get(bearer.uid))
    return new Fault("Conflict", `The name ${name} is taken.`, another)
  if (bearer.deletedAtMs !== undefined)
    return new Fault(
      "Conflict",
      `The name ${name} still belongs to an instance that is being removed.`,
      `Wait until it is gone, or: ${another}`,
    )
  const maker = makerOf(bearer, ctx.who)
  const made = `made ${spanOf(ctx.clock.nowMs() - bearer.createdAtMs)} ago${maker === undefined ? "" : ` by ${maker}`}`
  const where = bearer.spec.project === project ? "this project" : `project ${bearer.spec.project}`
  return new Fault(
    "Conflict",
    `The name ${name} is taken: ${made} for ${where}.`,
    `If that is the one you mean: inspect_instance {"name":"${name}"}. ${another}`,
  )
}
