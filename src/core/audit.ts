import type { Fault } from "./faults.ts"
import type { Emitted } from "./link.ts"
import { nameOf, type Principal } from "./principal.ts"
import type { Targets } from "./tool.ts"
import { cut, oneLine } from "./view.ts"

const messageCharactersMax = 1000
const whoCharactersMax = 200
const namesMax = 100
const nameCharactersMax = 100

/** One call, as far as it came: who called what, on whom, and what came of it. */
export interface AuditedCall {
  readonly who: Principal
  readonly tool: string
  /** Names of what it was about, also of what it made; where none is known, how they were described. */
  readonly on: readonly string[]
  /** Switches that it set: `remove`, `all`, `dryRun`. */
  readonly flags?: readonly string[]
  /** Ids of what it made that has no name: messages, the batch of a pause. */
  readonly made?: readonly string[]
  readonly fault?: Fault | undefined
}

/** By role and name. Whom an identity provider knows has a name that may be another's, too, so the id stands behind it. */
export const personOf = (who: Principal): string => {
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

const short = (names: readonly string[] = []): string[] =>
  names.slice(0, namesMax).map((name) => oneLine(name, nameCharactersMax))
const listed = (before: string, names: readonly string[], after = ""): string =>
  names.length > 0 ? `${before}${names.join(", ")}${after}` : ""

/** What the timeline keeps of one call. What was said in it is not there: a goal or a message may hold what is nobody else's. */
export function auditOf({ who, tool, fault, ...call }: AuditedCall): Pick<Emitted, "kind" | "message" | "called"> {
  const [on, flags, made] = [short(call.on), short(call.flags), short(call.made)]
  const person = personOf(who)
  const verdict = fault ? `${fault.code}, ${fault.message}` : "done"
  const message = `${person} called ${tool}${listed(" (", flags, ")")}${listed(" on ", on)}${listed(", which made ", made)}: ${verdict}`
  return {
    kind: "Audit",
    message: cut(message, messageCharactersMax),
    called: {
      ...{ who: cut(person, whoCharactersMax), tool, on, verdict: fault?.code ?? "done" },
      ...(flags.length > 0 && { flags }),
      ...(made.length > 0 && { made }),
    },
  }
}
