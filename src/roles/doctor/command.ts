import {
  commandOnPath,
  launcherPath,
  lookAtCommand,
  programInShell,
  runsThisProgram,
} from "../shell-command.ts"
import { type Finding, ok, warn } from "./check.ts"

/** Checks that a shell finds `blackbox5`, and that it is this program. */
export function checkCommand(): Finding {
  const found = commandOnPath()
  const launcher = lookAtCommand(launcherPath())
  const next = `${programInShell()} connect shell`
  if (found && runsThisProgram(found))
    return ok("command", `blackbox5 at ${found.path} runs this program`)
  if (launcher?.main !== undefined && !launcher.isThere)
    return warn(
      "command",
      `${launcher.path} runs ${launcher.main}, which no longer exists.`,
      `${next} (or delete the file)`,
    )
  if (launcher && runsThisProgram(launcher) && !found)
    return warn(
      "command",
      `${launcher.path} runs this program, but is not on your PATH.`,
      'export PATH="$HOME/.local/bin:$PATH"',
    )
  if (found)
    return warn(
      "command",
      `blackbox5 at ${found.path} runs ${found.main ?? "another program"}, not this one.`,
      found.path === launcherPath() && found.main !== undefined
        ? next
        : "If that is not what you want, move it away.",
    )
  return warn("command", "The command blackbox5 is not installed.", next)
}
