/** What people see: computed when somebody asks, never stored. Who needs a person comes first. */
export const phases = [
  "NeedsAnswer",
  "Blocked",
  "Failed",
  "CrashLoop",
  "BudgetReached",
  "Held",
  "Unknown",
  "RateLimited",
  "Running",
  "Waiting",
  "Starting",
  "Queued",
  "Stopping",
  "Paused",
  "Completed",
  "Stopped",
] as const
export type Phase = (typeof phases)[number]

export interface PhaseReport {
  readonly phase: Phase
  /**
   * Why it is or is not running: our own words, names, numbers and times, and nothing that anybody
   * else wrote.
   */
  readonly why: string
  /** What to do next: our own words too, with tool calls that every face can show in its way. */
  readonly fix: string
  /**
   * What its agent, claude, git or whoever paused it said about that: one line, which nobody may
   * take for ours.
   */
  readonly untrusted?: string
  /** True when nothing goes on until a person does something. */
  readonly needsPerson: boolean
  /** True while it is in an iteration that is not frozen. */
  readonly isWorking: boolean
}

export const nothingToDo = "Nothing to do."
export const goesOnByItself = "Nothing to do: it continues by itself."

interface Details {
  readonly needsPerson?: boolean
  readonly isWorking?: boolean
  readonly untrusted?: string | undefined
}
export const phaseReport = (
  phase: Phase,
  why: string,
  fix: string,
  { needsPerson = false, isWorking = false, untrusted }: Details = {},
): PhaseReport => ({
  phase,
  why,
  fix,
  needsPerson,
  isWorking,
  ...(untrusted !== undefined && { untrusted }),
})

/** The calls that advice about one instance names. */
export const callsOn = (name: string) => ({
  logs: `read_logs {"name":"${name}"}`,
  resume: `resume_instances {"names":["${name}"]}`,
  stop: `stop_instances {"names":["${name}"]}`,
  remove: `stop_instances {"names":["${name}"],"remove":true}`,
  /** `replyTo`: the mail that it answers. */
  message: (replyTo?: string): string =>
    `message_instances {"to":["${name}"]${replyTo === undefined ? "" : `,"replyTo":"${replyTo}"`},"text":"…"}`,
  raiseBudget: `update_instance {"name":"${name}","budget":{…}}`,
  reschedule: `update_instance {"name":"${name}","schedule":…}`,
})
