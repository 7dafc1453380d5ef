import { mkdirSync } from "node:fs"
import { userInfo } from "node:os"
import { basename, join } from "node:path"
import { shellWord } from "../core/view.ts"
import { executable } from "../host/find-program.ts"
import { replaceFile } from "../host/replace-file.ts"
import type { RunDirectory } from "../run/run-directory.ts"

/**
 * Writes the programs that stand between a loop and the system, once: they name only what does not
 * change while the run lives. Agents see this directory, so nothing outside of their run executes
 * anything in it. `pathEntry`: how PATH names `bin`; `named`: what SHELL says without us. Returns
 * what it is to say.
 */
export function writeShims(
  { bin }: Pick<RunDirectory, "bin">,
  pathEntry: string,
  named: string | undefined,
): string {
  const script = (path: string, text: string, mode = 0o700): string => {
    replaceFile(path, text, mode)
    return path
  }
  script(
    join(bin, "claude"),
    `#!/bin/sh\nexec ${shellWord(process.execPath)} ${shellWord(process.argv[1] ?? "")} turn "$@"\n`,
  )

  // A tmux pane is a login shell: profiles set PATH anew, and ~/.bashrc may put the real claude
  // first or make it an alias. In a directory of its own, under the real one's name, for programs
  // judge a shell by that and must not find this one on the PATH.
  const real = realShell(named)
  const directory = join(bin, "shell")
  mkdirSync(directory, { recursive: true, mode: 0o700 })
  const path = `PATH=${shellWord(pathEntry)}:"$PATH"\nexport PATH\n`
  const shell = join(directory, basename(real))
  if (basename(real) !== "bash") script(shell, `#!/bin/sh\n${path}exec ${shellWord(real)} "$@"\n`)
  else {
    const profiles = ['"$HOME/.bash_profile"', '"$HOME/.bash_login"', '"$HOME/.profile"']
    const own = profiles
      .map((file, at) => `${at === 0 ? "if" : "elif"} [ -r ${file} ]; then . ${file}`)
      .join("\n")
    const rc = script(
      join(directory, "bashrc"),
      `[ ! -r /etc/profile ] || . /etc/profile\n${own}\nfi\nunalias claude 2> /dev/null\nunset -f claude\n${path}hash -r\n`,
      0o600,
    )
    const interactive = `exec ${shellWord(real)} --rcfile ${shellWord(rc)} -i`
    script(
      shell,
      `#!/bin/sh\n${path}[ $# -gt 0 ] || ${interactive}\nexec ${shellWord(real)} "$@"\n`,
    )
  }
  return shell
}

/** The person's, as tmux and screen choose it. */
function realShell(named: string | undefined): string {
  if (named?.startsWith("/") && executable(named)) return named
  try {
    const { shell } = userInfo()
    if (shell && executable(shell)) return shell
  } catch {
    // This user has no entry in the system's list.
  }
  return "/bin/sh"
}
