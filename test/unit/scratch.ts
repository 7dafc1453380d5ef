import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterEach } from "vitest"
import { nothingGuarded } from "../../src/host/guarded.ts"
import type { IsolationKind } from "../../src/host/isolation.ts"
import { probeIsolation } from "../../src/host/isolation-probe.ts"
import { find, type ProcessMarker } from "../../src/host/processes.ts"
import type { RunDirectory } from "../../src/run/run-directory.ts"
import { createRunDirectory } from "../../src/run/runs.ts"
import { uid } from "../contract/harness.ts"

/** What tests of a supervisor's parts need: directories that go with the test, and a run. */

const directories: string[] = []
export const temporary = (): string => {
  const path = mkdtempSync(join(tmpdir(), "bb5-agent-"))
  directories.push(path)
  return path
}
afterEach(() => {
  for (const path of directories.splice(0)) rmSync(path, { recursive: true, force: true })
})

export const everyOf = (marker: ProcessMarker) => () => find(marker, new Set())

/** Looks until it holds: what other processes do has no event here. */
export const until = async (holds: () => boolean): Promise<void> => {
  while (!holds()) await new Promise((resolve) => setTimeout(resolve, 5))
}

/** No installation beside the run. */
export const alone = { guarded: () => nothingGuarded, warn: () => {} }
export const probed = (stateDirectory: string, path?: string) =>
  probeIsolation({ stateDirectory, guarded: nothingGuarded, ...(path !== undefined && { path }) })
export const aRun = (
  more: {
    command?: string[]
    directory?: string
    claude?: string
    isolation?: IsolationKind
    place?: string
  } = {},
): RunDirectory =>
  createRunDirectory(temporary(), {
    ...{
      name: "one",
      uid: uid("u-one"),
      place: "p1",
      revision: "1-0",
      startedAtMs: 0,
      mode: "continuous",
    },
    ...{ iterationsBefore: 0, command: ["true"], directory: "/", claude: process.execPath },
    ...{ isolation: "process tree", socketPath: "/none", credential: "none", ...more },
  })
