import {
  closeSync,
  fsyncSync,
  linkSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs"
import { basename, join } from "node:path"
import { z } from "zod"
import { holdSchema, lastSchema } from "../core/beat.ts"
import { circuitSchema } from "../core/circuit.ts"
import { directiveSchema } from "../core/directive.ts"
import { sequencedSchema } from "../core/frames.ts"
import { exitSchema, modeSchema, problemSchema, uidSchema } from "../core/instance.ts"
import { completionSchema } from "../core/loop.ts"
import { isolationSchema } from "../host/isolation.ts"
import { replaceFile } from "../host/replace-file.ts"
import { begunSchema, treeSchema } from "./tree-file.ts"
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
      const schema: z.ZodType<FileOf<N>> = files[name] as unknown as z.ZodType<FileOf<N>> // the table's own entry: TypeScript does not follow N through it
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
        if (error instanceof Error && "code" in error && error.code === "EEXIST") return false
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

export const instanceDirectory = (stateDirectory: string, uid: string): string =>
  join(stateDirectory, "instances", uid)

const lasting = { tree: treeSchema, begun: begunSchema }
/**
 * What stays for the life of an instance, beside its runs: `tree` is the runtime's, `begun` the
 * supervisor's.
 */
export function readLasting<N extends keyof typeof lasting>(
  instance: string,
  name: N,
): z.output<(typeof lasting)[N]> | undefined {
  const schema: z.ZodType<z.output<(typeof lasting)[N]>> = lasting[name] as unknown as z.ZodType<
    z.output<(typeof lasting)[N]>
  > // as in `get` above
  try {
    return schema.safeParse(JSON.parse(readFileSync(join(instance, `${name}.json`), "utf8"))).data
  } catch {
    return undefined
  }
}
export const writeLasting = <N extends keyof typeof lasting>(
  instance: string,
  name: N,
  value: z.output<(typeof lasting)[N]>,
): void => {
  const path = join(instance, `${name}.json`)
  replaceFile(path, JSON.stringify(value))
  for (const one of [path, instance]) onDisk(one) // without it, a tree would be there that nobody knows
}

/** What begins so is being made, or was when the machine stopped. */
const draftMark = "."

/**
 * It appears under its place when it is whole, and is on the disk by then: half a run directory
 * would hide the runs before it.
 */
export function createRunDirectory(stateDirectory: string, run: RunFile): RunDirectory {
  const instance = instanceDirectory(stateDirectory, run.uid)
  mkdirSync(instance, { recursive: true, mode: 0o700 })
  for (const name of readdirSync(instance))
    if (name.startsWith(draftMark)) rmSync(join(instance, name), { recursive: true, force: true })
  const draft = runDirectory(join(instance, draftMark + run.place))
  for (const path of [draft.status, draft.bin]) mkdirSync(path, { recursive: true, mode: 0o700 })
  draft.set("run", run)
  for (const path of [join(draft.status, fileName("run")), draft.status, draft.path]) onDisk(path)
  const directory = runDirectory(join(instance, run.place))
  renameSync(draft.path, directory.path)
  onDisk(instance)
  return directory
}
function onDisk(path: string): void {
  const file = openSync(path, "r")
  try {
    fsyncSync(file)
  } finally {
    closeSync(file)
  }
}

/**
 * A new place: the moment of its start in a form that sorts, and chance. It is later than the place
 * before, also when the clock was set back: what sorts later is newer.
 */
export function placeAfter(before: string | undefined, nowMs: number, chance: string): string {
  const last = before === undefined ? 0 : Number.parseInt(basename(before), 36) || 0
  return `${Math.max(nowMs, last + 1)
    .toString(36)
    .padStart(9, "0")}-${chance}`
}

/**
 * The run directories of an instance, oldest first: places begin with the moment of their start, in
 * a form that sorts.
 */
export function runsOf(stateDirectory: string, uid: string): readonly string[] {
  const directory = instanceDirectory(stateDirectory, uid)
  try {
    return readdirSync(directory, { withFileTypes: true })
      .filter((entry) => entry.isDirectory() && !entry.name.startsWith(draftMark))
      .map(({ name }) => join(directory, name))
      .toSorted()
  } catch {
    return []
  }
}
export const instancesIn = (stateDirectory: string): readonly string[] => {
  try {
    return readdirSync(join(stateDirectory, "instances"))
  } catch {
    return []
  }
}
