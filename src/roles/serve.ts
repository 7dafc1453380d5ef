import { chmodSync, mkdirSync, rmSync } from "node:fs"
import { setFlagsFromString } from "node:v8"
import { tools } from "../../tools/index.ts"
import { assembleLocal, type LocalControlPlane } from "../assemble/local.ts"
import { whoAnswers } from "../client/find-serve.ts"
import { endServe, olderThanThis, type ServeFile, serveFilePath } from "../client/serve-file.ts"
import { Fault } from "../core/faults.ts"
import { offers, toolsets } from "../core/tool.ts"
import { systemClock } from "../host/clock.ts"
import { dropRelativePath } from "../host/find-program.ts"
import { readPersonSettings } from "../host/person-settings.ts"
import { replaceFile } from "../host/replace-file.ts"
import { writePressing } from "../host/reserve.ts"
import { createMcpHttp, type McpHttpParts } from "../mcp/http.ts"
import {
  boundsEnvironment,
  type Config,
  defaultPort,
  isLoopback,
  readConfig,
} from "../settings/config.ts"
import { createLog, type Log } from "../settings/log.ts"
import { version } from "../settings/version.ts"
import { mountMcp } from "./mount-mcp.ts"
import { helpFlag, parseArguments, showUsage, usageError } from "./parse-args.ts"
import { openSockets } from "./serve/sockets.ts"
import { welcome } from "./serve/welcome.ts"
import { offerCommand } from "./shell-command.ts"

/**
 * All supervisors have reconnected by then. Collecting garbage often from the start made their
 * return take half as long again.
 */
const collectOftenAfterMs = 10_000

const usage = `usage: blackbox5 serve [flags]

Runs your control plane on this machine until Ctrl-C. The agents keep running without it.
  --code-root DIR  the checkout with your projects (default: the one around this directory)
  --host ADDRESS   the address to listen on (127.0.0.1); any other needs a token or an issuer first
  --port N         the TCP port (${defaultPort}, or a free one if that is taken)
  --read-only      offer only tools that change nothing
  --toolsets A,B   offer only these toolsets: ${toolsets.join(", ")}
`
const options = {
  ...helpFlag,
  "code-root": { type: "string" },
  host: { type: "string" },
  port: { type: "string" },
  "read-only": { type: "boolean" },
  toolsets: { type: "string" },
} as const

/**
 * `blackbox5 serve`: the control plane of this user on this machine. Resolves with the exit code
 * after shutdown; 2 for a usage error. Tests pass MCP `servers` with extra tools.
 */
export async function serve(
  argv: readonly string[],
  servers?: McpHttpParts["servers"],
): Promise<number> {
  const parsed = parseArguments(argv, options)
  if (typeof parsed === "string") return usageError(parsed, usage)
  const { values, positionals } = parsed
  if (values.help) return showUsage(usage)
  if (positionals.length > 0)
    return usageError(`serve does not take ${JSON.stringify(positionals[0])}.`, usage)
  dropRelativePath()
  const config = readConfig({
    codeRoot: values["code-root"],
    port: values.port,
    host: values.host,
    readOnly: values["read-only"],
    toolsets: values.toolsets,
  })
  let plane: LocalControlPlane | undefined
  const log = createLog(config.logLevel, "serve", () => plane?.secretPrefixes() ?? [])
  makeStateDirectory(config.stateDirectory)
  // Stdout may be a file on a full disk.
  process.stdout.on("error", () => {})
  await replaceOlderServe(config)
  await readPersonSettings({
    stateDirectory: config.stateDirectory,
    revived: config.revived,
    report: (error) =>
      log.warn({ err: error }, "cannot read the user's git settings; keeping the previous copy"),
  })
  const stopping = new AbortController()
  plane = await assemble(config, log, stopping.signal)
  if (plane === undefined) {
    process.stdout.write(`blackbox5 is already serving on ${config.socketPath}; this one exits.\n`)
    return 0
  }
  // The code root around the old directory is known by now. Child processes must not start in a
  // tree that agents write.
  process.chdir(config.stateDirectory)
  try {
    await requireAuthentication(config, plane)
  } catch (error) {
    stopping.abort()
    plane.close()
    throw error
  }
  return run(config, plane, { log, stopping, servers })
}

function makeStateDirectory(path: string): void {
  try {
    mkdirSync(path, { recursive: true, mode: 0o700 })
    chmodSync(path, 0o700)
  } catch (error) {
    throw new Fault(
      "Invalid",
      `The state directory ${path} cannot be created or written.`,
      "Set BLACKBOX5_STATE to a directory that this user can write.",
      error,
    )
  }
}

const entry: [string, string] = [process.execPath, process.argv[1] ?? ""]

async function replaceOlderServe(config: Config): Promise<void> {
  const running = await whoAnswers(config.socketPath)
  if (running?.version !== undefined && olderThanThis(running.version))
    await endServe(config, running.version)
}

/**
 * Undefined when another `serve` already holds the database, for example because two started at
 * once: whoever holds it serves.
 */
async function assemble(
  config: Config,
  log: Log,
  stopping: AbortSignal,
): Promise<LocalControlPlane | undefined> {
  try {
    return await assembleLocal(config, version, entry, log, stopping)
  } catch (error) {
    const isUnavailable = error instanceof Fault && error.code === "Unavailable"
    if (isUnavailable && (await whoAnswers(config.socketPath))) return undefined
    throw error
  }
}

/** @throws Invalid when other machines could connect and nobody could authenticate. */
async function requireAuthentication(config: Config, plane: LocalControlPlane): Promise<void> {
  if (isLoopback(config.host) || (await plane.knowsPeople())) return
  throw new Fault(
    "Invalid",
    `Will not listen on ${config.host}: other machines could connect, but there is no token or issuer to authenticate them.`,
    "Start on loopback and run `blackbox5 create-token`, or set oidc in policy.yaml. For TLS, use a reverse proxy.",
  )
}

interface RunParts {
  readonly log: Log
  readonly stopping: AbortController
  readonly servers: McpHttpParts["servers"]
}

/** Serves until a signal or a failure. Resolves with the exit code. */
async function run(
  config: Config,
  plane: LocalControlPlane,
  { log, stopping, servers }: RunParts,
): Promise<number> {
  // Listen for signals before creating anything that a shutdown must remove.
  const signalled = new Promise<void>((resolve) => {
    for (const name of ["SIGTERM", "SIGINT"] as const) process.once(name, () => resolve())
  })
  const mcp = createMcpHttp({
    tools: tools.filter(offers(config.offer)),
    version,
    invokeAs: plane.invokeAs,
    nowMs: systemClock.nowMs,
    ...(servers && { servers }),
  })
  mountMcp(plane.app, mcp)
  const controllers = plane.run()
  const listening = await openSockets(config, plane).catch(async (error: unknown) => {
    stopping.abort()
    await controllers
    plane.close()
    throw error
  })
  writeServeFile(config, plane, listening.url, log)
  log.info({ url: listening.url, socket: config.socketPath, version }, "serving")
  setTimeout(collectOften, collectOftenAfterMs).unref()
  process.stdout.write(await welcome(config, plane, listening.url))
  void offerCommand(stopping.signal)

  const failed = new Promise<void>((resolve) => {
    controllers.catch((error: unknown) => {
      log.fatal({ err: error }, "a controller failed")
      process.exitCode = 1
      resolve()
    })
  })
  await Promise.race([signalled, failed])
  log.info("shutting down; the agents keep running")
  stopping.abort()
  await mcp.close()
  await listening.close()
  await controllers.catch(() => {})
  rmSync(config.socketPath, { force: true })
  rmSync(serveFilePath(config.stateDirectory), { force: true })
  // Last, because a successor that waits for the database then creates a socket of its own.
  plane.close()
  return Number(process.exitCode ?? 0)
}

/**
 * Clients on this machine find the socket without this file; only a `serve` that replaces this one
 * reads it. So a full disk is worth no more than a warning.
 */
function writeServeFile(
  config: Config,
  { codeRoot }: LocalControlPlane,
  url: string,
  log: Log,
): void {
  const file: ServeFile = {
    pid: process.pid,
    url,
    version,
    entry,
    configDirectory: config.configDirectory,
    ...(codeRoot !== undefined && { codeRoot }),
    bounds: boundsEnvironment(config),
  }
  const path = serveFilePath(config.stateDirectory)
  if (!writePressing(config.stateDirectory, () => replaceFile(path, JSON.stringify(file))))
    log.warn({ path }, "the disk is full: cannot write this file")
}

/**
 * V8 lets the old generation grow to several times the live size before it collects, and keeps the
 * memory. Measured with 64 clients for a minute: 434 MiB resident, of which 38 were alive. With
 * this flag, and the bound on the young generation that serve is started with, half of that at the
 * same pace.
 */
function collectOften(): void {
  setFlagsFromString("--heap-growing-percent=40")
}
