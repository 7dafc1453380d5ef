import type { Author, Spec, Uid } from "./instance.ts"
import type { Principal } from "./principal.ts"
import { cut, spanOf } from "./view.ts"

/**
 * Who stopped or paused an instance, and who may lift that: whoever did it, an ancestor above them,
 * or a person.
 */

/**
 * One stop or pause that stands. Without an author an older version made it, or somebody by hand:
 * it counts as a person's.
 */
export interface Act {
  readonly what: "stopped" | "paused"
  readonly by?: Author | undefined
  readonly atMs?: number | undefined
}

export const authorOf = (who: Principal): Author =>
  who.kind === "human" ? { id: cut(who.id, 200), role: who.role } : { id: who.id, uid: who.uid }

/**
 * Before authors were kept, an instance's pause had its uid at the end of the batch, all of it cut
 * to 64 characters.
 */
function pauserOf(
  { by, batch = "" }: NonNullable<Spec["pause"]>,
  lineage: readonly Uid[],
): Author | undefined {
  const dot = batch.indexOf(".")
  if (by || dot < 1 || dot === batch.length - 1) return by
  const uid = lineage.find((one) => one.startsWith(batch.slice(dot + 1)))
  return uid && { id: "", uid }
}

/**
 * All that has to be lifted before it runs, the stop first. A stop keeps the pause that it found.
 */
export function currentActs(spec: Spec, nowMs: number): readonly Act[] {
  const { state, pause, lineage } = spec
  const acts: Act[] = []
  if (state === "Stopped" || spec.stop) acts.push({ what: "stopped", ...spec.stop })
  const isOver = pause?.untilMs !== undefined && pause.untilMs <= nowMs
  if (!isOver && (state === "Paused" || (state === "Stopped" && pause)))
    acts.push({ what: "paused", by: pause && pauserOf(pause, lineage), atMs: pause?.atMs })
  return acts
}

/**
 * How far above an instance somebody stands: a person above all, then its lineage from the first of
 * its tree down to its parent.
 */
const person = -1
const levelOf = (who: Principal, lineage: readonly Uid[]): number => {
  if (who.kind === "human") return person
  const index = lineage.indexOf(who.uid)
  return index < 0 ? lineage.length : index
}
/** Whom its lineage does not name is taken for a person. */
const levelOfAuthor = ({ by }: Act, lineage: readonly Uid[]): number =>
  by?.uid === undefined || by.role !== undefined ? person : lineage.indexOf(by.uid)

/** The first of these acts that `who` may not lift. */
export const actAbove = (
  who: Principal,
  acts: readonly Act[],
  lineage: readonly Uid[],
): Act | undefined => acts.find((act) => levelOfAuthor(act, lineage) < levelOf(who, lineage))

/**
 * Whether the word of `who` replaces this act, or, where nothing stands, keeps somebody from
 * starting the instance who otherwise may.
 */
export const overrides = (who: Principal, act: Act | undefined, lineage: readonly Uid[]): boolean =>
  levelOf(who, lineage) < (act ? levelOfAuthor(act, lineage) : lineage.length - 1)

const authorWords = (by: Author | undefined): string => {
  if (!by) return "a person"
  if (by.role !== undefined) return `${by.role} ${by.id}`
  return by.id || "an agent above it"
}

/** ` by operator ann 5 min ago`; empty where it is not known. */
export const byWhom = ({ by, atMs }: Omit<Act, "what">, nowMs: number): string =>
  `${by ? ` by ${authorWords(by)}` : ""}${atMs === undefined ? "" : ` ${spanOf(nowMs - atMs)} ago`}`

/**
 * The same for what is computed once and shown later: ` by operator ann at 2026-11-25 18:50 UTC`.
 */
export const byWhomAt = ({ by, atMs }: Omit<Act, "what">): string =>
  `${by ? ` by ${authorWords(by)}` : ""}${
    atMs === undefined
      ? ""
      : ` at ${new Date(atMs).toISOString().slice(0, 16).replace("T", " ")} UTC`
  }`

/**
 * Why `who` may not start, or remove, an instance of which this is the spec; undefined where they
 * may.
 */
export function refusalToLift(who: Principal, spec: Spec, nowMs: number): string | undefined {
  const act = actAbove(who, currentActs(spec, nowMs), spec.lineage)
  if (!act) return undefined
  const { what, by } = act
  const to = by?.uid !== undefined && by.id !== "" ? by.id : "@operators"
  const words = by ? byWhom(act, nowMs) : ` by ${authorWords(by)}${byWhom(act, nowMs)}`
  return `It was ${what}${words}: ask with message_instances {"to":["${to}"],"text":"…"}.`
}
