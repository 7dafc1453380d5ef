import { mainPath } from "../client/program.ts"
import { shellWord } from "../core/view.ts"
import { type Config, readConfig } from "../settings/config.ts"
import { programInShell } from "./shell-command.ts"

/**
 * What a client has to run to reach this fleet: absolute paths, because apps have another PATH than
 * shells.
 */

export interface ClientEntry {
  readonly command: string
  readonly args: readonly string[]
  readonly env: Readonly<Record<string, string>>
}

/** Nothing is usual for a user without a home. */
function usually(): Partial<Config> {
  try {
    return readConfig({}, {})
  } catch {
    return {}
  }
}

/**
 * The settings in force that a program would not find by itself; apps have no XDG variables either.
 */
const settingsOf = ({ stateDirectory, configDirectory }: Config): Record<string, string> => {
  const usual = usually()
  return {
    ...(stateDirectory !== usual.stateDirectory && { BLACKBOX5_STATE: stateDirectory }),
    ...(configDirectory !== usual.configDirectory && { BLACKBOX5_CONFIG: configDirectory }),
  }
}

export const clientEntry = (config: Config, codeRoot: string | undefined): ClientEntry => ({
  command: process.execPath,
  args: [mainPath, "mcp"],
  env: { ...(codeRoot !== undefined && { BLACKBOX5_CODE_ROOT: codeRoot }), ...settingsOf(config) },
})

/** A shell line that runs this program with these settings, from anywhere. */
export function shellLine(config: Config, ...words: readonly string[]): string {
  const settings = Object.entries(settingsOf(config)).map(([name, value]) => `${name}=${value}`)
  const line = [programInShell(), ...words.map(shellWord)].join(" ")
  return settings.length > 0 ? `env ${settings.map(shellWord).join(" ")} ${line}` : line
}

/** A shell line that runs `connect` with these settings, from anywhere. */
export const connectLine = (config: Config, codeRoot: string | undefined, client: string): string =>
  shellLine(config, "connect", client, ...(codeRoot === undefined ? [] : ["--code-root", codeRoot]))
