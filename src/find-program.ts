import { execFileSync } from "node:child_process"
import { accessSync, constants, statSync } from "node:fs"
import { userInfo } from "node:os"
import { delimiter, join } from "node:path"

/** Where programs are, for one that a shell started and for one that a desktop app did. */

/** A login shell that waits for somebody is not waited for longer. */
const loginShellMs = 5000

export const executable = (path: string): boolean => {
  try {
    accessSync(path, constants.X_OK)
    return statSync(path).isFile()
  } catch {
    return false
  }
}
const namedIn = (path: string, name: string): readonly string[] =>
  path
    .split(delimiter)
    .filter((entry) => entry.startsWith("/"))
    .map((entry) => join(entry, name))
    .filter(executable)

/** The executable files of that name on PATH, as a shell that was started from here finds them. */
export const programsOnPath = (name: string): readonly string[] => namedIn(process.env.PATH ?? "", name)
/** Whether a shell that was started from here looks for programs in a directory. */
export const isOnPath = (directory: string): boolean => (process.env.PATH ?? "").split(delimiter).includes(directory)

let loginPath: string | undefined
/** PATH as the login shell sets it up, asked once: what a desktop app starts has no Homebrew on its PATH. Empty when it cannot be had. */
function askLoginShell(): string {
  if (loginPath !== undefined) return loginPath
  loginPath = ""
  try {
    const { shell } = userInfo()
    if (shell) {
      // What a profile prints comes before; the last line is ours.
      const script = `printf '\\n%s' "$PATH"`
      const said = execFileSync(shell, ["-lc", script], {
        encoding: "utf8",
        timeout: loginShellMs,
        maxBuffer: 1_048_576,
        stdio: ["ignore", "pipe", "ignore"],
      })
      loginPath = said.slice(said.lastIndexOf("\n") + 1)
    }
  } catch {
    // No such user, no such shell, or one that lets nobody in.
  }
  return loginPath
}

/** Where programs are looked for: the entries of PATH, then those that only the login shell's PATH has. */
export const searchedDirectories = (): readonly string[] => [
  ...new Set([process.env.PATH ?? "", askLoginShell()].flatMap((path) => path.split(delimiter)).filter((entry) => entry !== "")),
]

/** The executable files of that name, absolute paths: those on PATH, then those on the login shell's PATH, which is asked only when needed. */
export function* programsNamed(name: string): Generator<string> {
  yield* namedIn(process.env.PATH ?? "", name)
  yield* namedIn(askLoginShell(), name)
}
