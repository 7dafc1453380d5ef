import { z } from "zod"
import { reasonSchema } from "./reason.ts"
import { roles } from "./role.ts"
import { refSchema, repositorySchema, workspaceSchema } from "./workspace.ts"

/** Identity of an instance. Its name is for people and may be used again; a uid never is. */
export const uidSchema = z.string().min(1).max(64).brand<"Uid">()
export type Uid = z.output<typeof uidSchema>

/** A DNS label of at most 53 characters, so that `ralf-<name>` is a valid pod name. */
export const nameSchema = z
  .string()
  .regex(
    /^[a-z0-9]([-a-z0-9]{0,51}[a-z0-9])?$/,
    "must be a lower-case DNS label of 1 to 53 characters",
  )
/** A directory name, never a path: no separator, and neither `.` nor `..`. */
export const projectSchema = z
  .string()
  .regex(/^(?!\.{1,2}$)[A-Za-z0-9._-]{1,63}$/, "must be 1 to 63 characters of A-Z a-z 0-9 . _ -")
export const labelsSchema = z
  .record(z.string().regex(/^[A-Za-z0-9]([-A-Za-z0-9_./]{0,61}[A-Za-z0-9])?$/), z.string().max(63))
  .refine((labels) => Object.keys(labels).length <= 32, "must have at most 32 labels")
export const goalSchema = z
  .string()
  .min(1)
  .refine((text) => new TextEncoder().encode(text).length <= 16_384, "must be at most 16 KiB")

export const budgetSchema = z.strictObject({
  usd: z.number().positive().max(1_000_000).optional(),
  tokens: z.int().positive().optional(),
  iterations: z.int().positive().optional(),
  hours: z.number().positive().max(100_000).optional(),
})
/**
 * Limits of an instance and its whole lineage below: US dollars at list price, tokens of all kinds,
 * iterations, hours of iterations.
 */
export type Budget = z.output<typeof budgetSchema>

export const childrenSchema = z.strictObject({
  /** Levels of descendants; 0: it may spawn nobody. */
  depth: z.int().min(0).max(16),
  /** Descendants in its whole life, removed ones too. */
  total: z.int().min(0).max(10_000),
  /** Descendants that have a place at once. */
  running: z.int().min(0).max(1000),
})
/** What an instance may spawn. */
export type Children = z.output<typeof childrenSchema>
/** As a spec or a call gives them: what is left out is filled in from the defaults. */
export const partialChildrenSchema = childrenSchema.partial()
export type PartialChildren = z.output<typeof partialChildrenSchema>

export const defaultsSchema = z.strictObject({
  budget: budgetSchema.optional(),
  children: childrenSchema.optional(),
  model: z.string().min(1).max(200).optional(),
})
/**
 * What counts where a spec says nothing. Taken from the policy (for a child, from its parent) when
 * the instance's account is opened, and kept there: a later change of the policy changes nothing.
 */
export type Defaults = z.output<typeof defaultsSchema>

/**
 * A person has a role, an instance a uid. The server alone writes it: rows of before 0.4 have none.
 */
const authorSchema = z.strictObject({
  id: z.string().max(200),
  role: z.enum(roles).optional(),
  uid: uidSchema.optional(),
})
/** Who stopped or paused an instance. */
export type Author = z.output<typeof authorSchema>

export const pauseSchema = z.strictObject({
  when: z.enum(["now", "iteration-end"]),
  untilMs: z.int().positive().optional(),
  note: z.string().max(500).optional(),
  batch: z.string().max(64).optional(),
  by: authorSchema.optional(),
  atMs: z.int().optional(),
})
/** A standing order: what is said to the agent at the start of every iteration. */
export const orderSchema = z.strictObject({
  id: z.string().max(64),
  text: z.string().min(1).max(500),
})
export const ordersMax = 20
export const scheduleSchema = z.strictObject({
  /** Five fields, as cron(5) has them. */
  cron: z.string().min(1).max(100),
  /** How long a window stays open; a week at most. */
  minutes: z.int().min(1).max(10_080),
  timezone: z.string().min(1).max(64).default("UTC"),
})
/** Iterations start only inside the windows that it opens. */
export type Schedule = z.output<typeof scheduleSchema>
export const modeSchema = z.enum(["until-complete", "continuous", "once"])
export const prioritySchema = z.int().min(-100).max(100)

/** What people want. The system never writes it. */
export const specSchema = z.strictObject({
  project: projectSchema,
  state: z.enum(["Running", "Paused", "Stopped"]),
  pause: pauseSchema.optional(),
  /**
   * Whose stop stands, also where the loop had ended by itself already: then nobody below them
   * starts it again.
   */
  stop: z.strictObject({ by: authorSchema, atMs: z.int() }).optional(),
  attempt: z.int().min(1),
  goal: goalSchema.optional(),
  orders: z.array(orderSchema).max(ordersMax),
  mode: modeSchema,
  loop: z.string().max(63),
  /**
   * Rows of before 0.2 have none: they worked in the person's tree, which `auto` keeps for them.
   */
  workspace: workspaceSchema.default("auto"),
  /** Worked on in a clone, and what a tree of its own begins from. */
  repository: repositorySchema.optional(),
  ref: refSchema.optional(),
  /**
   * The code root that the project is in, an absolute path; written by the server. Without it, the
   * one that serve was started with.
   */
  codeRoot: z.string().max(4096).optional(),
  model: z.string().min(1).max(200).optional(),
  priority: prioritySchema,
  labels: labelsSchema,
  schedule: scheduleSchema.optional(),
  /** Read it, `children` and `model` through `instanceLimits`, which fills in the defaults. */
  budget: budgetSchema.optional(),
  children: partialChildrenSchema.optional(),
  lineage: z.array(uidSchema).max(16),
  /** Who spawned it, as the audit names them, and a digest of what the call asked for. */
  origin: z.strictObject({ by: z.string().max(200), input: z.string().max(64) }).optional(),
})
export type Spec = z.output<typeof specSchema>

export const problemSchema = z.strictObject({
  reason: z.string().max(64),
  message: z.string().max(2000),
})
/**
 * Why a run cannot be what it should be: a short CamelCase reason and a sentence that says what to
 * do.
 */
export type Problem = z.output<typeof problemSchema>

export const outcomeSchema = z.enum(["Complete", "Failed"])
export const exitSchema = z.strictObject({
  code: z.int(),
  atMs: z.int(),
  outcome: outcomeSchema.optional(),
})
/**
 * How a run ended. `outcome` stands only where the loop's own word decides that it is not to be
 * started again.
 */
export type Exit = z.output<typeof exitSchema>

export const runPhaseSchema = z.enum(["Pending", "Running", "Stopping", "Exited"])
export const admissionSchema = z.strictObject({
  verdict: z.enum(["Admitted", "Queued", "Held"]),
  reason: reasonSchema,
  message: z.string().max(1000),
  untilMs: z.int().optional(),
  term: z.int(),
})
export type Admission = z.output<typeof admissionSchema>
/** An admission before a leader has put its term on it. */
export type Verdict = Omit<Admission, "term">
export const runSchema = z.strictObject({
  phase: runPhaseSchema,
  revision: z.string(),
  place: z.string(),
  /** Orders the runs of one instance; absent in what a version before 0.5 wrote. */
  number: z.int().min(1).optional(),
  startedAtMs: z.int(),
  restarts: z.int().min(0),
  /** Which loop was taken, and from where, in words. */
  loop: z.string().optional(),
  lastExit: exitSchema.optional(),
  problem: problemSchema.optional(),
  term: z.int(),
})
export type Run = z.output<typeof runSchema>
/** Two sections, one writer each: `admission` is the scheduler's, `run` the operator's. */
export const statusSchema = z.strictObject({
  admission: admissionSchema.optional(),
  run: runSchema.optional(),
})
export type Status = z.output<typeof statusSchema>
export type Section = keyof Status

export interface Instance {
  readonly name: string
  readonly uid: Uid
  /** Opaque; names the revision of the spec and of each status section that was seen. */
  readonly version: string
  readonly createdAtMs: number
  /** Marked for deletion: it vanishes when nothing of it runs any more. */
  readonly deletedAtMs?: number
  readonly spec: Spec
  readonly status: Status
}

/**
 * What people want at this moment: a pause whose `untilMs` has passed is over without anybody
 * writing it.
 */
export const desiredState = ({ state, pause }: Spec, nowMs: number): Spec["state"] =>
  state === "Paused" && pause?.untilMs !== undefined && pause.untilMs <= nowMs ? "Running" : state

/** True while a run of the instance may have processes. */
export const hasLiveRun = ({ status: { run } }: Instance): boolean =>
  run !== undefined && run.phase !== "Exited"

/**
 * True when the status may be about to show this run: it is written a moment after a start. False
 * for a run that has exited or that a later one replaced. A run without a number is one that a
 * version before 0.5 started, and older than any that has one.
 */
export const isUpcomingRun = (
  { place, number }: { readonly place: string; readonly number?: number | undefined },
  known: Run | undefined,
): boolean =>
  known === undefined ||
  (known.place !== place && (known.number === undefined || (number ?? 0) > known.number))

/**
 * True when its run is of the attempt that people want now: what a run of an earlier one met or
 * said is over.
 */
export const isFromCurrentAttempt = ({ spec, status: { run } }: Instance): boolean =>
  run?.revision.startsWith(`${spec.attempt}-`) === true

/** Ended by the loop's own word: not started again until somebody raises `attempt`. */
export const hasFinished = (instance: Instance): boolean => {
  const { run } = instance.status
  return (
    run?.phase === "Exited" && run.lastExit?.outcome !== undefined && isFromCurrentAttempt(instance)
  )
}
