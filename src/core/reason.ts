import { z } from "zod"

/**
 * Why the system lets an instance run or not. Closed: a new reason is a new line here, in holds.ts
 * and in phase-held.ts.
 */
export const reasonSchema = z.enum([
  "Admitted",
  "NotWanted",
  "FleetFull",
  "BudgetReached",
  "RateLimited",
  "LoginRequired",
  "AccountProblem",
  "ServiceUnavailable",
  "ClaudeMissing",
  "Uncontrolled",
  "Blocked",
  "NeedsAnswer",
  "AwaitingInstances",
  "OutsideWindow",
  "CircuitOpen",
  "ChildrenFull",
  "ChildLimit",
  "ParentStopped",
])
export type Reason = z.output<typeof reasonSchema>
