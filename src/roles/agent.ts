import { resolve } from "node:path"
import { supervise } from "../agent/supervisor.ts"
import { exchange } from "../client/exchange.ts"
import { reviveServe } from "../client/find-serve.ts"
import { mainPath } from "../client/program.ts"
import { endpointAt, socketUrl } from "../core/endpoint.ts"
import { Fault } from "../core/faults.ts"
import { supervisorServersPath } from "../core/mcp-servers.ts"
import { noProgress } from "../core/tool.ts"
import { dropRelativePath } from "../host/find-program.ts"
import { type Guarded, guard, makeGuarded } from "../host/guarded.ts"
import { usePersonSettings } from "../host/person-settings.ts"
import { runDirectory } from "../run/run-directory.ts"
import { installationOf, lastingEnvironment, readConfig } from "../settings/config.ts"
import { helpFlag, parseArguments, showUsage, usageError } from "./parse-args.ts"

const usage = `usage: blackbox5 agent <run directory>

Supervises one instance. serve starts it; people do not need to.
`

/** `blackbox5 agent <run directory>`: supervises one run. */
export async function agent(argv: readonly string[]): Promise<number> {
  const parsed = parseArguments(argv, helpFlag)
  if (typeof parsed === "string") return usageError(parsed, usage)
  if (parsed.values.help) return showUsage(usage)
  const [path, ...rest] = parsed.positionals
  if (path === undefined || rest.length > 0) return usageError("Give one run directory.", usage)
  dropRelativePath()
  const stop = new AbortController()
  process.on("SIGTERM", () => stop.abort())
  process.on("SIGINT", () => stop.abort())
  // A supervisor that finds no serve starts it, so that an unattended fleet survives a crash of its
  // control plane.
  let reviving = false
  const revive = (): void => {
    if (reviving) return
    reviving = true
    reviveServe(readConfig())
      .catch((error: unknown) =>
        process.stderr.write(`blackbox5 serve could not be started: ${String(error)}\n`),
      )
      .finally(() => {
        reviving = false
      })
  }
  const directory = runDirectory(resolve(path))
  const run = directory.get("run")
  if (!run)
    throw new Fault(
      "Invalid",
      `${directory.path} is not a run directory.`,
      "Let `blackbox5 serve` start agents; it makes the directory.",
    )
  const endpoint = endpointAt(socketUrl(run.socketPath), run.credential)
  // A granted iteration waits for this, so the wait is short.
  const servers = (): Promise<unknown> =>
    exchange(
      endpoint,
      { method: "GET", path: supervisorServersPath },
      { signal: AbortSignal.timeout(2000), progress: noProgress },
    )
  const guarded = (): Guarded => {
    const installation = installationOf(readConfig(), [process.execPath, mainPath])
    makeGuarded(installation)
    return guard(installation)
  }
  usePersonSettings(directory.stateDirectory)
  await supervise({
    directory,
    endpoint,
    revive,
    servers,
    environment: lastingEnvironment(),
    guarded,
    stop: stop.signal,
  })
  // Everything is sent and written; nothing waits for what is still open, such as the link's
  // closing handshake.
  process.exit(0)
}
