import type { z } from "zod"

/**
 * What is wrong with an input, in words: `goal must not be empty`. A message of a schema of ours
 * is a predicate (`must be at most 16 KiB`), so that it reads after the field's name.
 */

type Issue = z.core.$ZodIssue

/** More would bury what matters. */
const findingsMax = 10

const kindWords: Readonly<Record<string, string>> = {
  int: "a whole number",
  number: "a number",
  string: "text",
  boolean: "true or false",
  array: "a list",
  object: "an object",
  record: "an object",
}

/** `names[0]`, `budget.usd`. */
const pathText = (path: readonly PropertyKey[]): string =>
  path
    .map((key) => (typeof key === "number" ? `[${key}]` : `.${String(key)}`))
    .join("")
    .slice(1)

/** How much of what kind of thing is allowed: `at least 3 characters`, `more than 0`. */
function boundText(origin: string, bound: string, amount: unknown): string {
  if (origin === "string") return `have ${bound} ${amount} characters`
  if (origin === "array" || origin === "set") return `have ${bound} ${amount} items`
  return `be ${bound} ${amount}`
}

function predicateOf(issue: Issue): string {
  switch (issue.code) {
    case "invalid_type":
      // With the input reported, one that is not there is told from one of another type.
      return "input" in issue && issue.input === undefined
        ? "is required"
        : `must be ${kindWords[issue.expected] ?? issue.expected}`
    case "invalid_value":
      return `must be ${issue.values.length > 1 ? "one of: " : ""}${issue.values.join(", ")}`
    case "too_small": {
      const { origin, minimum, inclusive } = issue
      const isText = origin === "string" || origin === "array"
      if (isText && minimum === 1) return "must not be empty"
      return `must ${boundText(origin, inclusive === false ? "more than" : "at least", minimum)}`
    }
    case "too_big": {
      const { origin, maximum, inclusive } = issue
      return `must ${boundText(origin, inclusive === false ? "less than" : "at most", maximum)}`
    }
    case "unrecognized_keys":
      return `has no field ${issue.keys.map((key) => JSON.stringify(key)).join(", ")}`
    case "invalid_key":
      return "has a name in it that is not allowed"
    default:
      return issue.message
  }
}

/** One finding as a sentence without its full stop; `whole` names what the input is. */
export function renderFinding(issue: Issue, whole = "The input"): string {
  const path = pathText(issue.path)
  return `${path === "" ? whole : path} ${predicateOf(issue)}`
}

/** All findings, one a line. */
export const renderFindings = ({ issues }: z.ZodError): string =>
  issues
    .slice(0, findingsMax)
    .map((issue) => renderFinding(issue))
    .join("\n")
