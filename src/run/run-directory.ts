import { linkSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { z } from "zod"
import { holdSchema, lastSchema } from "../core/beat.ts"
import { circuitSchema } from "../core/circuit.ts"
import { directiveSchema } from "../core/directive.ts"
import { errorCode } from "../core/error-code.ts"
import { sequencedSchema } from "../core/frames.ts"
import { exitSchema, modeSchema, problemSchema, uidSchema } from "../core/instance.ts"
import { completionSchema } from "../core/loop.ts"
import { isolationSchema } from "../host/isolation.ts"
import { replaceFile } from "../host/replace-file.ts"
import { treeSchema } from "./tree-file.ts"
import { processIdSchema, turnSchema } from "./turn-file.ts"
import { usageFileSchema } from "./usage-file.ts"

/**
 * The run directory: what a runtime, a supervisor and its successor tell one another about one run.
 * Every file is written whole, by rename. `<state>/instances/<uid>/<place>/`, with `status/` for
 * what changes and `bin/` first on the loop's PATH.
 */

/**
 * Iterations of a run whose transcripts can be read; Claude Code itself forgets them after some
 * weeks.
 */
export const transcriptsMax = 50
const files = {
  /** Written once by whoever starts the run. */
  run: z.strictObject({
    name: z.string(),
    uid: uidSchema,
    place: z.string(),
    /** Orders the runs of one instance; absent in runs that a version before 0.5 started. */
    number: z.int().min(1).optional(),
    revision: z.string(),
    startedAtMs: z.int(),
    mode: modeSchema,
    /** Finished iterations of this instance in its runs before. */
    iterationsBefore: z.int().min(0),
    model: z.string().optional(),
    /** The loop: argv, and where it runs. */
    command: z.array(z.string()).min(1),
    directory: z.string(),
    /** Absent in what a version before 0.2 started: the person's tree. */
    tree: treeSchema.optional(),
    /** The real claude, an absolute path; where it was nowhere, one where it is looked for. */
    claude: z.string(),
    /** It stands in the policy: no other one counts. */
    claudeNamed: z.boolean().optional(),
    /** What the loop's environment has beside the supervisor's. */
    environment: z.record(z.string(), z.string()).optional(),
    /**
     * What decides that the loop is complete. Absent in a run of before this was known: its exit
     * code does.
     */
    completion: completionSchema.optional(),
    /** Which loop it is, and from where, in words. */
    loop: z.string().optional(),
    /** A run of before this was known has none. */
    isolation: isolationSchema.default("process tree"),
    socketPath: z.string(),
    credential: z.string(),
  }),
  /**
   * The supervisor that is responsible now; a successor takes port and token over, which stand in
   * the settings of a running claude.
   */
  supervisor: processIdSchema.extend({ port: z.int(), token: z.string() }),
  /** Written before the loop is started, which happens once. */
  launched: z.strictObject({ atMs: z.int() }),
  loop: processIdSchema,
  /** Where terminal multiplexers of the loop have their sockets; taken away with the run. */
  sockets: z.strictObject({ path: z.string() }),
  /** Written by the loop's parent, which outlives supervisors. */
  ended: z.strictObject({ code: z.int() }),
  turn: turnSchema,
  /**
   * How the last iteration ended, what it had been told, and what it means for the next one.
   * Carried into the next run of the same attempt.
   */
  last: z.strictObject({
    last: lastSchema,
    told: z.string().optional(),
    hold: holdSchema.optional(),
    circuit: circuitSchema.optional(),
  }),
  /** Claude Code's own records of this run's iterations, absolute paths, the newest last. */
  transcripts: z.strictObject({ paths: z.array(z.string().max(4096)).max(transcriptsMax) }),
  usage: usageFileSchema,
  directive: directiveSchema,
  /** Receipts and events that the gateway has not acknowledged. */
  spool: z.strictObject({ frames: z.array(sequencedSchema) }),
  /** Written before a supervisor is told to stop: one that was not yet listening finds it. */
  stop: z.strictObject({ atMs: z.int() }),
  exit: z.strictObject({ exit: exitSchema, problem: problemSchema.optional() }),
}
type Files = typeof files
export type FileName = keyof Files
export type FileOf<N extends FileName> = z.output<Files[N]>
export type RunFile = FileOf<"run">
export { processIdSchema, type TurnFile } from "./turn-file.ts"

export const fileName = (name: FileName): string => `${name}.json`

export interface RunDirectory {
  readonly path: string
  readonly stateDirectory: string
  readonly status: string
  readonly bin: string
  /** Timestamped lines of the loop; `log.1` is the part before. */
  readonly log: string
  /**
   * The FIFO that the loop writes to: it outlives every supervisor, and a loop whose reader is away
   * waits instead of losing lines.
   */
  readonly output: string
  /** Undefined when it is not there or cannot be read as what it should be. */
  get<N extends FileName>(name: N): FileOf<N> | undefined
  set<N extends FileName>(name: N, value: FileOf<N>): void
  /** Writes it if it is not there yet; false when somebody else has. */
  claim<N extends FileName>(name: N, value: FileOf<N>): boolean
  remove(name: FileName): void
}

export function runDirectory(path: string): RunDirectory {
  const status = join(path, "status")
  return {
    path,
    stateDirectory: join(path, "../../.."),
    status,
    bin: join(path, "bin"),
    log: join(path, "log"),
    output: join(path, "output"),
    get<N extends FileName>(name: N): FileOf<N> | undefined {
      // The table's own entry: TypeScript does not follow N through it.
      const schema: z.ZodType<FileOf<N>> = files[name] as unknown as z.ZodType<FileOf<N>>
      try {
        return schema.safeParse(JSON.parse(readFileSync(join(status, fileName(name)), "utf8"))).data
      } catch {
        return undefined
      }
    },
    set(name, value) {
      replaceFile(join(status, fileName(name)), JSON.stringify(value))
    },
    claim(name, value) {
      const file = join(status, fileName(name))
      const draft = `${file}.${process.pid}.tmp`
      try {
        writeFileSync(draft, JSON.stringify(value), { mode: 0o600 })
        linkSync(draft, file) // it appears whole, and for one only
        return true
      } catch (error) {
        if (errorCode(error) === "EEXIST") return false
        throw error
      } finally {
        rmSync(draft, { force: true })
      }
    },
    remove(name) {
      rmSync(join(status, fileName(name)), { force: true })
    },
  }
}
