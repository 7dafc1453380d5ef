import { mainPath } from "../client/program.ts"
import { shellWord } from "../core/view.ts"
import { type Config, readConfig } from "../settings/config.ts"
import { programInShell } from "./shell-command.ts"

/**
 * What a client runs to reach this fleet, in absolute paths: apps have another PATH than shells.
 */

export interface ClientEntry {
  readonly command: string
  readonly args: readonly string[]
  readonly env: Readonly<Record<string, string>>
}

/** Empty for a user without a home directory. */
function defaultConfig(): Partial<Config> {
  try {
    return readConfig({}, {})
  } catch {
    return {}
  }
}

/** The settings that differ from the defaults. Apps do not have the XDG variables of a shell. */
const changedSettings = ({ stateDirectory, configDirectory }: Config): Record<string, string> => {
  const defaults = defaultConfig()
  return {
    ...(stateDirectory !== defaults.stateDirectory && { BLACKBOX5_STATE: stateDirectory }),
    ...(configDirectory !== defaults.configDirectory && { BLACKBOX5_CONFIG: configDirectory }),
  }
}

export const clientEntry = (config: Config, codeRoot: string | undefined): ClientEntry => ({
  command: process.execPath,
  args: [mainPath, "mcp"],
  env: {
    ...(codeRoot !== undefined && { BLACKBOX5_CODE_ROOT: codeRoot }),
    ...changedSettings(config),
  },
})

/** A shell command that runs this program with these settings from any directory. */
export function shellLine(config: Config, ...args: readonly string[]): string {
  const settings = Object.entries(changedSettings(config)).map(
    ([name, value]) => `${name}=${value}`,
  )
  const line = [programInShell(), ...args.map(shellWord)].join(" ")
  return settings.length > 0 ? `env ${settings.map(shellWord).join(" ")} ${line}` : line
}

/** A shell command that runs `connect` with these settings from any directory. */
export const connectLine = (config: Config, codeRoot: string | undefined, client: string): string =>
  shellLine(config, "connect", client, ...(codeRoot === undefined ? [] : ["--code-root", codeRoot]))
