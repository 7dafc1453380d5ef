import { resolve } from "node:path"
import { supervise } from "../agent/supervisor.ts"
import { exchange } from "../client/calls.ts"
import { reviveServe } from "../client/find-serve.ts"
import { mainPath } from "../client/program.ts"
import { supervisorServersPath } from "../core/mcp-servers.ts"
import { noProgress } from "../core/tool.ts"
import { type Guarded, guard, makeGuarded } from "../host/agent-view.ts"
import { dropRelativePath } from "../host/find-program.ts"
import { usePersonSettings } from "../host/person-settings.ts"
import { type RunFile, runDirectory } from "../run/run-directory.ts"
import { installationOf, lastingEnvironment, readConfig } from "../settings/config.ts"
import { helpFlag, parseWords, showUsage, usageError } from "./parse-args.ts"

const usage = `usage: blackbox5 agent <run directory>

Supervises one instance. serve starts it; people do not need to.
`

/** `blackbox5 agent <run directory>`: supervises one run. */
export async function agent(argv: readonly string[]): Promise<number> {
  const words = parseWords(argv, helpFlag)
  if (typeof words === "string") return usageError(words, usage)
  if (words.values.help) return showUsage(usage)
  const [path, ...rest] = words.positionals
  if (path === undefined || rest.length > 0) return usageError("Give one run directory.", usage)
  dropRelativePath()
  const stop = new AbortController()
  process.on("SIGTERM", () => stop.abort())
  process.on("SIGINT", () => stop.abort())
  // Whoever finds no serve starts it: an unattended fleet goes on after a crash of its control
  // plane.
  let reviving = false
  const revive = (): void => {
    if (reviving) return
    reviving = true
    reviveServe(readConfig())
      .catch((error: unknown) =>
        process.stderr.write(`serve could not be started: ${String(error)}\n`),
      )
      .finally(() => {
        reviving = false
      })
  }
  // An iteration that is granted waits for this, so not long.
  const servers = ({ socketPath, credential }: RunFile): Promise<unknown> =>
    exchange(
      { socketPath, bearer: credential },
      { method: "GET", path: supervisorServersPath },
      { signal: AbortSignal.timeout(2000), progress: noProgress },
    )
  const guarded = (): Guarded => {
    const installation = installationOf(readConfig(), [process.execPath, mainPath])
    makeGuarded(installation)
    return guard(installation)
  }
  const directory = runDirectory(resolve(path))
  usePersonSettings(directory.stateDirectory)
  await supervise({
    directory,
    revive,
    servers,
    environment: lastingEnvironment(),
    guarded,
    stop: stop.signal,
  })
  // All is said and written: whatever is still open (the link's closing handshake) is waited for by
  // nobody.
  process.exit(0)
}
