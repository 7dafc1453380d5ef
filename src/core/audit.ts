import { z } from "zod"
import { type Fault, faultCodes } from "./faults.ts"
import { nameOf, type Principal } from "./principal.ts"
import type { Targets } from "./selector.ts"
import { cut, oneLine } from "./view.ts"

const whyCharactersMax = 1000
const whoCharactersMax = 200
const toolCharactersMax = 80
const namesMax = 100
const nameCharactersMax = 100
/** All names of one list together. */
const listCharactersMax = 4000

/** One call, as far as it came: who called what, on whom, and what came of it. */
export interface AuditedCall {
  readonly who: Principal
  readonly tool: string
  /**
   * Names of what it was about, also of what it made; where none is known, how they were described.
   */
  readonly on: readonly string[]
  /** Switches that it set: `remove`, `all`, `dryRun`. */
  readonly flags?: readonly string[]
  /** Ids of what it made that has no name: messages, the batch of a pause. */
  readonly made?: readonly string[]
  readonly fault?: Fault | undefined
}

/**
 * By role and name. Whom an identity provider knows has a name that may be another's, too, so the
 * id stands behind it.
 */
export const auditNameOf = (who: Principal): string => {
  if (who.kind === "instance") return nameOf(who)
  return `${who.role} ${who.name === undefined ? who.id : `${oneLine(who.name, 80)} (${who.id})`}`
}

/** How a call described its targets, where it named none. */
export function describeTargets(wanted: Targets): readonly string[] {
  if ("names" in wanted) return wanted.names
  const { project, selector, batch } = wanted
  const parts = Object.entries({ project, selector, batch }).flatMap(([key, value]) =>
    value === undefined ? [] : [`${key} ${value}`],
  )
  return parts.length > 0 ? parts : ["all"]
}

/** The names in an input that could not be understood as a whole. */
export function namesIn(raw: unknown): readonly string[] {
  if (typeof raw !== "object" || raw === null || raw instanceof Error) return []
  const fields = new Map(Object.entries(raw))
  return ["name", "names", "to", "project"]
    .flatMap((field) => fields.get(field))
    .filter((value): value is string => typeof value === "string")
}

/** Switches alone: other fields may hold what is nobody else's. */
export const flagsOf = (input: object): readonly string[] =>
  Object.entries(input).flatMap(([field, value]) => (value === true ? [field] : []))

/**
 * Names as a record keeps them: short, and no more than fit; the last one says how many were left
 * out.
 */
function short(names: readonly string[] = []): string[] {
  const kept: string[] = []
  let characters = 0
  for (const name of names.slice(0, namesMax).map((one) => oneLine(one, nameCharactersMax))) {
    characters += name.length
    if (characters > listCharactersMax) break
    kept.push(name)
  }
  return kept.length < names.length ? [...kept, `and ${names.length - kept.length} more`] : kept
}

const namesSchema = z.array(z.string())
/** What a record says of its call. */
export const auditedSchema = z.strictObject({
  /** Who called, as a person would read it: `operator ann`, `instance shop-1`. */
  who: z.string(),
  tool: z.string(),
  on: namesSchema,
  flags: namesSchema.optional(),
  made: namesSchema.optional(),
  verdict: z.enum(["done", ...faultCodes]),
  /** Why it was refused. It may quote whatever the caller sent. */
  why: z.string().optional(),
})
export type Audited = z.output<typeof auditedSchema>

/** One record as it is read: a call, or calls that are counted together. */
export interface AuditRecord extends Audited {
  /** Stays the same while further calls are counted in it. */
  readonly id: string
  readonly cursor: string
  /** Of the first call that it counts, and of the last. */
  readonly atMs: number
  readonly lastAtMs: number
  readonly count: number
  /**
   * It counts what was beyond the caller's share of a day: such calls differ in what they were on.
   */
  readonly isSum: boolean
}

/**
 * Records fall into four groups, each with a share of the room of its own, so that none can push
 * out another's: whatever agents do leaves people's records alone, and refusals leave alone what
 * changed something.
 */
export const auditShares = {
  "changes by people": 1 / 2,
  "changes by agents": 1 / 4,
  "refusals of people": 1 / 8,
  "refusals of agents": 1 / 8,
} as const
export type AuditGroup = keyof typeof auditShares

/**
 * How much of one day is recorded call by call; what is beyond that is counted. An admin could
 * empty the audit anyway.
 */
const refusalsPerDay = 1000
const agentsChangesPerDay = 2000
const peoplesChangesPerDay = 10_000

/** One call as it goes to the audit. */
export interface AuditEntry {
  readonly audited: Audited
  readonly group: AuditGroup
  /**
   * Who fills a share: an agent together with all that descends from the same root, so that
   * children are no more room.
   */
  readonly holder: string
  /** At most so many records of one holder and `series` in a day. */
  readonly perDayMax: number | undefined
  /** Each tool's changes are counted apart: a flood of one hides none of another. */
  readonly series: string
}

const perDayOf = (who: Principal, isDone: boolean): number | undefined => {
  if (who.kind === "human" && who.role === "admin") return undefined
  if (!isDone) return refusalsPerDay
  return who.kind === "human" ? peoplesChangesPerDay : agentsChangesPerDay
}

/**
 * What the audit keeps of one call. What was said in it is not there: a goal or a message may hold
 * what is nobody else's.
 */
export function auditEntryOf({ who, fault, ...call }: AuditedCall): AuditEntry {
  const [flags, made] = [short(call.flags), short(call.made)]
  const tool = cut(call.tool, toolCharactersMax)
  const isDone = fault === undefined
  const isAgent = who.kind === "instance"
  const changes = isAgent ? "changes by agents" : "changes by people"
  const refusals = isAgent ? "refusals of agents" : "refusals of people"
  return {
    audited: {
      who: cut(auditNameOf(who), whoCharactersMax),
      tool,
      on: short(call.on),
      ...(flags.length > 0 && { flags }),
      ...(made.length > 0 && { made }),
      verdict: fault?.code ?? "done",
      ...(fault && { why: cut(fault.message, whyCharactersMax) }),
    },
    group: isDone ? changes : refusals,
    holder: `${isDone ? "changes" : "refusals"} ${isAgent ? `instance ${who.lineage[0] ?? who.uid}` : `human ${who.id}`}`,
    perDayMax: perDayOf(who, isDone),
    series: isDone ? tool : "",
  }
}

/** Names that say no more than a name can, or how a call described its targets. */
const plainName = /^(?:(?:project |selector |batch )?[\w@.,:=!/-]+|the only project|and \d+ more)$/

/**
 * The names of a record that may stand beside our own words, and the others: there a caller could
 * have written anything.
 */
export function plainNamesOf(names: readonly string[]): {
  readonly plain: readonly string[]
  readonly other: readonly string[]
} {
  return {
    plain: names.filter((name) => plainName.test(name)),
    other: names.filter((name) => !plainName.test(name)),
  }
}
