import { execFile } from "node:child_process"
import { asFault, Fault } from "../../core/faults.ts"
import { clean } from "../../core/view.ts"

/**
 * What `doctor` says of one thing. `FAIL`: agents cannot work so; `warn`: they can, with less than
 * there could be.
 */
export interface Finding {
  readonly check: string
  readonly state: "ok" | "warn" | "FAIL"
  readonly what: string
  /** What to do now. */
  readonly next?: string
}

export const ok = (check: string, what: string): Finding => ({ check, state: "ok", what })
export const warn = (check: string, what: string, next: string): Finding => ({
  check,
  state: "warn",
  what,
  next,
})
export const fail = (check: string, what: string, next: string): Finding => ({
  check,
  state: "FAIL",
  what,
  next,
})
/** A Fault says both. */
export const failWith = (check: string, error: unknown): Finding => {
  const fault = asFault(error)
  const why =
    fault.code === "Internal" && fault.cause instanceof Error ? ` (${fault.cause.message})` : ""
  return fail(check, clean(fault.whole) + clean(why), clean(fault.next))
}

/** What a program says of itself is small, and comes soon. */
const programMs = 20_000
const programBytesMax = 1_048_576

/**
 * Runs a program, in no project, to look at what it says. Exit code -1: it could not be run, or did
 * not end in time.
 */
export const ask = (
  program: string,
  args: readonly string[],
  env: NodeJS.ProcessEnv,
): Promise<{ code: number; said: string }> =>
  new Promise((resolve) => {
    const options = { cwd: "/", env, timeout: programMs, maxBuffer: programBytesMax }
    const child = execFile(program, args, options, (error, stdout, stderr) =>
      resolve({
        code: child.exitCode ?? -1,
        said: clean(stdout || stderr || (error?.message ?? "")).trim(),
      }),
    )
    child.stdin?.on("error", () => {}) // it may have ended without reading
    child.stdin?.end()
  })

/** A finding that is a Fault where the look itself failed. */
export const looked = async (
  check: string,
  look: () => Promise<readonly Finding[]> | readonly Finding[],
): Promise<readonly Finding[]> => {
  try {
    return await look()
  } catch (error) {
    return [
      failWith(
        check,
        error instanceof Fault
          ? error
          : new Fault(
              "Internal",
              `${check} could not be looked at: ${error}`,
              "Tell the makers of blackbox5.",
              error,
            ),
      ),
    ]
  }
}
