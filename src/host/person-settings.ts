import { readFileSync } from "node:fs"
import { join } from "node:path"
import { askLoginShell, programsOnPath, takeLoginPathFrom } from "./find-program.ts"
import { pinnedConfig, pinPersonalConfig } from "./git-config.ts"
import { useConfig } from "./git-environment.ts"
import { replaceFile } from "./replace-file.ts"

/**
 * What serve and its supervisors take from files in the person's home directory, read when a person
 * starts serve and kept in the state directory. An ordinary user's agents may write the files
 * themselves; a serve that only a supervisor has started again goes on with what was read before.
 */

const loginPathFile = (stateDirectory: string): string => join(stateDirectory, "login-path")
function readIfThere(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8")
  } catch {
    return undefined
  }
}

/** From now on this process uses what was read. */
export function usePersonSettings(stateDirectory: string): void {
  useConfig(pinnedConfig(stateDirectory))
  takeLoginPathFrom(() => readIfThere(loginPathFile(stateDirectory)) ?? "")
}

export interface PersonSettingsOptions {
  readonly stateDirectory: string
  /** No person has started this process. */
  readonly revived: boolean
  /** Tells of what could not be read; what was read before stays in use. */
  report(error: unknown): void
}
/**
 * Reads them anew where a person has just started serve, and uses them. The login shell is waited
 * for only where it alone may know a claude.
 */
export async function readPersonSettings({
  stateDirectory,
  revived,
  report,
}: PersonSettingsOptions): Promise<void> {
  usePersonSettings(stateDirectory)
  const keepLoginPath = async (): Promise<void> => {
    if (revived && readIfThere(loginPathFile(stateDirectory)) !== undefined) return
    replaceFile(loginPathFile(stateDirectory), await askLoginShell())
  }
  const keepConfig = async (): Promise<void> => {
    if (!revived || readIfThere(pinnedConfig(stateDirectory)) === undefined)
      await pinPersonalConfig(stateDirectory)
  }
  const asking = keepLoginPath().catch(report)
  await keepConfig().catch(report)
  if (programsOnPath("claude").length === 0) await asking
}
