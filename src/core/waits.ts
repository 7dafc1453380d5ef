import { z } from "zod"
import type { Beat } from "./beat.ts"
import { desiredState, hasFinished, type Instance, type Uid, uidSchema } from "./instance.ts"
import { listed, spanOf } from "./view.ts"

/**
 * What an instance waits for between two iterations, as it said in the first of them. Nobody ends a
 * wait: it concerns the turn that follows `turn` and no other, so a turn that is granted leaves it
 * behind.
 */

export const untilSchema = z.enum(["attention", "finished", "iteration", "answer"])
/**
 * attention: finished, or nothing goes on without a person; finished: will not run by itself again;
 * iteration: so many iterations are done; answer: to a mail.
 */
export type Until = z.output<typeof untilSchema>
export const modeOfWaitSchema = z.enum(["all", "any"])
export const waitTargetsMax = 50

const common = { turn: z.string().max(64), sinceMs: z.int(), untilMs: z.int() }
export const waitSchema = z.discriminatedUnion("kind", [
  z.strictObject({
    kind: z.literal("answer"),
    mail: z.string().max(64),
    text: z.string().max(500),
    ...common,
  }),
  z.strictObject({
    kind: z.literal("instances"),
    targets: z
      .array(z.strictObject({ uid: uidSchema, name: z.string(), iteration: z.int().optional() }))
      .min(1)
      .max(waitTargetsMax),
    until: untilSchema,
    mode: modeOfWaitSchema,
    ...common,
  }),
])
export type Wait = z.output<typeof waitSchema>
export type Question = Extract<Wait, { kind: "answer" }>
export type Parked = Extract<Wait, { kind: "instances" }>

/**
 * An open question and a blocked iteration are tried again after this long: as DESIGN says, 30
 * minutes.
 */
export const answerMs = 1_800_000
/** A parked wait that nothing ends is over after a day. */
export const parkedMs = 86_400_000

/**
 * True while it withholds the next turn: the iteration in which it was said is the last one, none
 * runs, and its time is not over.
 */
export const isCurrentWait = (
  { turn, untilMs }: Wait,
  beat: Beat | undefined,
  nowMs: number,
): boolean => beat?.last?.turn === turn && beat.turn?.state !== "Running" && nowMs < untilMs

export const questionOf = (waits: readonly Wait[] | undefined): Question | undefined =>
  waits?.find((wait): wait is Question => wait.kind === "answer")
export const parkedOf = (waits: readonly Wait[] | undefined): Parked | undefined =>
  waits?.find((wait): wait is Parked => wait.kind === "instances")

/** What a condition looks at, of one instance now. */
export interface TargetNow {
  readonly instance: Instance
  /** Nothing goes on until a person does something. */
  readonly needsPerson: boolean
  /** Iterations finished in all its runs. */
  readonly iterations: number
}
/**
 * True when one target meets the condition. One that is gone meets each but an answer, which then
 * never comes and is not waited for either.
 */
export function targetReached(
  until: Until,
  now: TargetNow | undefined,
  iteration: number | undefined,
  nowMs: number,
): boolean {
  if (!now || now.instance.deletedAtMs !== undefined) return true
  const ended = hasFinished(now.instance) || desiredState(now.instance.spec, nowMs) === "Stopped"
  switch (until) {
    case "attention":
      return ended || now.needsPerson
    case "iteration":
      return ended || now.iterations >= (iteration ?? 1)
    case "finished":
    case "answer":
      return ended
  }
}
export const conditionHolds = (mode: Parked["mode"], reached: readonly boolean[]): boolean =>
  mode === "all" ? reached.every(Boolean) : reached.some(Boolean)

export const renderWait = ({ targets, until, mode }: Parked): string => {
  const names = targets.map(({ name }) => name)
  const anyOf = mode === "any" && targets.length > 1 ? "any of " : ""
  return `Waits for ${anyOf}${listed(names, 5)} (until ${until}).`
}
/** Without the question itself, which is the agent's. */
export const renderQuestion = ({ sinceMs }: Question, nowMs: number): string =>
  `It asked a question ${spanOf(nowMs - sinceMs)} ago and waits for the answer.`

export type WaitsByUid = ReadonlyMap<Uid, readonly Wait[]>

/** Those whose time is not over. The same map where that is so of all. */
export function currentWaits(waits: WaitsByUid, nowMs: number): WaitsByUid {
  const isOver = ({ untilMs }: Wait): boolean => untilMs <= nowMs
  const ended = [...waits].filter(([, list]) => list.some(isOver))
  if (ended.length === 0) return waits
  const current = new Map(waits)
  for (const [uid, list] of ended)
    current.set(
      uid,
      list.filter((wait) => !isOver(wait)),
    )
  return current
}
