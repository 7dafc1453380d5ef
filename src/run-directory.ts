import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { z } from "zod"
import { exitSchema, modeSchema, problemSchema, uidSchema } from "./core/instance.ts"
import { directiveSchema, doorSchema, holdSchema, lastSchema, usageSchema } from "./core/link.ts"
import { isolationSchema } from "./isolation.ts"

/**
 * The run directory: what a runtime, a supervisor and its successor tell one another about one run. Every file is written whole, by rename.
 * `<state>/instances/<uid>/<place>/`, with `status/` for what changes and `bin/` first on the loop's PATH.
 */

export const processIdSchema = z.strictObject({ pid: z.int(), startTicks: z.int() })

/** Iterations of a run whose transcripts can be read; Claude Code itself forgets them after some weeks. */
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
    /** The real claude, an absolute path. */
    claude: z.string(),
    /** A run of before this was known has none. */
    isolation: isolationSchema.default("process tree"),
    socketPath: z.string(),
    credential: z.string(),
  }),
  /** The supervisor that is responsible now; a successor takes port and token over, which stand in the settings of a running claude. */
  supervisor: processIdSchema.extend({ port: z.int(), token: z.string() }),
  loop: processIdSchema,
  /** Written by the loop's parent, which outlives supervisors. */
  ended: z.strictObject({ code: z.int() }),
  turn: z.strictObject({
    id: z.string(),
    turnstile: processIdSchema,
    iteration: z.int(),
    sinceMs: z.int(),
    stops: z.int(),
    /** True until claude has asked its hook for the prompt: without that, no mail reaches it. */
    unheard: z.boolean().optional(),
    /** Digest of the goal and the orders that the model was given. */
    told: z.string().optional(),
    /** Mail that was given at a door in this iteration; `proved` once the model is known to have read it. */
    offered: z.array(z.strictObject({ mail: z.string(), door: doorSchema, atMs: z.int(), proved: z.boolean() })),
  }),
  /** How the last iteration ended, what it had been told, and what it means for the next one. Carried into the next run of the same attempt. */
  last: z.strictObject({ last: lastSchema, told: z.string().optional(), hold: holdSchema.optional() }),
  /** Claude Code's own records of this run's iterations, absolute paths, the newest last. */
  transcripts: z.strictObject({ paths: z.array(z.string().max(4096)).max(transcriptsMax) }),
  usage: z.strictObject({ used: usageSchema, counted: z.array(z.string()) }),
  directive: directiveSchema,
  /** Written before a supervisor is told to stop: one that was not yet listening finds it. */
  stop: z.strictObject({ atMs: z.int() }),
  exit: z.strictObject({ exit: exitSchema, problem: problemSchema.optional() }),
}
type Files = typeof files
export type FileName = keyof Files
export type FileOf<N extends FileName> = z.output<Files[N]>
export type RunFile = FileOf<"run">
export type TurnFile = FileOf<"turn">

export const fileName = (name: FileName): string => `${name}.json`

export interface RunDirectory {
  readonly path: string
  readonly stateDirectory: string
  readonly status: string
  readonly bin: string
  /** Timestamped lines of the loop; `log.1` is the part before. */
  readonly log: string
  /** The FIFO that the loop writes to: it outlives every supervisor, and a loop whose reader is away waits instead of losing lines. */
  readonly output: string
  /** Undefined when it is not there or cannot be read as what it should be. */
  get<N extends FileName>(name: N): FileOf<N> | undefined
  set<N extends FileName>(name: N, value: FileOf<N>): void
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
    remove(name) {
      rmSync(join(status, fileName(name)), { force: true })
    },
  }
}

/** A reader sees the file of before or of after, never a part. */
export function replaceFile(path: string, text: string, mode = 0o600): void {
  const temporary = `${path}.${process.pid}.tmp`
  writeFileSync(temporary, text, { mode })
  renameSync(temporary, path)
}

export const instanceDirectory = (stateDirectory: string, uid: string): string => join(stateDirectory, "instances", uid)

export function createRunDirectory(stateDirectory: string, run: RunFile): RunDirectory {
  const directory = runDirectory(join(instanceDirectory(stateDirectory, run.uid), run.place))
  for (const path of [directory.status, directory.bin]) mkdirSync(path, { recursive: true, mode: 0o700 })
  directory.set("run", run)
  return directory
}

/** The run directories of an instance, oldest first: places begin with the moment of their start, in a form that sorts. */
export function runsOf(stateDirectory: string, uid: string): readonly string[] {
  const directory = instanceDirectory(stateDirectory, uid)
  try {
    return readdirSync(directory, { withFileTypes: true })
      .filter((entry) => entry.isDirectory())
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
