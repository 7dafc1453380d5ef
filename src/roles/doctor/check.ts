import { execFile } from "node:child_process"
import { asFault, Fault } from "../../core/faults.ts"
import { clean } from "../../core/view.ts"

/**
 * One finding of `doctor`. `FAIL`: agents cannot work; `warn`: they can, but something is missing.
 */
export interface Finding {
  readonly check: string
  readonly state: "ok" | "warn" | "FAIL"
  readonly what: string
  /** What to do about it. */
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
/** A Fault has both texts. */
export const failWith = (check: string, error: unknown): Finding => {
  const fault = asFault(error)
  const why =
    fault.code === "Internal" && fault.cause instanceof Error ? ` (${fault.cause.message})` : ""
  return fail(check, clean(fault.whole) + clean(why), clean(fault.next))
}

/** Programs describe themselves quickly and briefly. */
const programMs = 20_000
const programBytesMax = 1_048_576

/**
 * Runs a program outside of any project for its output. Exit code -1: it could not be run, or did
 * not finish in time.
 */
export const runProgram = (
  program: string,
  args: readonly string[],
  env: NodeJS.ProcessEnv,
): Promise<{ code: number; output: string }> =>
  new Promise((resolve) => {
    const options = { cwd: "/", env, timeout: programMs, maxBuffer: programBytesMax }
    const child = execFile(program, args, options, (error, stdout, stderr) =>
      resolve({
        code: child.exitCode ?? -1,
        output: clean(stdout || stderr || (error?.message ?? "")).trim(),
      }),
    )
    child.stdin?.on("error", () => {}) // it may exit without reading
    child.stdin?.end()
  })

/** The findings of a check, or one that the check itself failed. */
export const guarded = async (
  check: string,
  run: () => Promise<readonly Finding[]> | readonly Finding[],
): Promise<readonly Finding[]> => {
  try {
    return await run()
  } catch (error) {
    return [
      failWith(
        check,
        error instanceof Fault
          ? error
          : new Fault(
              "Internal",
              `The check itself failed: ${error}`,
              "Please report this as a bug in blackbox5.",
              error,
            ),
      ),
    ]
  }
}
