import {
  commandOnPath,
  launcherPath,
  lookAtCommand,
  programInShell,
  runsThisProgram,
} from "../shell-command.ts"
import { type Finding, ok, warn } from "./check.ts"

/** Whether a shell finds `blackbox5`, and whether that is this program. */
export function checkCommand(): Finding {
  const found = commandOnPath()
  const made = lookAtCommand(launcherPath())
  const next = `${programInShell()} connect shell`
  if (found && runsThisProgram(found))
    return ok("command", `blackbox5 at ${found.path} runs this program`)
  if (made?.main !== undefined && !made.isThere)
    return warn(
      "command",
      `${made.path} runs ${made.main}, which is gone.`,
      `${next}; or delete the file.`,
    )
  if (made && runsThisProgram(made) && !found)
    return warn(
      "command",
      `${made.path} runs this program, but is not on your PATH.`,
      'export PATH="$HOME/.local/bin:$PATH"',
    )
  if (found)
    return warn(
      "command",
      `blackbox5 at ${found.path} runs ${found.main ?? "another program"}, not this one.`,
      found.path === launcherPath() && found.main !== undefined
        ? next
        : "Nothing, if you mean it so; else move it aside.",
    )
  return warn("command", "Shells find no command blackbox5.", next)
}
